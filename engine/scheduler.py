"""The one thread that computes: it steps through the batch, and side jobs run between the steps.

The thread owns the device. Everything else (guards, scoring, loading) that computes on it comes in
through `aside`, because two OpenMP teams at once cost more than half of the speed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

from engine.base import CacheSizes
from engine.batch import Batch
from engine.chunks import Chunks
from engine.disk_tier import DiskTier
from engine.draft import DraftModel
from engine.errors import EngineClosed
from engine.generate import Row
from engine.guessing import Guessing
from engine.model import Model
from engine.pace import Paces
from engine.tiers import Tiers

T = TypeVar("T")


class Scheduler:
    """The thread, what is handed to it, and the batch it works on."""

    def __init__(
        self,
        *,
        threads: Sequence[int] = (),
        max_rows: int = 16,
        chunk: int = 512,
        shared_chunk: int = 512,
        speculate: bool = True,
        deterministic: bool = False,
    ) -> None:
        """Start the thread.

        `threads` are the numbers of threads it may choose among; none given leaves torch's own.
        `chunk` tokens of a prompt are read at a time; at most `shared_chunk` while other rows are
        writing, and no more than these can wait for (`engine/chunks.py`). `speculate`: see
        `Lookup`.
        `deterministic` computes every token as if it were alone: a reply then does not depend on
        who else writes, on what was cached or on guesses, in any precision; prompts are read more
        slowly (`Model.steady_width` tokens at a time).
        """
        self._paces = Paces(threads[:1] if deterministic else threads)
        self._deterministic = deterministic
        self._max_rows, self._speculate = max_rows, speculate
        self._chunk, self._shared_chunk = chunk, shared_chunk
        self._batch: Batch | None = None
        self._disk: DiskTier | None = None
        self._commands: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._closed = False
        self._lock = threading.Lock()  # between closing and handing in
        self._thread = threading.Thread(target=self._run, name="corral-compute", daemon=True)
        self._thread.start()

    # --- called from other threads ---

    def serve(
        self,
        model: Model,
        kv_bytes: int,
        memory_bytes: int = 0,
        disk: DiskTier | None = None,
        draft: DraftModel | None = None,
    ) -> None:
        """Use `model`, before the first row; the bounds of what is kept are those of `Tiers`.

        `draft` guesses ahead for it.
        """

        def begin() -> None:
            width = model.steady_width if self._deterministic else 0
            self._disk = disk
            self._batch = Batch(
                model,
                Tiers(model, kv_bytes, memory_bytes, disk),
                max_rows=self._max_rows,
                chunks=Chunks(self._chunk, self._shared_chunk, width),
                paces=self._paces,
                guessing=Guessing(model, active=self._speculate and width != 1, draft=draft),
                width=width,
            )

        self.aside(begin)

    def sizes(self) -> CacheSizes:
        """What keys and values take now. Blocks for a step."""
        return self.aside(lambda: self._serving.sizes())

    def warm_up(self) -> None:
        """Find the number of threads to begin with.

        Takes about a second at most; what is left of the trial goes on in the first answer.
        """
        self.aside(lambda: self._serving.warm_up())

    def submit(self, row: Row) -> None:
        """Queue `row`. Does not block. Raises `EngineClosed`."""
        self._hand_in(lambda: self._serving.join(row))

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
        with suppress(EngineClosed):
            self.aside(lambda: self._serving.forget(scope))
        if self._disk is not None:
            self._disk.forget(scope)

    def retire(self, adapter: str, then: Callable[[], None]) -> None:
        """End the rows that compute with `adapter`, drop what they left, and do `then`. Blocks."""

        def end() -> None:
            self._serving.retire(adapter, EngineClosed("Another model was chosen."))
            then()

        with suppress(EngineClosed):
            self.aside(end)

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

    @property
    def _serving(self) -> Batch:
        assert self._batch is not None, "serve comes first"
        return self._batch

    def _run(self) -> None:
        self._paces.begin()
        while not self._closed:
            self._take_commands(wait=self._batch is None or self._batch.idle)
            if self._batch is not None:
                self._batch.step()
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
        if self._batch is not None:
            self._batch.close(EngineClosed("The engine was shut down."))
            self._batch = None
        if self._disk is not None:
            self._disk.close()
