"""The dialogs: one component that `assets/panels.js` paints, and its handlers.

Everybody may look; only the owner may change, and who it is comes from the request alone.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import Callable
from typing import Any

import gradio as gr

from app.explain import explain, headline
from app.page.desk import Desk
from app.page.diagnostics import DiagnosticsPanel
from app.page.inspector import Inspector
from app.page.models import ModelsPanel
from app.page.panes import Update, show
from app.page.payload import Payload, PayloadInvalid, is_away, user_of
from app.page.people import PeoplePanel, Viewer
from app.page.safety import SafetyPanel
from app.page.shell import Shell
from app.page.templates import Templates
from app.services import Services
from storage.records import OWNER_ID, NotFound

# The handlers return a value for each of these, in this order.
PAINTED = ("panel", "head", "foot")
_EVENTS = ("panel", "policy", "model", "fetch", "inspect", "desk", "people")
_ON_LOAD = (
    "(window.corral = window.corral || []).push({serves: 'panels', props, watch, trigger,"
    f" events: {json.dumps(_EVENTS)}}})"
)

log = logging.getLogger("corral.page")


def panel_pane() -> gr.HTML:
    """The component of all dialogs: it takes their values and sends their events."""
    return gr.HTML(html_template="", js_on_load=_ON_LOAD, elem_id="panels", apply_default_css=False)


class Panels:
    """The handlers. The store and files are never touched on the event loop."""

    def __init__(self, services: Services, templates: Templates, *, shell: Shell) -> None:
        self._services = services
        self._strings = templates.strings
        self._shell = shell
        self._safety = SafetyPanel(services, templates)
        self._models = ModelsPanel(services, templates)
        self._inspector = Inspector(services, templates)
        self._desk = Desk(services, templates)
        self._people = PeoplePanel(services, templates)
        self._diagnostics = DiagnosticsPanel(services.settings.data, templates)
        self._count = itertools.count(1)

    def connect(self, panel: gr.HTML, outputs: list[gr.HTML], **options: Any) -> None:
        """Let the events of `panel` reach the handlers; `outputs` are those of `PAINTED`."""
        for name in _EVENTS:
            getattr(panel, name)(getattr(self, name), outputs=outputs, **options)

    async def panel(self, event: gr.EventData, request: gr.Request) -> Update:
        """Show a dialog; with `on`, because a change of model is being followed."""

        def view(user_id: int, payload: Payload) -> dict[str, object]:
            if payload.mode in self._desk:
                return self._desk.view(user_id, payload)
            if payload.mode == "people":
                return self._people.value(Viewer.of(request))
            if self._services.store.people.is_guest(user_id):
                return {"kind": payload.mode, "said": self._strings.say("panels.owner_only")}
            if payload.mode == "models":
                return self._models.value(user_id, followed=payload.on)
            if payload.mode == "diagnostics":
                return self._by_owner(
                    payload.mode, lambda _user_id, _payload: self._diagnostics.value(), request
                )(user_id, payload)
            if payload.text == "test":

                def tested(_user_id: int, _payload: Payload) -> dict[str, object]:
                    return self._safety.tested()

                return self._by_owner("safety", tested, request)(user_id, payload)
            return self._safety.value(user_id)

        return await self._told(event, request, view)

    async def desk(self, event: gr.EventData, request: gr.Request) -> Update:
        """Do what a control of a dialog on a conversation or answer asks."""
        return await self._told(event, request, self._desk.act)

    async def people(self, event: gr.EventData, request: gr.Request) -> Update:
        """Do what a button of the dialog People asks."""

        def act(_user_id: int, payload: Payload) -> dict[str, object]:
            return self._people.act(Viewer.of(request), payload.mode, payload.text)

        return await self._told(event, request, act)

    async def policy(self, event: gr.EventData, request: gr.Request) -> Update:
        """Change what judges and how strictly, or look at what was judged."""

        def change(user_id: int, payload: Payload) -> dict[str, object]:
            return self._safety.act(user_id, payload.mode, payload.text)

        return await self._told(event, request, self._by_owner("safety", change, request))

    async def model(self, event: gr.EventData, request: gr.Request) -> Update:
        """Load or unload a model, or keep the address of a server."""

        def change(user_id: int, payload: Payload) -> dict[str, object]:
            return self._models.act(user_id, payload.mode, payload.text)

        return await self._told(event, request, self._by_owner("models", change, request))

    async def fetch(self, event: gr.EventData, request: gr.Request) -> Update:
        """Start, follow or stop a download, or keep the token for one."""

        def change(user_id: int, payload: Payload) -> dict[str, object]:
            return self._models.fetch(user_id, payload.mode, payload.text)

        return await self._told(event, request, self._by_owner("models", change, request))

    async def inspect(self, event: gr.EventData, request: gr.Request) -> Update:
        """Show what a model is made of, or cut a text as it does."""

        def look(_user_id: int, payload: Payload) -> dict[str, object]:
            if payload.mode == "play":
                return self._inspector.play(payload.text)
            return self._inspector.value(payload.text)

        return await self._told(event, request, self._by_owner("inspect", look, request))

    def _by_owner(
        self, kind: str, change: Callable[[int, Payload], dict[str, object]], request: gr.Request
    ) -> Callable[[int, Payload], dict[str, object]]:
        def checked(user_id: int, payload: Payload) -> dict[str, object]:
            if user_id != OWNER_ID or is_away(request):
                said = self._strings.say("panels.owner_only")
                return {"kind": kind, "said": said, "tone": "error"}
            return change(user_id, payload)

        return checked

    async def _told(
        self,
        event: gr.EventData,
        request: gr.Request,
        act: Callable[[int, Payload], dict[str, object]],
    ) -> Update:
        """Do what was asked; an error becomes a sentence in the dialog that is open."""
        payload = Payload()
        try:
            payload, user_id = Payload.of(event), user_of(request)
            value = await asyncio.to_thread(act, user_id, payload)
            panel = self._numbered(value)
            if value.get("quiet"):  # what stands around the dialog stays as it is, too
                return show(PAINTED, panel=panel)
            head = await asyncio.to_thread(self._head, user_id, payload)
            foot = self._shell.foot(away=is_away(request))
            return show(PAINTED, panel=panel, foot=foot, **head)
        except Exception as error:
            if not isinstance(error, PayloadInvalid):
                log.warning("a dialog could not do what was asked", exc_info=error)
            told = explain(error, self._strings)
            parts = (headline(told, self._strings), told.detail or told.text, told.action)
            said = " ".join(filter(None, parts))
            # No kind: whichever dialog is open shows it, with what was typed in it.
            return show(PAINTED, panel=self._numbered({"kind": "", "said": said, "tone": "error"}))

    def _head(self, user_id: int, payload: Payload) -> dict[str, object]:
        """The chip's new words beside the title that is shown; nothing if that one is gone."""
        store, key = self._services.store, payload.key or ""
        try:
            conversation = store.conversation(user_id, key) if key else None
        except NotFound:
            return {}
        temporary = store.temporary.holds(user_id, key) if key else payload.temporary
        return {"head": {**self._shell.head(user_id, conversation, temporary=temporary), "of": key}}

    def _numbered(self, value: dict[str, object]) -> dict[str, object]:
        """Never equal to the one before: Gradio does not paint equal values again."""
        return {**value, "number": next(self._count)}
