"""Server-sent events: the frames of a streamed answer."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator

from fastapi.responses import Response, StreamingResponse

from app.api.calls import Calls
from app.api.errors import of_exception
from app.strings import Strings

log = logging.getLogger("corral.api")


async def event_stream(events: AsyncIterator[str], calls: Calls) -> Response:
    """Answer with `events`, each one JSON.

    The first is waited for, so that what goes wrong before it is an ordinary error, raised here.
    """
    first = await anext(events, None)
    strings = Strings.load(calls.services.settings.language)

    async def frames() -> AsyncIterator[str]:
        if first is not None:
            yield f"data: {first}\n\n"
        try:
            async for event in events:
                yield f"data: {event}\n\n"
        except Exception as error:  # the status has gone out: the error follows as an event
            log.warning("a streamed call ended in an error", exc_info=error)
            yield f"data: {json.dumps(of_exception(error, strings).body())}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(frames(), media_type="text/event-stream")
