"""Where slots come from and where they go: device, memory, disk, each within its bytes.

A finished row's slot stays on the device. What must make room there goes to the machine's memory
(where the device has memory of its own), least recently used first, and whole pieces of it are
written to the disk as the conversation grows. A new row takes the longest beginning that is found.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.base import CacheSizes
from engine.disk_tier import PIECE, DiskTier
from engine.errors import DeviceOutOfMemory
from engine.kv_cache import Slot
from engine.model import Model
from engine.prefix import PrefixCache

# Pieces that are read from the disk cost less than a chunk of prompt: so many between two steps.
_PIECES_AT_ONCE = 4
EVERYTHING = 1 << 62

Pieces = list[tuple[str, Path]]


class Tiers:
    """The slots of one model. Owned by the compute thread."""

    def __init__(
        self, model: Model, device_bytes: int, memory_bytes: int = 0, disk: DiskTier | None = None
    ) -> None:
        """Bound what is kept.

        `device_bytes` hold all slots on the device, running and kept, `memory_bytes` those that
        were moved off it; `disk` has its own bound.
        """
        self._model, self._device_bytes, self._disk = model, device_bytes, disk
        self.prefixes = PrefixCache(memory_bytes)

    def fits(self, num_tokens: int, running: Sequence[Slot]) -> bool:
        """Give kept slots up until one for `num_tokens` fits beside `running` → whether it does."""
        shape = self._model.cache_shape
        return self._make_bytes(shape.bucket(num_tokens) * shape.token_bytes, running)

    def take(
        self, scope: str, ids: Sequence[int], running: Sequence[Slot], adapter: str = ""
    ) -> tuple[Slot, Pieces]:
        """A slot with the longest beginning of `ids` that is held, and the pieces beyond it.

        Raises `DeviceOutOfMemory`.
        """
        stretch = self._model.stretch(len(ids) + 1)
        slot = self.prefixes.take(scope, ids, stretch, running, adapter)
        if slot is None:
            slot = Slot(self._model.cache_shape, scope=scope, stretch=stretch, adapter=adapter)
        self.make_room(slot, len(ids) + 1, running)
        return slot, self._disk.find(scope, ids, stretch, adapter) if self._disk else []

    def restore(self, slot: Slot, ids: Sequence[int], pieces: Pieces) -> bool:
        """Read the next of `pieces` into `slot` → whether it holds more now than before."""
        before = slot.length
        for _ in range(_PIECES_AT_ONCE):
            at = slot.length // PIECE
            if self._disk is None or at >= len(pieces):
                break
            if not self._disk.load(slot, ids, *pieces[at]):
                self._disk.lose(slot.scope, pieces[at:])
                del pieces[at:]
        return slot.length > before

    def make_room(self, slot: Slot, num_tokens: int, running: Sequence[Slot]) -> None:
        """As the model's, but gives kept slots up before it gives up."""
        shape = self._model.cache_shape
        if num_tokens > slot.capacity:
            more = (shape.bucket(num_tokens) - slot.capacity) * shape.token_bytes
            self._make_bytes(more, running)
        try:
            self._model.make_room(slot, num_tokens)
        except DeviceOutOfMemory:
            if not self.give_up():
                raise
            self._model.make_room(slot, num_tokens)

    def keep(self, slot: Slot) -> None:
        """A row has ended: keep what it holds."""
        if self._disk is not None:
            self._disk.keep(slot)
        self.prefixes.keep(slot)

    def give_up(self) -> bool:
        """Free what is kept on the device → whether that was anything."""
        return self.prefixes.evict(EVERYTHING) > 0

    def forget(self, scope: str) -> None:
        """Drop what `scope` left on device and in memory; the disk is the caller's."""
        self.prefixes.forget(scope)

    def forget_adapter(self, adapter: str) -> None:
        """Drop what rows of `adapter` left on device and in memory."""
        self.prefixes.forget_adapter(adapter)

    def clear(self) -> None:
        """Drop what device and memory hold."""
        self.prefixes.clear()

    def sizes(self, running: Sequence[Slot]) -> CacheSizes:
        """Bytes that are taken, and that may be."""
        return CacheSizes(
            device_bytes=self.prefixes.num_bytes + sum(slot.num_bytes for slot in running),
            device_limit=self._device_bytes,
            memory_bytes=self.prefixes.num_bytes_off,
            memory_limit=self.prefixes.max_bytes_off,
            disk_bytes=self._disk.num_bytes if self._disk else 0,
            disk_limit=self._disk.max_bytes if self._disk else 0,
        )

    def _make_bytes(self, num_bytes: int, running: Sequence[Slot]) -> bool:
        taken = self.prefixes.num_bytes + sum(slot.num_bytes for slot in running)
        excess = taken + num_bytes - self._device_bytes
        return excess <= 0 or self.prefixes.evict(excess) >= excess
