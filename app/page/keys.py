"""The dialog Help: what the keyboard does on this page, and the way to the diagnostics."""

from __future__ import annotations

from collections.abc import Mapping

from app.page.payload import Payload, PayloadInvalid
from app.page.templates import Templates

# (keys, sentence), as assets/corral.js listens for them. "Ctrl" is the command key on a Mac.
KEYS = (
    ("Enter", "send"),
    ("Shift Enter", "line"),
    ("Ctrl K", "new"),
    ("Ctrl F", "find"),
    ("Ctrl Shift F", "search"),
    ("Ctrl Shift E", "edit"),
    ("Ctrl Shift U", "again"),
    ("Ctrl Z", "undo"),
    ("Ctrl .", "stop"),
    ("Ctrl Enter", "resend"),
    ("Escape", "leave"),
    ("Ctrl /", "keys"),
)


class KeysPanel:
    """A table, the same for everybody."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates

    def view(self, user_id: int, payload: Payload) -> dict[str, object]:
        """The table."""
        return {"html": self._templates.render("panel_keys", keys=KEYS)}

    def act(
        self, user_id: int, verb: str, payload: Payload, fields: Mapping[str, str]
    ) -> dict[str, object]:
        """There is nothing to do here."""
        raise PayloadInvalid("verb")
