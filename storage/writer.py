"""The one thread that writes.

Every change is a job on its queue. Jobs that wait together share one transaction (group commit)
and each has its own savepoint, so that one refusal does not undo its neighbours. A job's caller
gets its result only after the commit. Streamed text is different: `append` returns at once, and
the text is committed with the next job or within 100 ms, whichever is sooner.

When the disk is full the ballast file is deleted, which leaves room to finish what runs and to
free space; new turns are refused with `DiskFull` until there is room for a new ballast.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from storage.ballast import Ballast
from storage.connection import FULL, Database, sqlite3, translate
from storage.records import DatabaseDamaged, DiskFull, StoreClosed

log = logging.getLogger(__name__)

T = TypeVar("T")
COMMIT_SECONDS = 0.1  # streamed text is on disk at most this long after it was appended
_MAX_JOBS = 64  # in one transaction


@dataclass(slots=True)
class _Job:
    work: Callable[[Database], Any]
    future: Future[Any]
    grows: bool
    outside: bool = False  # VACUUM, checkpoints: not inside a transaction


class Writer:
    """Owns the only connection that writes. Safe to call from several threads."""

    def __init__(
        self,
        open_database: Callable[[], Database],
        write_chunk: Callable[[Database, int, str], None],
        ballast: Ballast,
        on_damage: Callable[[], None],
    ) -> None:
        self._on_damage = on_damage
        self._open = open_database
        self._write_chunk = write_chunk
        self._ballast = ballast
        self._wake = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._chunks: dict[int, list[str]] = {}
        self._flush_at: float | None = None
        self._closing = False
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="corral-writer", daemon=True)
        self._thread.start()
        self._ready.result()

    @property
    def full(self) -> bool:
        """Whether the disk was full at the last attempt: new turns are refused."""
        return self._ballast.spent

    def call(
        self, work: Callable[[Database], T], *, grows: bool = False, outside: bool = False
    ) -> T:
        """Run `work` on the writer's connection; return its result once it is durable.

        `grows` marks work that starts something new and is refused while the disk is full.
        Raises `StorageError`, and whatever else `work` raises.
        """
        future = self.submit(work, grows=grows, outside=outside)
        result: T = future.result()
        return result

    def submit(
        self, work: Callable[[Database], T], *, grows: bool = False, outside: bool = False
    ) -> Future[T]:
        """Queue `work` without waiting for it."""
        future: Future[T] = Future()
        with self._wake:
            if self._closing:
                raise StoreClosed("The store was closed.")
            self._jobs.append(_Job(work, future, grows, outside))
            self._wake.notify()
        return future

    def append(self, message_id: int, text: str) -> None:
        """Take streamed text without waiting; it is committed within `COMMIT_SECONDS`."""
        if not text:
            return
        with self._wake:
            if self._closing:
                raise StoreClosed("The store was closed.")
            self._chunks.setdefault(message_id, []).append(text)
            if self._flush_at is None:
                self._flush_at = time.monotonic() + COMMIT_SECONDS
                self._wake.notify()

    def close(self, last: Callable[[Database], None] | None = None) -> None:
        """Finish what is queued, commit pending text, run `last`, close the connection. Blocks."""
        with self._wake:
            if last is not None and not self._closing:
                self._jobs.append(_Job(last, Future(), grows=False))
            self._closing = True
            self._wake.notify()
        self._thread.join()

    # on the writer's thread

    def _run(self) -> None:
        try:
            db = self._open()
        except BaseException as error:  # the constructor re-raises it on its own thread
            self._ready.set_exception(error)
            return
        self._ready.set_result(None)
        while True:
            jobs, chunks = self._take()
            if jobs or chunks:
                self._commit(db, jobs, chunks)
            elif self._closing:
                break
        db.close()

    def _take(self) -> tuple[list[_Job], dict[int, list[str]]]:
        """Wait for work: the next jobs that can share a transaction, and all pending text."""
        with self._wake:
            while not self._jobs and not self._closing:
                if self._flush_at is None:
                    self._wake.wait()
                elif (left := self._flush_at - time.monotonic()) > 0:
                    self._wake.wait(left)
                else:
                    break
            jobs: list[_Job] = []
            while self._jobs and len(jobs) < _MAX_JOBS:
                if self._jobs[0].outside and jobs:
                    break
                jobs.append(self._jobs.popleft())
                if jobs[-1].outside:
                    break
            chunks, self._chunks, self._flush_at = self._chunks, {}, None
            return jobs, chunks

    def _commit(self, db: Database, jobs: list[_Job], chunks: dict[int, list[str]]) -> None:
        try:
            jobs = self._refuse_growth(jobs) if self._ballast.spent else jobs
            try:
                outcomes = self._attempt(db, jobs, chunks)
            except sqlite3.Error as error:
                if not isinstance(translate(error), DiskFull) or not self._ballast.release():
                    raise
                log.warning("disk full: ballast released, new turns are refused")
                jobs = self._refuse(jobs)
                outcomes = self._attempt(db, jobs, chunks)
        except sqlite3.Error as error:
            self._put_back(chunks)
            ours = translate(error)
            if isinstance(ours, DatabaseDamaged):
                self._on_damage()
            self._fail(jobs, ours, error)
            return
        except BaseException as error:  # our own defect: the caller must hear of it, not hang
            log.exception("the writer failed")
            self._put_back(chunks)
            self._fail(jobs, error, None)
            return
        for job, (result, refusal) in zip(jobs, outcomes, strict=True):
            if refusal is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(refusal)

    def _attempt(
        self, db: Database, jobs: list[_Job], chunks: dict[int, list[str]]
    ) -> list[tuple[Any, BaseException | None]]:
        """One transaction. A failure that ends the transaction is raised: nothing was kept."""
        if jobs and jobs[0].outside:
            if chunks:
                self._attempt(db, [], chunks)
                chunks.clear()
            return [(jobs[0].work(db), None)]
        db.conn.execute("BEGIN IMMEDIATE")
        try:
            for message_id, texts in chunks.items():
                self._write_chunk(db, message_id, "".join(texts))
            outcomes = [self._one(db, job) for job in jobs]
            db.conn.execute("COMMIT")
            return outcomes
        except BaseException:
            if db.conn.in_transaction:
                db.conn.execute("ROLLBACK")
            raise

    def _one(self, db: Database, job: _Job) -> tuple[Any, BaseException | None]:
        db.conn.execute("SAVEPOINT job")
        try:
            result = job.work(db)
        except Exception as error:
            ours = not isinstance(error, sqlite3.Error) or isinstance(error, sqlite3.IntegrityError)
            if not (ours and db.conn.in_transaction):
                raise  # the disk, not this job: nothing of this transaction is kept
            db.conn.execute("ROLLBACK TO job")
            db.conn.execute("RELEASE job")
            refusal = error
            if isinstance(error, (sqlite3.Error, OverflowError)):
                refusal = translate(error)
                refusal.__cause__ = error
            return None, refusal
        db.conn.execute("RELEASE job")
        return result, None

    def _refuse_growth(self, jobs: list[_Job]) -> list[_Job]:
        """While the disk is full: try to have a ballast again, else turn new work away."""
        if not any(job.grows for job in jobs) or self._ballast.restore():
            return jobs
        return self._refuse(jobs)

    def _refuse(self, jobs: list[_Job]) -> list[_Job]:
        self._fail([job for job in jobs if job.grows], DiskFull(FULL), None)
        return [job for job in jobs if not job.grows]

    def _put_back(self, chunks: dict[int, list[str]]) -> None:
        """Keep text that could not be written; the next commit tries again."""
        with self._wake:
            if self._closing and chunks:
                log.warning("text of %d replies could not be written before closing", len(chunks))
            if self._closing:
                return
            for message_id, texts in chunks.items():
                self._chunks[message_id] = texts + self._chunks.get(message_id, [])
            if self._chunks:
                self._flush_at = time.monotonic() + 10 * COMMIT_SECONDS

    @staticmethod
    def _fail(jobs: list[_Job], error: BaseException, cause: BaseException | None) -> None:
        if cause is not None and error is not cause:
            error.__cause__ = cause
        for job in jobs:
            if not job.future.done():
                job.future.set_exception(error)
