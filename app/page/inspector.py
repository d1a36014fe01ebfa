"""The dialog Inspect: what a model is made of, what its context costs, how it cuts text.

Everything is computed from the config and the tokenizer; no weights are read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from app.details import translated
from app.models import ModelChoice, model_choices
from app.page.figures import count, size
from app.page.templates import Templates
from app.room import Room, room_here
from app.services import Services
from engine.anatomy import cache_bytes, group_size, parts
from engine.catalog import BUILT_IN
from engine.config import LlamaConfig

if TYPE_CHECKING:
    from engine.tokenizer import Tokenizer

MAX_PLAYED_CHARS = 4_000
WIDTH, HEIGHT = 640.0, 150.0  # of the plotted area, in the SVG's own units


@dataclass(frozen=True, slots=True)
class Slice:
    """A kind of weights, with its share in percent."""

    name: str
    count: str
    percent: float


@dataclass(frozen=True, slots=True)
class CacheChart:
    """Keys and values against context: `shared` and `multi_head` are heights at the right end.

    `room` is the height up to which memory is free beside the weights, None above the chart.
    """

    shared: float
    multi_head: float
    room: float | None
    context: str
    shared_label: str
    multi_head_label: str
    room_label: str


@dataclass(frozen=True, slots=True)
class PlayedToken:
    """One token of the playground."""

    id: int
    text: str


class Inspector:
    """Renders the dialog. Reads files: not on the event loop."""

    def __init__(self, services: Services, templates: Templates) -> None:
        self._services = services
        self._templates = templates
        self._say = templates.strings.say

    def value(self, name: str) -> dict[str, object]:
        """The dialog for a model of the list."""
        choice = self._choice(name)
        if choice is None or choice.config is None:
            problem = choice.problem if choice else ""
            told = translated(problem, self._templates.strings) or problem
            said = told or self._say("panels.models.unknown")
            return {"kind": "inspect", "said": said, "tone": "error"}
        config = choice.config
        room = room_here(self._services.settings)
        html = self._templates.render(
            "panel_inspect",
            name=choice.name,
            title=self._say("panels.models.built_in") if name == BUILT_IN else choice.name,
            facts=self._facts(config),
            slices=self._slices(config),
            chart=self._chart(config, room),
            fits=self._fits(config, room),
            shares=group_size(config) > 1,
            token=self._bytes(cache_bytes(config, 1)),
            token_if_not=self._bytes(cache_bytes(config, 1, multi_head=True)),
            group=group_size(config),
            free=size(room.free_bytes) if room else "",
            max_chars=MAX_PLAYED_CHARS,
        )
        return {"kind": "inspect", "html": html, "said": "", "tone": "info"}

    def play(self, text: str) -> dict[str, object]:
        """The tokens of a text; `text` is a JSON list of the model's name and what was typed.

        Raises `EngineError` if the tokenizer cannot be read.
        """
        try:
            name, typed = json.loads(text)
            choice = self._choice(str(name))
        except (ValueError, TypeError):
            choice = None
        if choice is None:
            said = self._say("panels.models.unknown")
            return {"kind": "inspect", "said": said, "tone": "error"}
        shown = str(typed)[:MAX_PLAYED_CHARS]
        tokens = played(_tokenizer(choice.path, choice.path.stat().st_mtime_ns), shown)
        html = self._templates.render("inspect_tokens", tokens=tokens, num_chars=len(shown))
        return {"kind": "inspect", "into": "played", "html": html}

    def _choice(self, name: str) -> ModelChoice | None:
        choices = model_choices(self._services.settings)
        return next((choice for choice in choices if choice.name == name), None)

    def _facts(self, config: LlamaConfig) -> list[tuple[str, str]]:
        rope, say = config.rope, self._say
        scaling = "" if rope.rope_type == "default" else f", {rope.rope_type} × {rope.factor:g}"
        tied = "one_table" if config.tie_word_embeddings else "two_tables"
        values = {
            "parameters": f"{config.num_parameters:,}",
            "layers": f"{config.num_hidden_layers}",
            "width": f"{config.hidden_size:,}",
            "feed_forward": f"{config.intermediate_size:,}",
            "heads": f"{config.num_attention_heads} × {config.head_dim}",
            "kv_heads": f"{config.num_key_value_heads}",
            "vocabulary": f"{config.vocab_size:,} ({say(f'panels.inspect.{tied}')})",
            "context": say("panels.models.tokens", count=f"{config.context_length:,}"),
            "rope": f"θ {rope.rope_theta:,.0f}{scaling}",
            "stored": "int8" if config.quantized else config.dtype,
        }
        return [(say(f"panels.inspect.facts.{key}"), value) for key, value in values.items()]

    def _slices(self, config: LlamaConfig) -> list[Slice]:
        return [
            Slice(
                self._say(f"panels.inspect.part.{part.name}"),
                count(part.num_parameters),
                round(100 * part.num_parameters / config.num_parameters, 2),
            )
            for part in parts(config)
        ]

    def _chart(self, config: LlamaConfig, room: Room | None) -> CacheChart:
        context = config.context_length
        shared, multi_head = (cache_bytes(config, context, multi_head=m) for m in (False, True))
        left = self._left_beside(config, room)
        return CacheChart(
            HEIGHT * shared / multi_head,
            HEIGHT,
            HEIGHT * left / multi_head if left is not None and left < multi_head else None,
            f"{context:,}",
            size(shared),
            size(multi_head),
            size(left) if left is not None else "",
        )

    def _left_beside(self, config: LlamaConfig, room: Room | None) -> int | None:
        """Bytes that stay free beside the weights in the usual precision; None without a device."""
        if room is None:
            return None
        from engine.fit import weight_bytes

        precision = room.need(config, self._services.settings.precision).precision
        return max(0, room.free_bytes - weight_bytes(config, precision))  # type: ignore[arg-type]  # one of PRECISIONS

    def _fits(self, config: LlamaConfig, room: Room | None) -> list[tuple[str, str, str]]:
        """Precision, weights, and how much context fits beside them now."""
        if room is None:
            return []
        import torch

        from engine.fit import PRECISIONS, fit

        rows: list[tuple[str, str, str]] = []
        for precision in PRECISIONS:
            found = fit(config, precision, room.free_bytes, torch.device(room.device))
            tokens = self._say("panels.models.tokens", count=f"{found.max_context:,}")
            context = tokens if found.max_context else self._say("panels.inspect.no_room")
            rows.append((precision, size(found.weight_bytes), context))
        return rows

    def _bytes(self, num_bytes: int) -> str:
        return f"{num_bytes / 1024:g} KiB"


def played(tokenizer: Tokenizer, text: str) -> Sequence[PlayedToken]:
    """A text cut as the model reads it. Bytes that are no whole character show as `<E4>`."""
    return [PlayedToken(id, _shown(tokenizer.token_bytes(id))) for id in tokenizer.encode(text)]


def _shown(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"<{byte:02X}>" for byte in content)


@lru_cache(maxsize=2)  # a large vocabulary takes a second to read
def _tokenizer(path: Path, _changed_ns: int) -> Tokenizer:
    from engine.opening import open_model

    return open_model(path).tokenizer
