"""A second, smaller model of the same vocabulary that guesses what the first one writes next.

It reads what a row has read, into a slot of its own, and writes some tokens ahead, always its
likeliest. One pass of the large model then verifies them (`engine/guessing.py`), so no answer is
another one. Slots are kept and found again as those of the large model are. What it has not read of
a prompt yet it reads a part at a time between the steps, and guesses nothing meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from engine.base import CacheSizes
from engine.device import is_out_of_memory
from engine.errors import DeviceOutOfMemory
from engine.generate import Row
from engine.kv_cache import Slot
from engine.model import Model
from engine.prefix import common_prefix
from engine.tiers import Tiers

log = logging.getLogger(__name__)

_CHUNK = 128  # tokens of a prompt read at a time: rows that write wait no longer than that
_BEHIND = 16  # tokens that are read with the first guess rather than before it
# Tokens guessed at a time. Each costs a pass of its own, and all behind a wrong one are lost: half
# of 15 that are right nine times in ten. With the token before them these fill a tile of four rows.
_AHEAD = 3


class DraftModel:
    """The draft and its slots. Owned by the compute thread."""

    def __init__(self, model: Model, kv_bytes: int) -> None:
        """`kv_bytes` bounds its own keys and values, of running and of ended rows."""
        self._model = model
        self._tiers = Tiers(model, kv_bytes)
        self._slots: dict[Row, Slot] = {}
        self.read_prompt = False  # whether the latest call read on in a prompt

    def propose(self, rows: Sequence[Row], most: Sequence[int]) -> list[list[int]]:
        """At most so many tokens that may follow each row; [] for rows it cannot help yet."""
        self.read_prompt = False
        try:
            return self._propose(rows, most)
        except (DeviceOutOfMemory, RuntimeError, MemoryError) as error:
            if not (isinstance(error, DeviceOutOfMemory) or is_out_of_memory(error)):
                raise
            log.warning("no memory for the draft model's keys and values: it guesses nothing")
            self.clear()
            return [[] for _ in rows]

    def leave(self, row: Row) -> None:
        """`row` has ended: keep what was read of it under the scope that it has now."""
        if (slot := self._slots.pop(row, None)) is not None:
            slot.trim(common_prefix(slot.ids, row.tokens))
            slot.scope = row.scope
            self._tiers.keep(slot)

    def forget(self, scope: str) -> None:
        """Drop what is kept of `scope`."""
        self._tiers.forget(scope)

    def sizes(self) -> CacheSizes:
        """What its keys and values take."""
        return self._tiers.sizes(self._running())

    def give_up(self) -> bool:
        """Free what is kept of ended rows → whether that was anything."""
        return self._tiers.give_up()

    def clear(self) -> None:
        """Free all slots."""
        for slot in self._slots.values():
            slot.release()
        self._slots.clear()
        self._tiers.clear()

    def _running(self) -> list[Slot]:
        return list(self._slots.values())

    def _propose(self, rows: Sequence[Row], most: Sequence[int]) -> list[list[int]]:
        drafts: list[list[int]] = [[] for _ in rows]
        lengths = [self._length(row, num) for row, num in zip(rows, most, strict=True)]
        while ahead := [at for at, draft in enumerate(drafts) if len(draft) < lengths[at]]:
            spans = [(self._slots[rows[at]], 0) for at in ahead]
            parts = [
                [*rows[at].tokens, *drafts[at]][slot.length :]
                for at, (slot, _) in zip(ahead, spans, strict=True)
            ]
            logits = self._model.forward(
                [token for part in parts for token in part],
                [(slot, len(part)) for (slot, _), part in zip(spans, parts, strict=True)],
            )
            for at, token in zip(ahead, logits.argmax(dim=-1).tolist(), strict=True):
                drafts[at].append(token)
        return drafts

    def _length(self, row: Row, most: int) -> int:
        """How many tokens to guess for `row` now; 0 while its prompt is being read."""
        room = self._model.cache_shape.context_length - len(row.tokens)
        num = min(most, room, _AHEAD)
        return num if num > 0 and self._has_read(row, num) else 0

    def _has_read(self, row: Row, num: int) -> bool:
        """Bring the row's slot up to its tokens, a part at a time → whether that is done."""
        slot = self._slots.get(row)
        if slot is None:
            slot, _ = self._tiers.take(row.scope, row.tokens, self._running())
            self._slots[row] = slot
        slot.trim(min(common_prefix(slot.ids, row.tokens), len(row.tokens) - 1))
        self._tiers.make_room(slot, len(row.tokens) + num, self._running())
        behind = len(row.tokens) - slot.length
        if behind <= _BEHIND:
            return True
        part = row.tokens[slot.length : slot.length + min(_CHUNK, behind - 1)]
        self._model.forward(part, [(slot, len(part))])
        self.read_prompt = True
        return False
