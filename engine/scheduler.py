"""The one thread that computes: rows join and leave between steps, side jobs run between them too.

A step is: at most one chunk of a prompt, then one token for every row that writes (continuous
batching). The thread owns the device. Everything else (guards, scoring, loading) that computes on
it comes in through `aside`, because two OpenMP teams at once cost more than half of the speed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

import torch
from torch import Tensor

from engine.admission import Line
from engine.base import (
    CacheSizes,
    DeviceOutOfMemory,
    EngineClosed,
    EngineError,
    FinishReason,
)
from engine.device import is_out_of_memory
from engine.disk_tier import DiskTier
from engine.generate import Row
from engine.kv_cache import Slot
from engine.model import Model
from engine.pace import Pace
from engine.prefix import covers
from engine.speculation import Worth
from engine.tiers import Tiers

log = logging.getLogger(__name__)
T = TypeVar("T")

_WARM_UP_SECONDS = 1.0
_MOST_SPECULATING = 4  # rows that write at once; more fill a pass by themselves
_TIMED_CHUNK = 32  # parts of a prompt shorter than this say little about reading

NO_ROOM = (
    "The device ran out of memory in the middle of an answer: close other programs or "
    "conversations, or choose a smaller model or precision."
)


class Scheduler:
    """Rows, the slots they write to, and the thread that computes them."""

    def __init__(
        self,
        *,
        threads: Sequence[int] = (),
        max_rows: int = 16,
        chunk: int = 512,
        shared_chunk: int = 128,
        speculate: bool = True,
    ) -> None:
        """Start the thread.

        `threads` are the numbers of threads it may choose among; none given leaves torch's own.
        `chunk` tokens of a prompt are read at a time, `shared_chunk` while other rows are writing:
        that is how long these may have to wait for a token. `speculate`: see `Lookup`.
        """
        self._max_rows = max_rows
        self._reading: Pace | None = Pace(threads) if threads else None
        self._writing: Pace | None = Pace(threads) if threads else None
        self._chunk, self._shared_chunk = chunk, shared_chunk
        self._speculate = speculate
        self._worth: dict[int, Worth] = {}  # by how many rows write
        self._model: Model | None = None
        self._tiers: Tiers | None = None
        self._disk: DiskTier | None = None
        self._line = Line()
        self._rows: list[Row] = []
        self._turn = 0
        self._commands: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._closed = False
        self._lock = threading.Lock()  # between closing and handing in
        self._thread = threading.Thread(target=self._run, name="corral-compute", daemon=True)
        self._thread.start()

    # --- called from other threads ---

    def serve(
        self, model: Model, kv_bytes: int, memory_bytes: int = 0, disk: DiskTier | None = None
    ) -> None:
        """Use `model` from now on; the bounds of what is kept are those of `Tiers`."""

        def begin() -> None:
            self._model, self._disk = model, disk
            self._tiers = Tiers(model, kv_bytes, memory_bytes, disk)

        self.aside(begin)

    def sizes(self) -> CacheSizes:
        """What keys and values take now. Blocks for a step."""
        return self.aside(lambda: self._kept.sizes(self._slots()))

    def warm_up(self) -> None:
        """Find the number of threads to begin with, by some decode steps that nobody sees.

        Takes about a second at most; what is left of the trial goes on in the first answer.
        """

        def try_out() -> None:
            assert self._model is not None
            slot = Slot(self._model.cache_shape)
            self._model.make_room(slot, 2)
            until = time.perf_counter() + _WARM_UP_SECONDS
            while self._writing and not self._writing.settled and time.perf_counter() < until:
                with _timed(self._writing):
                    self._model.forward([0], [(slot, 1)])
                slot.trim(1)
            if self._reading and self._writing:
                self._reading.begin_with(self._writing.threads)

        self.aside(try_out)

    def submit(self, row: Row) -> None:
        """Queue `row`. Does not block. Raises `EngineClosed`."""
        self._hand_in(lambda: self._line.rows.append(row))

    def aside(self, job: Callable[[], T]) -> T:
        """Run `job` on the compute thread between two steps and return what it returns. Blocks."""
        if threading.current_thread() is self._thread:
            return job()
        future: Future[T] = Future()

        def run() -> None:
            if self._closed:
                future.set_exception(EngineClosed("The engine was shut down."))
                return
            try:
                future.set_result(job())
            except BaseException as error:  # belongs to whoever asked, not to this thread
                future.set_exception(error)

        self._hand_in(run)
        return future.result()

    def forget(self, scope: str) -> None:
        """Drop cached prefixes of `scope`. Returns when they are gone; nothing to do if closed.

        Rows of that scope that still run leave nothing when they end.
        """

        def drop() -> None:
            self._kept.forget(scope)
            for row in self._rows + self._line.rows:
                if covers(scope, row.scope):
                    row.scope = ""
                    if row.slot is not None:
                        row.slot.scope = ""

        with suppress(EngineClosed):
            self.aside(drop)
        if self._disk is not None:
            self._disk.forget(scope)

    def close(self) -> None:
        """End all rows with `EngineClosed`, free the slots and stop the thread. May be repeated."""
        with self._lock:
            self._closed = True
            self._commands.put(lambda: None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _hand_in(self, command: Callable[[], None]) -> None:
        with self._lock:
            if self._closed:
                raise EngineClosed("The engine was shut down.")
            self._commands.put(command)

    # --- the compute thread ---

    def _run(self) -> None:
        if self._writing:
            torch.set_num_threads(self._writing.threads)
        while not self._closed:
            self._take_commands(wait=not (self._rows or self._line.rows))
            try:
                self._step()
            except Exception as error:
                log.exception("a step failed")
                self._fail(list(self._rows), _translated(error))
        self._shut_down()

    def _take_commands(self, *, wait: bool) -> None:
        """Run what was handed in; those handed in meanwhile come after the next step."""
        if wait:
            self._commands.get()()
        for _ in range(self._commands.qsize()):
            try:
                self._commands.get_nowait()()
            except Empty:
                return

    def _shut_down(self) -> None:
        while True:
            try:
                self._commands.get_nowait()()
            except Empty:
                break
        self._fail(self._rows + self._line.rows, EngineClosed("The engine was shut down."))
        if self._tiers is not None:
            self._tiers.clear()
        self._model = None
        if self._disk is not None:
            self._disk.close()

    def _step(self) -> None:
        for row in [row for row in self._line.rows + self._rows if row.cancelled]:
            self._end(row, "cancelled")
        self._admit()
        if reader := self._next_reader():
            self._read(reader)
        if writers := [row for row in self._rows if row.pending() == 1]:
            self._write(writers)

    # 1. who may run

    @property
    def _kept(self) -> Tiers:
        assert self._tiers is not None
        return self._tiers

    def _slots(self) -> list[Slot]:
        return [row.slot for row in self._rows if row.slot is not None]

    def _admit(self) -> None:
        """Give slots to waiting rows while there are places and bytes for them."""
        while len(self._rows) < self._max_rows and (row := self._line.first(self._rows)):
            assert self._model is not None
            context = self._model.cache_shape.context_length
            most = min(row.num_prompt + row.max_new_tokens, context)
            if not self._kept.fits(most, self._slots()) and self._rows:
                return  # wait until a row ends
            self._line.serve(row)
            try:
                row.start(*self._kept.take(row.scope, row.tokens, self._slots()))
                self._rows.append(row)
            except Exception as error:
                row.fail(_translated(error))

    # 2. one chunk of one prompt

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
        if self._kept.restore(slot, row.tokens, row.pieces):
            row.num_reused = slot.length
            row.report_reading()
            return
        alone = all(other is row or other.pending() > 1 for other in self._rows)
        num = min(row.pending(), self._chunk if alone else self._shared_chunk)
        part = row.tokens[slot.length : slot.length + num]
        with _timed(self._reading if num >= _TIMED_CHUNK else None, num):
            logits = self._forward(part, [row], [num], every=False)
        if logits is None:
            return
        if slot.length == len(row.tokens):
            self._verify(row, [], logits)
        else:
            row.report_reading()

    # 3. one token for all who write

    def _write(self, writers: list[Row]) -> None:
        ready, drafts = [], []
        worth = self._worth.setdefault(len(writers), Worth())
        guessing = self._speculate and len(writers) <= _MOST_SPECULATING and worth.allows()
        for row in writers:
            assert row.slot is not None
            draft = self._draft(row) if guessing else []
            try:
                num_tokens = len(row.tokens) + len(draft)
                self._kept.make_room(row.slot, num_tokens, self._slots())
            except DeviceOutOfMemory as error:
                self._fail([row], error)
                continue
            if row.pending() == 1:  # else the slot was emptied, and is read again
                ready.append(row)
                drafts.append(draft)
        if not ready:
            return
        nums = [1 + len(draft) for draft in drafts]
        ids = [
            token
            for row, draft in zip(ready, drafts, strict=True)
            for token in (row.tokens[-1], *draft)
        ]
        began, before = time.perf_counter(), sum(row.num_new for row in ready)
        with _timed(self._writing if len(ids) == len(ready) else None):
            logits = self._forward(ids, ready, nums)
        if logits is None:
            return
        for row, draft, row_logits in zip(ready, drafts, torch.split(logits, nums), strict=True):
            self._verify(row, draft, row_logits)
        num_written = max(1, sum(row.num_new for row in ready) - before)
        seconds = time.perf_counter() - began
        worth.record(num_written, seconds, guessed=len(ids) > len(ready))

    def _draft(self, row: Row) -> list[int]:
        """What `row` may write next, as far as there is room for it."""
        assert self._model is not None and row.slot is not None
        context = self._model.cache_shape.context_length
        left = min(row.max_new_tokens - row.num_new, context - len(row.tokens)) - 1
        draft = row.lookup.propose(row.tokens, left)
        same = self._model.stretch(len(row.tokens) + len(draft)) == row.slot.stretch
        return draft if same else []

    def _verify(self, row: Row, draft: list[int], logits: Tensor) -> None:
        """Draw as long as what is drawn is what was read ahead; logits (1 + len(draft), V)."""
        slot, held = row.slot, len(row.tokens)
        assert slot is not None
        reason: FinishReason | None = None
        for place, guess in enumerate((*draft, None)):
            try:
                reason = row.accept(logits[place])
            except EngineError as error:
                self._fail([row], error)
                return
            if reason is not None or row.tokens[-1] != guess:
                break
            held += 1
        if draft:
            row.lookup.learn(len(draft), held - slot.length + len(draft))
            slot.trim(held)
        self._end_if(row, reason)

    def _forward(
        self, ids: list[int], rows: list[Row], nums: list[int], *, every: bool = True
    ) -> Tensor | None:
        """A pass over `rows` → logits as of `Model.forward`, None if a row had to go.

        Out of memory: once more without kept prefixes, then the row that holds most is given up,
        and the others are tried in the next step.
        """
        assert self._model is not None
        spans = [(row.slot, num) for row, num in zip(rows, nums, strict=True) if row.slot]
        for last_try in (False, True):
            try:
                return self._model.forward(ids, spans, every=every)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if last_try or not self._kept.give_up():
                    self._fail(
                        [max(rows, key=lambda row: len(row.tokens))], DeviceOutOfMemory(NO_ROOM)
                    )
                    return None
        return None

    def _end_if(self, row: Row, reason: FinishReason | None) -> None:
        assert self._model is not None
        if reason is None and len(row.tokens) >= self._model.cache_shape.context_length:
            reason = "length"
        if reason is not None:
            self._end(row, reason)

    # 4. how rows end

    def _end(self, row: Row, reason: FinishReason) -> None:
        self._remove(row)
        if row.slot is not None:
            self._kept.keep(row.slot)
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
        for place in (self._rows, self._line.rows):
            if row in place:
                place.remove(row)


@contextmanager
def _timed(pace: Pace | None, num_tokens: int = 1) -> Iterator[None]:
    """Run a pass with as many threads as `pace` says, and tell it the time per token."""
    if pace is None:
        yield
        return
    if torch.get_num_threads() != pace.threads:
        torch.set_num_threads(pace.threads)
    began = time.perf_counter()
    yield
    pace.record((time.perf_counter() - began) / num_tokens)


def _translated(error: Exception) -> EngineError:
    if isinstance(error, EngineError):
        return error
    if is_out_of_memory(error):
        return DeviceOutOfMemory(NO_ROOM)
    return EngineError(
        "The engine met an error of its own while computing this answer; the log says where. "
        "Send the prompt again."
    )
