"""Where slots come from and where they go: device, memory, disk, each within its bytes.

A finished row's slot stays on the device. What must make room there goes to the machine's memory
(where the device has memory of its own), least recently used first, and whole pieces of it are
written to the disk as the conversation grows. A new row takes the longest beginning that is found.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.base import CacheSizes
from engine.device import is_out_of_memory
from engine.disk_tier import PIECE, DiskTier
from engine.errors import DeviceOutOfMemory
from engine.kv_cache import Slot
from engine.model import Model
from engine.prefix import Key, PrefixCache

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

    def fits(
        self,
        scope: str,
        ids: Sequence[int],
        most: int,
        running: Sequence[Slot],
        reserved_bytes: int,
        adapter: str = "",
    ) -> bool:
        """Make a row of `most` tokens fit beside the others, by kept slots → whether it does.

        `ids` are what it begins with, `reserved_bytes` what the rows of `running` may grow to.
        The slot that it goes on from is the last to go: it would have to be read again. Nothing is
        given up in vain.
        """
        shape = self._model.cache_shape
        match = self.prefixes.find(self._key(scope, ids, adapter), ids, running)
        own = match.slot.num_bytes if match and match.given else 0
        needed = max(own, shape.bucket(most) * shape.token_bytes)
        kept = self.prefixes.num_bytes - own
        excess = kept + reserved_bytes + needed - self._device_bytes
        if excess > kept:
            return False
        freed = self.prefixes.evict(excess, spared=match.slot if match else None)
        self.prefixes.evict(excess - freed)
        return True

    def take(
        self, scope: str, ids: Sequence[int], running: Sequence[Slot], adapter: str = ""
    ) -> tuple[Slot, Pieces]:
        """A slot with the longest beginning of `ids` that is held, and the pieces beyond it.

        Raises `DeviceOutOfMemory`.
        """
        key = self._key(scope, ids, adapter)
        try:
            slot = self.prefixes.take(key, ids, running)
        except DeviceOutOfMemory:  # no room for a copy: it is read
            slot = None
        if slot is None:
            shape = self._model.cache_shape
            slot = Slot(shape, scope=scope, stretch=key.stretch, adapter=adapter)
        self.make_room(slot, len(ids) + 1, running)
        return slot, self._disk.find(key, ids) if self._disk else []

    def _key(self, scope: str, ids: Sequence[int], adapter: str) -> Key:
        """What serves a row that begins with `ids`, and will be one token longer at least."""
        return Key(scope, self._model.stretch(len(ids) + 1), adapter)

    def restore(self, slot: Slot, ids: Sequence[int], pieces: Pieces) -> bool:
        """Read the next of `pieces` into `slot` → whether it holds more now than before."""
        before = slot.length
        for _ in range(_PIECES_AT_ONCE):
            at = slot.length // PIECE
            if self._disk is None or at >= len(pieces):
                break
            try:
                sound = self._disk.load(slot, ids, *pieces[at])
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                del pieces[at:]  # the rest is read: that takes less memory at a time
                break
            if not sound:
                self._disk.lose(slot.scope, pieces[at:])
                del pieces[at:]
        return slot.length > before

    def make_room(self, slot: Slot, num_tokens: int, running: Sequence[Slot]) -> None:
        """As the model's, but gives kept slots up before it gives up."""
        shape = self._model.cache_shape
        if num_tokens > slot.capacity:
            more = (shape.bucket(num_tokens) - slot.capacity) * shape.token_bytes
            held = sum(each.num_bytes for each in {*running, slot})
            self.prefixes.evict(self.prefixes.num_bytes + held + more - self._device_bytes)
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
        freed = self.prefixes.evict(EVERYTHING)
        return self._model.give_up() or freed > 0

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
