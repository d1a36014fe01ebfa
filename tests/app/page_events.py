"""Events as a page fires them: over the routes, through the gateway, to the real Gradio."""

from __future__ import annotations

import json
from typing import Any

from app.site import Site
from tests.app.asgi import Answer, ask_async, same_origin


def numbers(config: Any, name: str) -> dict[str, int]:
    """Under which numbers the page fires an event."""
    for each in config["dependencies"]:
        for component, event in each["targets"]:
            if event == name:
                return {"fn_index": each["id"], "trigger_id": component}
    raise KeyError(name)


async def begin(site: Site, cookie: str) -> None:
    """Let Gradio's queue work in this loop. It begins once: one loop for each site."""
    headers = [("cookie", cookie)]
    answer = await ask_async(site.app, "GET", "/gradio_api/startup-events", headers=headers)
    assert answer.json is True


async def config_of(site: Site, cookie: str) -> Any:
    """What the page is told when it opens: its events and their numbers, for one."""
    return (await ask_async(site.app, "GET", "/config", headers=[("cookie", cookie)])).json


async def join(
    site: Site, cookie: str, session: str, config: Any, name: str, **data: object
) -> Answer:
    """Fire one event; its answer says that it waits its turn."""
    body = {"data": [], "event_data": {"language": "en", **data}, "session_hash": session}
    return await ask_async(
        site.app,
        "POST",
        "/gradio_api/queue/join",
        headers=same_origin(cookie),
        body=json.dumps(body | numbers(config, name)).encode(),
    )


async def stream(site: Site, cookie: str, session: str) -> Answer:
    """What the handlers of a session paint, until the last of them has ended."""
    where = f"/gradio_api/queue/data?session_hash={session}"
    return await ask_async(site.app, "GET", where, headers=[("cookie", cookie)])
