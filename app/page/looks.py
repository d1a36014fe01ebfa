"""How often Gradio's queue looks for events: soon while somebody clicks, seldom at rest.

Gradio has no wake-up for its queue: its loop sleeps `sleep_when_free` between looks, elsewhere than
on Windows a millisecond, which costs six percent of a core for ever. Each look costs the same
whether or not there is something, so their number alone decides what an idle Corral takes.
"""

from __future__ import annotations

import asyncio
from typing import Any

from gradio.queueing import Queue

AWAKE_SECONDS = 0.01  # between looks, while somebody is there
REST_SECONDS = 0.05  # between looks otherwise: the first click after a while waits for one
TIRED_SECONDS = 5.0  # without an event


def look_seldom(queue: Queue) -> None:
    """Let `queue` look every `REST_SECONDS`, and every `AWAKE_SECONDS` soon after an event."""
    push = queue.push
    tired: asyncio.TimerHandle | None = None

    def rest() -> None:
        queue.sleep_when_free = REST_SECONDS

    async def wake_and_push(*args: Any, **kwargs: Any) -> Any:
        nonlocal tired
        if tired is not None:
            tired.cancel()
        queue.sleep_when_free = AWAKE_SECONDS
        tired = asyncio.get_running_loop().call_later(TIRED_SECONDS, rest)
        return await push(*args, **kwargs)

    rest()
    queue.push = wake_and_push  # type: ignore[method-assign]
    queue.progress_update_sleep_when_free = 1.0  # no event of ours reports progress
