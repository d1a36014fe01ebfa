"""How a model is loaded: precision and context as the owner chose them, each with what it costs.

The choices hold for every model; the dialog Models shows them beside the one that answers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from app.page.figures import size
from app.page.templates import Templates
from app.room import Room
from app.services import Services
from engine.config import LlamaConfig
from storage.records import OWNER_ID

# What the page offers; the first is what the model and the machine suggest.
PRECISIONS = ("auto", "fp32", "bf16", "int8", "int4", "int4-128")
CONTEXTS = ("0", "2048", "4096", "8192", "16384", "32768", "65536", "131072")


@dataclass(frozen=True, slots=True)
class LoadChoice:
    """One choice of how a model is loaded, with its options as (value, text)."""

    name: str
    label: str
    kept: str
    options: Sequence[tuple[str, str]]


class LoadChoices:
    """Renders and keeps the choices. Reads the store: not on the event loop."""

    def __init__(self, services: Services, templates: Templates) -> None:
        self._services = services
        self._say = templates.strings.say

    def rows(self, config: LlamaConfig | None = None, room: Room | None = None) -> list[LoadChoice]:
        """The choices; with the config of a model and the machine, also what each option takes."""
        services, rows = self._services, []
        for name, values in (("precision", PRECISIONS), ("context", CONTEXTS)):
            if services.settings.origin(name) == "default":
                kept = services.store.setting(OWNER_ID, name) or values[0]
                options = [
                    (value, self._option(name, value, config, room))
                    for value in values
                    if name == "precision" or not config or int(value) <= config.context_length
                ]
                label = self._say(f"panels.models.facts.{name}")
                rows.append(LoadChoice(name, label, kept, options))
        return rows

    def keep(self, text: str) -> None:
        """Keep what was chosen: one value, or a JSON list with one for each row."""
        given = json.loads(text) if text.startswith("[") else [text]
        allowed = {"precision": PRECISIONS, "context": CONTEXTS}
        for row, value in zip(self.rows(), given, strict=True):
            if value in allowed[row.name]:
                self._services.store.set_setting(OWNER_ID, row.name, str(value))

    def _option(self, name: str, value: str, config: LlamaConfig | None, room: Room | None) -> str:
        if value in ("auto", "0"):
            return self._say(f"panels.models.usual_{name}")
        shown = value if name == "precision" else f"{int(value):,}"
        if config is None or room is None:
            return shown
        if name == "precision":
            return f"{shown} · {size(room.weights(config, value))}"
        return f"{shown} · {size(config.kv_bytes_per_token(2) * int(value))}"
