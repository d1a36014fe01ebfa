"""What Gradio hands to the handlers of the dialogs, and what they gave back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.page.panels import PAINTED, Panels
from app.page.shell import Shell
from app.page.templates import Templates
from app.services import Services
from app.strings import Strings

Handler = Callable[[gr.EventData, gr.Request], Awaitable[Any]]


def make_panels(services: Services, language: str = "en") -> Panels:
    templates = Templates(Strings.load(language))
    return Panels(services, templates, shell=Shell(services, templates))


def fire(
    handler: Handler, data: object, user_id: int | None = 1, *, away: bool = False
) -> dict[str, Any]:
    """The panes that one event painted. `user_id` is what the gateway would have set."""
    scope = {} if user_id is None else {"corral_user": user_id, "corral_away": away}
    request = gr.Request(request=SimpleNamespace(scope=scope))  # type: ignore[arg-type]
    updates = asyncio.run(handler(gr.EventData(None, data), request))  # type: ignore[arg-type]
    skipped = gr.skip()
    return {name: value for name, value in zip(PAINTED, updates, strict=True) if value != skipped}
