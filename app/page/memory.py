"""Memory in the dialog Models: what is free, what conversations keep, what loads took of it."""

from __future__ import annotations

from dataclasses import dataclass

import psutil

from app.measured import Taken, loads
from app.page.figures import size
from app.page.templates import Templates
from app.room import Room
from app.services import Services
from engine.base import Caching
from engine.errors import EngineClosed


@dataclass(frozen=True, slots=True)
class Bar:
    """The memory of the device as shares in percent, from left to right, and in words."""

    held_percent: float  # by Corral
    other_percent: float  # by everything else
    label: str


class Memory:
    """Sentences about memory. Reads the store: not on the event loop."""

    def __init__(self, services: Services, templates: Templates) -> None:
        self._services = services
        self._say = templates.strings.say

    def bar(self, room: Room | None) -> Bar | None:
        """What is free now; None where the device or its size is not known."""
        if room is None or room.total_bytes <= 0:
            return None
        held = min(self.held_bytes(room), room.total_bytes)
        other = max(0, room.total_bytes - room.free_bytes - held)
        free, total = size(room.free_bytes), size(room.total_bytes)
        label = self._say("panels.memory.free", free=free, total=total, held=size(held))
        return Bar(_percent(held, room.total_bytes), _percent(other, room.total_bytes), label)

    def held_bytes(self, room: Room) -> int:
        """What this program holds on the device now."""
        if room.device == "cpu":
            return int(psutil.Process().memory_info().rss)
        import torch

        from engine.device import held_bytes

        return held_bytes(torch.device(room.device))

    def kept(self) -> str:
        """What is kept of conversations, by place, taken and allowed; "" if nothing can be said.

        Blocks for a decode step.
        """
        engine = self._services.engine.peek()
        if engine is None or not isinstance(engine, Caching):
            return ""
        try:
            sizes = engine.cache_sizes()
        except EngineClosed:  # another model is being loaded
            return ""
        places = {
            "device": (sizes.device_bytes, sizes.device_limit),
            "memory": (sizes.memory_bytes, sizes.memory_limit),
            "disk": (sizes.disk_bytes, sizes.disk_limit),
        }
        parts = [
            self._say(f"panels.memory.kept.{place}", taken=size(taken), limit=size(limit))
            for place, (taken, limit) in places.items()
            if limit
        ]
        return self._say("panels.memory.kept", parts=" · ".join(parts))

    def took(self, name: str, *, precision: str = "") -> str:
        """How the last load of a model went, in this precision if one is named; "" if unknown."""
        found = [
            each
            for each in loads(self._services.store)
            if each.model == name and precision in ("", each.precision)
        ]
        return self._sentence(found[-1]) if found else ""

    def _sentence(self, taken: Taken) -> str:
        error = taken.error_percent
        return self._say(
            "panels.memory.more" if error >= 0 else "panels.memory.less",
            measured=size(taken.peak_bytes),
            predicted=size(taken.predicted_bytes),
            precision=taken.precision,
            percent=f"{abs(error):.1f}",
        )


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 1)
