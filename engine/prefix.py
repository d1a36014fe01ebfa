"""Finished slots, kept so that the next prompt need not be read from the beginning.

A chat sends its whole history with every turn; all of it but the last message lies in the slot of
the turn before. `take` finds the slot with the longest common prefix of token ids; editing or
regenerating is a trim. Slots are shared only within one owner: otherwise the time to the first
token would tell others what somebody wrote. Keys and values of an adapter are those of another
model: they serve its own rows only.

What must make room on a device with memory of its own may be moved to the machine's (`evict`), from
where it is copied back.

A scope is `owner` or `owner/conversation`. Whoever owns it may reuse it in all conversations; the
second part is there to forget one conversation. An empty scope keeps nothing and finds nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count

from engine.device import is_out_of_memory
from engine.kv_cache import Slot

log = logging.getLogger(__name__)

# A shorter common beginning (a BOS, a role's header) is read faster than it is looked after.
MIN_REUSED = 16


def owner_of(scope: str) -> str:
    """Who a scope belongs to."""
    return scope.partition("/")[0]


def covers(scope: str, other: str) -> bool:
    """Whether `other` is `scope`, or a conversation of the owner that `scope` names."""
    return scope == other or ("/" not in scope and owner_of(other) == scope)


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many ids `a` and `b` share from the beginning on."""
    length = min(len(a), len(b))
    if a[:length] == b[:length]:
        return length
    low, high = 0, length  # a[:low] agrees, a[:high] does not; slices compare at C speed
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low


@dataclass(frozen=True, slots=True)
class Key:
    """What a row and the slots that may serve it have in common, besides their tokens."""

    scope: str
    stretch: int = 0  # the length that dynamic rotary scaling was computed for
    adapter: str = ""  # fingerprint of the adapter that they are computed with

    @classmethod
    def of(cls, slot: Slot) -> Key:
        """That of a row which was computed in `slot`."""
        return cls(slot.scope, slot.stretch, slot.adapter)

    @property
    def owner(self) -> str:
        """Whose it is; "" is nobody's."""
        return owner_of(self.scope)

    def fits(self, slot: Slot) -> bool:
        """Whether what `slot` holds was computed for this owner, and in the same way."""
        theirs = (owner_of(slot.scope), slot.stretch, slot.adapter)
        return theirs == (self.owner, self.stretch, self.adapter)


@dataclass(frozen=True, slots=True)
class Match:
    """The slot that holds most of a prompt's beginning: `length` tokens of it agree.

    `given`: it goes to the new row itself; else it stays, and the row gets a copy.
    """

    slot: Slot
    length: int
    given: bool


class PrefixCache:
    """Slots of finished rows, least recently used first out. Owned by the compute thread."""

    def __init__(self, max_bytes_off: int = 0) -> None:
        """`max_bytes_off` bounds what is moved off the device."""
        self.max_bytes_off = max_bytes_off
        self._slots: list[Slot] = []
        self._off: list[Slot] = []
        self._clock = count(1)

    @property
    def num_bytes(self) -> int:
        """Bytes held on the device, over all owners."""
        return sum(slot.num_bytes for slot in self._slots)

    @property
    def num_bytes_off(self) -> int:
        """Bytes that were moved off the device."""
        return sum(slot.num_bytes for slot in self._off)

    def __len__(self) -> int:
        return len(self._slots) + len(self._off)

    def find(self, key: Key, ids: Sequence[int], running: Iterable[Slot] = ()) -> Match | None:
        """The slot that holds the longest known beginning of `ids`; nothing is changed.

        At least one token is left to read, because its logits are needed. `running` are slots of
        rows that still write: they stay. So does a kept slot most of whose tokens would be lost
        (another branch), and what lies off the device.
        """
        if not key.scope:
            return None
        best, reused, kept = None, MIN_REUSED - 1, False
        for candidates, is_kept in ((self._slots, True), (running, False), (self._off, False)):
            for slot in filter(key.fits, candidates):
                length = min(common_prefix(slot.ids, ids), len(ids) - 1)
                if length > reused:
                    best, reused, kept = slot, length, is_kept
        if best is None:
            return None
        return Match(best, reused, kept and best.length - reused <= reused)

    def take(self, key: Key, ids: Sequence[int], running: Iterable[Slot] = ()) -> Slot | None:
        """What `find` finds, trimmed or copied and ready to be written on.

        Raises `DeviceOutOfMemory` if there is no room for the copy.
        """
        match = self.find(key, ids, running)
        if match is None:
            return None
        slot = match.slot
        slot.last_used = next(self._clock)
        if match.given:
            self._slots.remove(slot)
            slot.trim(match.length)
        else:
            slot = slot.copy(match.length, len(ids))
        slot.scope = key.scope
        return slot

    def keep(self, slot: Slot) -> None:
        """Keep a finished row's slot; an older one that is a part of it goes."""
        if not slot.scope or slot.length < MIN_REUSED:
            slot.release()
            return
        for other in filter(Key.of(slot).fits, self._slots + self._off):
            if other.length <= slot.length and slot.ids[: other.length] == other.ids:
                self._drop(other)
        slot.last_used = next(self._clock)
        self._slots.append(slot)

    def evict(self, num_bytes: int, spared: Slot | None = None) -> int:
        """Free the least recently used slots but `spared` until `num_bytes` are free → how many.

        They are moved off the device as far as there is room.
        """
        freed = 0
        for slot in sorted(self._slots, key=_last_used):
            if freed >= num_bytes:
                break
            if slot is spared:
                continue
            freed += slot.num_bytes
            self._move_off(slot)
        return freed

    def _move_off(self, slot: Slot) -> None:
        needed = slot.length * slot.shape.token_bytes
        if needed <= self.max_bytes_off:
            for old in sorted(self._off, key=_last_used):
                if self.num_bytes_off + needed <= self.max_bytes_off:
                    break
                self._drop(old)
            try:
                self._off.append(slot.moved_to("cpu"))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                log.warning("no memory for what is moved off the device: it is dropped")
        self._drop(slot)

    def forget(self, scope: str) -> None:
        """Drop what `scope` left: all of an owner's, or one conversation's."""
        for slot in self._slots + self._off:
            if covers(scope, slot.scope):
                self._drop(slot)

    def forget_adapter(self, adapter: str) -> None:
        """Drop what was computed with `adapter`."""
        for slot in self._slots + self._off:
            if slot.adapter == adapter:
                self._drop(slot)

    def clear(self) -> None:
        """Drop everything."""
        for slot in self._slots + self._off:
            self._drop(slot)

    def _drop(self, slot: Slot) -> None:
        (self._slots if slot in self._slots else self._off).remove(slot)
        slot.release()


def _last_used(slot: Slot) -> int:
    return slot.last_used
