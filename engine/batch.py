"""Rows that run together, and one step of them: what is read, what is written, who ends.

A step is: at most one chunk of a prompt, then one token for every row that writes (continuous
batching), or several where guesses come true. Owned by the compute thread (`engine/scheduler.py`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from engine.admission import Line, slots_of
from engine.base import CacheSizes, FinishReason
from engine.chunks import LEAST_TIMED, Chunks
from engine.device import is_out_of_memory, translated
from engine.errors import DeviceOutOfMemory, EngineError
from engine.generate import Row
from engine.guessing import Guessing
from engine.kv_cache import Slot
from engine.model import Model
from engine.pace import Paces
from engine.prefix import covers
from engine.tiers import Tiers

log = logging.getLogger(__name__)

Part = tuple[Row, list[int]]  # a row that writes, and the guesses that are read with its token


class Batch:
    """The rows of one model, running and waiting, and the slots they write to."""

    def __init__(
        self,
        model: Model,
        tiers: Tiers,
        *,
        max_rows: int,
        chunks: Chunks,
        paces: Paces,
        guessing: Guessing,
        width: int = 0,
    ) -> None:
        """`width` bounds the tokens of every pass (0: not at all): see `Model.steady_width`."""
        self._width = width
        self._model, self._tiers = model, tiers
        self._chunks, self._paces, self._guessing = chunks, paces, guessing
        self._line = Line(model, tiers, max_rows)
        self._rows: list[Row] = []
        self._turn = 0

    @property
    def idle(self) -> bool:
        """Whether there is nothing to compute."""
        return not (self._rows or self._line.rows)

    def join(self, row: Row) -> None:
        """Put `row` at the end of the line."""
        self._line.rows.append(row)

    def step(self) -> None:
        """Compute one step. An error of our own ends the rows that run, not the thread."""
        try:
            for row in [row for row in self._line.rows + self._rows if row.cancelled]:
                self._end(row, "cancelled")
            self._line.admit(self._rows)
            if reader := self._next_reader():
                self._read(reader)
            if writers := [r for r in self._rows if r.pending() == 1 and not r.cancelled]:
                self._write(writers)
        except Exception as error:
            log.exception("a step failed")
            self._fail(list(self._rows), translated(error))

    def warm_up(self) -> None:
        """Find the number of threads to begin with, by some decode steps that nobody sees."""
        slot = Slot(self._model.cache_shape)
        self._model.make_room(slot, 2)

        def step() -> None:
            self._model.forward([0], [(slot, 1)])
            slot.trim(1)

        self._paces.warm_up(step)

    def sizes(self) -> CacheSizes:
        """What keys and values take now, those of a draft model included."""
        own = self._tiers.sizes(slots_of(self._rows))
        draft = self._guessing.draft
        return own if draft is None else own.plus_on_device(draft.sizes())

    def forget(self, scope: str) -> None:
        """Drop cached prefixes of `scope`; rows of it that still run leave nothing either."""
        self._tiers.forget(scope)
        self._guessing.forget(scope)
        for row in self._rows + self._line.rows:
            if covers(scope, row.scope):
                row.scope = ""
                if row.slot is not None:
                    row.slot.scope = ""

    def retire(self, adapter: str, error: EngineError) -> None:
        """End the rows that compute with `adapter` with `error`, and drop what they left."""
        rows = [row for row in self._rows + self._line.rows if row.adapter == adapter]
        self._fail(rows, error)
        self._tiers.forget_adapter(adapter)

    def close(self, error: EngineError) -> None:
        """End all rows with `error` and free the slots."""
        self._fail(self._rows + self._line.rows, error)
        self._tiers.clear()
        self._guessing.clear()

    # 1. one chunk of one prompt

    def _next_reader(self) -> Row | None:
        """The row whose prompt is read on, in turn."""
        readers = [row for row in self._rows if row.pending() > 1]
        if not readers:
            return None
        self._turn += 1
        return readers[self._turn % len(readers)]

    def _read(self, row: Row) -> None:
        slot = row.slot
        assert slot is not None
        if self._tiers.restore(slot, row.tokens, row.pieces):
            row.num_reused = slot.length
            row.report_reading()
            return
        alone = all(other is row or other.pending() > 1 for other in self._rows)
        num = self._chunks.num(row.pending(), alone=alone)
        part = row.tokens[slot.length : slot.length + num]
        began = time.perf_counter()
        with self._paces.timed(self._paces.reading if num >= LEAST_TIMED else None, num):
            logits = self._forward(part, [row], [num], every=False)
        self._chunks.record(num, time.perf_counter() - began)
        if logits is not None and slot.length == len(row.tokens):
            self._verify(row, [], logits)
        elif logits is not None:
            row.report_reading()

    # 2. one token for all who write

    def _write(self, writers: list[Row]) -> None:
        began = time.perf_counter()
        drafts = self._guessing.drafts(writers)
        parts = [
            (row, draft)
            for row, draft in zip(writers, drafts, strict=True)
            if self._has_room(row, len(draft))
        ]
        before = sum(row.num_new for row, _ in parts)
        for some in self._passes(parts):
            self._pass(some)
        num_written = sum(row.num_new for row, _ in parts) - before
        guessed = any(draft for _, draft in parts)
        seconds = time.perf_counter() - began
        self._guessing.record(len(writers), num_written, seconds, guessed=guessed)

    def _passes(self, parts: list[Part]) -> Iterator[list[Part]]:
        """All together, or as many at a time as the width of a pass allows."""
        some: list[Part] = []
        for part in parts:
            if some and self._width and _num_tokens([*some, part]) > self._width:
                yield some
                some = []
            some.append(part)
        if some:
            yield some

    def _pass(self, parts: list[Part]) -> None:
        """The next token of each row, and as many of its guesses as come true."""
        rows, nums = [row for row, _ in parts], [1 + len(draft) for _, draft in parts]
        ids = [token for row, draft in parts for token in (row.tokens[-1], *draft)]
        with self._paces.timed(self._paces.writing if len(ids) == len(rows) else None):
            logits = self._forward(ids, rows, nums)
        if logits is None:
            return
        for (row, draft), row_logits in zip(parts, torch.split(logits, nums), strict=True):
            self._verify(row, draft, row_logits)

    def _has_room(self, row: Row, num_guessed: int) -> bool:
        """Make room for the next tokens of `row` → whether it can be written on now."""
        assert row.slot is not None
        try:
            self._tiers.make_room(row.slot, len(row.tokens) + num_guessed, slots_of(self._rows))
        except DeviceOutOfMemory as error:
            self._fail([row], error)
            return False
        return row.pending() == 1  # else the slot was emptied, and is read again

    def _verify(self, row: Row, draft: list[int], logits: Tensor) -> None:
        """Draw as long as what is drawn is what was read ahead; logits (1 + len(draft), V)."""
        slot, held = row.slot, len(row.tokens)
        assert slot is not None
        reason: FinishReason | None = None
        for place, guess in enumerate((*draft, None)):
            try:
                reason = row.accept(logits[place])
            except Exception as error:
                if not (isinstance(error, EngineError) or is_out_of_memory(error)):
                    log.exception("a draw failed")
                self._fail([row], translated(error))
                return
            if reason is not None or row.tokens[-1] != guess:
                break
            held += 1
        if draft:
            self._guessing.learn(row, len(draft), held - slot.length + len(draft))
            slot.trim(held)
        if reason is None and len(row.tokens) >= self._model.cache_shape.context_length:
            reason = "length"
        if reason is not None:
            self._end(row, reason)

    def _forward(
        self, ids: list[int], rows: list[Row], nums: list[int], *, every: bool = True
    ) -> Tensor | None:
        """A pass over `rows` → logits as of `Model.forward`, None if a row had to go.

        Out of memory: once more without kept prefixes, then the row that holds most is given up,
        and the others are tried in the next step.
        """
        spans = [(row.slot, num) for row, num in zip(rows, nums, strict=True) if row.slot]
        for last_try in (False, True):
            try:
                return self._model.forward(ids, spans, every=every)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if last_try or not (self._tiers.give_up() or self._guessing.give_up()):
                    longest = max(rows, key=lambda row: len(row.tokens))
                    self._fail([longest], translated(error))
                    return None
        return None

    # 3. how rows end

    def _end(self, row: Row, reason: FinishReason) -> None:
        self._remove(row)
        if row.slot is not None:
            self._tiers.keep(row.slot)
            row.slot = None
        row.end(reason)

    def _fail(self, rows: Sequence[Row], error: EngineError) -> None:
        for row in rows:
            self._remove(row)
            if row.slot is not None:
                row.slot.release()
                row.slot = None
            row.fail(error)

    def _remove(self, row: Row) -> None:
        self._guessing.leave(row)
        for place in (self._rows, self._line.rows):
            if row in place:
                place.remove(row)


def _num_tokens(parts: Sequence[Part]) -> int:
    return sum(1 + len(draft) for _, draft in parts)
