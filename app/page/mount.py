"""The page: builds the Gradio Blocks and mounts them into the server's own FastAPI app.

Gradio's own conveniences that would store, share or publish something are all off.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

import gradio as gr
from fastapi import FastAPI, Request, Response
from markupsafe import Markup

from app.page.chat import Chat
from app.page.conversations import ConversationList
from app.page.find import FindInConversation
from app.page.front import Front
from app.page.looks import look_seldom
from app.page.meter import Meter, meter_pane
from app.page.panels import PAINTED, Panels, panel_pane
from app.page.panes import EVERYTHING, FOOT, FOUND, LIVE, SIDE, Panes, fixed, pane
from app.page.shell import Shell
from app.page.side import Side
from app.page.templates import Templates
from app.page.theme import theme
from app.page.viewers import Viewers
from app.render import Renderer
from app.routes import FORGET
from app.services import Services
from app.settings import Settings
from app.static_files import StaticFiles
from app.strings import Strings, speaking

_OPENING = ("view", "send", "again", "resume", "version", "anyway", "appeal")
_LISTING = ("listing", "rename", "pin", "trash", "restore")
_EVENTS = (*_OPENING, "follow", "stop", *_LISTING, "pulse", "seek", "draft")
# The script calls trigger(name, data); Gradio knows the names from this line.
_BRIDGE = f"(window.corral = window.corral || []).push({{trigger, events: {json.dumps(_EVENTS)}}})"
MAX_EVENTS_AT_ONCE = 256  # one for each page that follows an answer; none of them holds a thread
MAX_SESSIONS = 200
MAX_FORGOTTEN_BYTES = 500


def mount(app: FastAPI, services: Services) -> FastAPI:
    """Put the page at `/` of `app`. The gateway in front of it says who the user is."""
    strings = Strings.load(services.settings.language)
    templates = Templates(strings)
    blocks = build(services, templates)
    app.add_api_route(FORGET, forget(services), methods=["POST"])
    app.add_middleware(Front, tags=_front(templates, services.settings))
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        theme=theme(),
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        show_error=False,
        allowed_paths=[],
        blocked_paths=[str(services.settings.data)],
    )
    return app


def forget(services: Services) -> Callable[[Request], Awaitable[Response]]:
    """The handler of a tab that closes: its temporary conversations end with it."""

    async def answer(request: Request) -> Response:
        keys = (await request.body())[:MAX_FORGOTTEN_BYTES].decode("ascii", "replace").split()
        for key in keys:
            await asyncio.to_thread(services.end_temporary, request.scope["corral_user"], key)
        return Response(status_code=204)

    return answer


def build(services: Services, templates: Templates) -> gr.Blocks:
    """The whole page in the language of `templates`."""
    # Gradio keeps statistics of all events for its dashboard, which is off, and works them out
    # anew with pandas after each one. It reads how often when the queue is made.
    os.environ.update(
        GRADIO_ANALYTICS_CACHE_FREQUENCY="1000000000", GRADIO_ANALYTICS_MAX_EVENTS="1"
    )
    shell = Shell(services, templates)
    blocks: gr.Blocks = gr.Blocks(
        title=templates.strings.say("page.title"), analytics_enabled=False, fill_width=True
    )
    with blocks:
        with gr.Column(elem_id="app"):
            with gr.Column(elem_id="side"):
                fixed("side-top")
                listing, foot = pane("listing"), pane("foot")
            with gr.Column(elem_id="main"):
                head = pane("head")
                with gr.Column(elem_id="scroll"):
                    window, live = pane("window"), pane("live")
                fixed("compose")
                panel = panel_pane()
        note, found = pane("note"), pane("found")
        # Gradio paints how far an event is on each pane that it may change, and copies all their
        # values each time. What is not on the page takes none of it (measured; Gradio 6.31).
        nowhere = gr.HTML(visible=False)
        bridge = gr.HTML(html_template="", js_on_load=_BRIDGE, elem_id="bridge", visible="hidden")
        panes = Panes(listing, head, window, live, foot, note, found, panel, meter_pane())
        _connect(bridge, nowhere, panes, services, templates, shell)
    blocks.state_session_capacity = MAX_SESSIONS
    blocks.max_threads = MAX_EVENTS_AT_ONCE
    blocks.queue(api_open=False, default_concurrency_limit=None)
    look_seldom(blocks._queue)
    return blocks


def _connect(
    bridge: gr.HTML,
    nowhere: gr.HTML,
    panes: Panes,
    services: Services,
    templates: Templates,
    shell: Shell,
) -> None:
    listing = ConversationList(services, templates)
    renderer = Renderer()
    viewers = Viewers()
    chat = Chat(
        services, templates, shell=shell, listing=listing, renderer=renderer, viewers=viewers
    )
    side = Side(services, templates, shell=shell, listing=listing, viewers=viewers)
    options: dict[str, Any] = {
        "inputs": None,
        "show_progress": "hidden",
        "show_progress_on": nowhere,
        "api_visibility": "private",
        "trigger_mode": "multiple",
        "postprocess": False,  # our values are data already; this would cost a thread each time
        "concurrency_limit": None,
    }
    for handlers, names, painted in (
        (chat, _OPENING, EVERYTHING),
        (chat, ("follow",), LIVE),
        (chat, ("stop",), ()),
        (side, _LISTING, SIDE),
        (side, ("pulse",), FOOT),
        (side, ("draft",), ()),
        (FindInConversation(services, renderer), ("seek",), FOUND),
    ):
        outputs = [getattr(panes, pane_name) for pane_name in painted]
        for name in names:
            getattr(bridge, name)(getattr(handlers, name), outputs=outputs, **options)
    Meter(services, templates).connect(panes.meter, **options)
    panels = Panels(services, templates, shell=shell)
    panels.connect(panes.panel, [getattr(panes, name) for name in PAINTED], **options)


def _front(templates: Templates, settings: Settings) -> str:
    """Our stylesheet and script, under addresses that change with what is in them.

    The parts of the page that never change are here in every language, and the script takes one.
    """
    files = StaticFiles()
    parts = []
    for language in templates.strings.by_language:
        speaking(language)
        words = json.dumps(templates.strings.section("page.js."), ensure_ascii=False)
        parts.append(("side-top", language, Markup(templates.render("side"))))
        parts.append(("compose", language, Markup(templates.render("composer", words=words))))
    speaking("")
    return templates.render(
        "front",
        theme=settings.theme,
        languages=[*templates.strings.by_language],
        parts=parts,
        styles=[files.url("corral.css"), files.url("panels.css"), files.url("desk.css")],
        look=files.url("look.js"),
        module=files.url("corral.js"),  # it brings the others
        icon=files.url("icons/favicon.svg"),
    )
