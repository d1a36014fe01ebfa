"""The dialogs on one conversation or answer: settings, prompts, numbers, tokens, comparisons.

Each is a class with `view`, which shows it, and `act`, which does what one of its controls asks.
Both give a value for `assets/panels.js`: `html` (into the place `into`, else the whole sheet), a
sentence in `said`, and what the script is to do: `insert` a text, `open` a conversation, save a
`file`, `close`, or ask again (`poll`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Protocol

from app.page.attach import AttachPanel
from app.page.branches import BranchesPanel
from app.page.compare import ComparePanel
from app.page.keep import KeepPanel
from app.page.keys import KeysPanel
from app.page.numbers import NumbersPanel
from app.page.opinions import OpinionsPanel
from app.page.payload import Payload, PayloadInvalid
from app.page.prompts import PromptsPanel
from app.page.session import SessionPanel
from app.page.templates import Templates
from app.page.tokens import TokensPanel
from app.page.uploads import Uploads
from app.render import Renderer
from app.services import Services

MAX_FIELDS_CHARS = 400_000

Value = dict[str, object]
Fields = Mapping[str, str]


class Dialog(Protocol):
    """One dialog. Touches the store: not on the event loop."""

    def view(self, user_id: int, payload: Payload) -> Value:
        """What it shows now."""
        ...

    def act(self, user_id: int, verb: str, payload: Payload, fields: Fields) -> Value:
        """Do what the control `verb` asks, with what was typed in the form around it."""
        ...


class Desk:
    """All of them, by the name that the page gives."""

    def __init__(self, services: Services, templates: Templates) -> None:
        renderer = Renderer()
        uploads = Uploads(services.settings.data / "incoming")
        self._dialogs: dict[str, Dialog] = {
            "session": SessionPanel(services, templates),
            "prompts": PromptsPanel(services, templates),
            "numbers": NumbersPanel(services, templates),
            "tokens": TokensPanel(services, templates),
            "compare": ComparePanel(services, templates, renderer),
            "opinions": OpinionsPanel(services, templates),
            "keep": KeepPanel(services, templates, renderer, uploads),
            "attach": AttachPanel(services, templates, uploads),
            "keys": KeysPanel(templates),
            "branches": BranchesPanel(services, templates, renderer),
        }

    def __contains__(self, kind: str) -> bool:
        return kind in self._dialogs

    def view(self, user_id: int, payload: Payload) -> Value:
        """Show the dialog `payload.mode`."""
        return {"kind": payload.mode, **self._dialogs[payload.mode].view(user_id, payload)}

    def act(self, user_id: int, payload: Payload) -> Value:
        """Do `dialog.verb`, the payload's mode. Raises `PayloadInvalid` for what no page sends."""
        kind, _, verb = payload.mode.partition(".")
        if kind not in self._dialogs:
            raise PayloadInvalid("mode")
        fields = _fields(payload.text)
        return {"kind": kind, **self._dialogs[kind].act(user_id, verb, payload, fields)}


def _fields(text: str) -> Fields:
    if len(text) > MAX_FIELDS_CHARS:
        raise PayloadInvalid("text")
    try:
        given = json.loads(text) if text else {}
    except (ValueError, RecursionError) as error:
        raise PayloadInvalid("text") from error
    if not isinstance(given, dict) or not all(isinstance(v, str) for v in given.values()):
        raise PayloadInvalid("text")
    return {str(name): value.replace("\r\n", "\n") for name, value in given.items()}
