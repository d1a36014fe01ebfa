"""A running turn belongs to the server, never to the page.

`Jobs` starts turns on threads of their own and lets any number of pages follow (`app/job.py`).
Closing a page ends a follower, never a turn. One turn a conversation; who waits for whom says
`app/lines.py`. Who has used up the day's tokens starts nothing more.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from threading import Event, Lock, Thread

from app.job import Call, Job
from app.lines import Lines
from app.requests import (
    JobRefused,
    Request,
    Send,
    as_requested,
    check_request,
    num_beside,
    stored,
)
from app.task import Step, Task
from storage.records import Conversation, Turn
from storage.store import Store

MAX_RATE_ALL_HZ = 100.0  # views a second for all followers together: 20 followers get 5 Hz each

log = logging.getLogger("corral.jobs")


class Jobs:
    """All running and queued turns. Safe to call from any thread."""

    def __init__(
        self,
        store: Store,
        *,
        task_for: Callable[[Conversation, Turn], Task],
        run: Callable[[Task, Event], Iterator[Step]],
        closing: Event,
    ) -> None:
        self._store = store
        self._task_for = task_for
        self._run = run
        self._closing = closing
        self._starting = Lock()  # one start at a time: the same click twice must not start twice
        self._lock = Lock()  # held around every use of `_lines` and `_threads`
        self._lines = Lines(self._begin)
        self._threads: set[Thread] = set()

    def start(self, user_id: int, request: Request) -> Job:
        """Store what was asked and begin to answer it, or queue it. Does not wait for the answer.

        Raises `JobRefused` before anything is stored, or `StorageError`.
        """
        client_key = request.client_key if isinstance(request, Send) else ""
        with self._starting:
            known = self._check(user_id, request, client_key)
            if known is not None:
                return known
            # The last one is shown while they are written, so it is begun last.
            beside = [stored(self._store, user_id, request)[1] for _ in range(num_beside(request))]
            conversation, turn = stored(self._store, user_id, request)
            task = as_requested(self._store, self._task_for(conversation, turn), request)
            job = Job(task, client_key)
            job.beside = tuple(_alternative(job, n, other) for n, other in enumerate(beside))
            if turn.reply.status != "streaming":  # this click was answered before
                job.apply(Step("ended", status=turn.reply.status))
                return job
            with self._lock:
                self._lines.enter(job)
            return job

    def enter(self, user_id: int) -> Call:
        """A place for a call of the API; the caller `wait`s for it and must `leave`.

        Raises `JobRefused` or `StorageError`.
        """
        if self._closing.is_set():
            raise JobRefused("closed")
        self._check_quota(user_id)
        call = Call(user_id)
        with self._lock:
            self._lines.check(user_id)
            self._lines.enter(call)
        return call

    def leave(self, call: Call) -> None:
        """Give the place of `call` to the next in line. May be repeated."""
        with self._lock:
            self._lines.leave(call)

    def running(self, user_id: int, key: str) -> Job | None:
        """The turn that runs or waits in this conversation."""
        with self._lock:
            return self._lines.find(user_id, key)

    def running_keys(self, user_id: int) -> frozenset[str]:
        """Conversations of this user in which a turn runs or waits."""
        with self._lock:
            return frozenset(job.key for job in self._lines.of(user_id) if job.key)

    def stop(self, user_id: int, key: str) -> bool:
        """End the turn of this conversation within one decode step; true if there was one."""
        job = self.running(user_id, key)
        if job is None:
            return False
        job.cancel.set()
        return True

    def rate_hz(self) -> float:
        """How often one follower may look, so that all of them leave the interpreter free."""
        with self._lock:
            jobs = self._lines.running()
        followers = sum(job.num_followers for job in jobs if isinstance(job, Job))
        return min(20.0, MAX_RATE_ALL_HZ / max(1, followers))

    def close(self, timeout: float = 10.0) -> None:
        """Stop every turn, keep what it wrote, and wait until it is stored."""
        self._closing.set()
        with self._lock:
            jobs, threads = self._lines.all(), [*self._threads]
        for job in jobs:
            job.cancel.set()
        deadline = time.monotonic() + timeout
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _check(self, user_id: int, request: Request, client_key: str) -> Job | None:
        """Refuse what must not be started, before anything is stored.

        Returns the job that this very click has started already, if any.
        """
        if self._closing.is_set():
            raise JobRefused("closed")
        check_request(request)
        with self._lock:
            for job in self._lines.of(user_id):
                if isinstance(job, Call):
                    continue
                if client_key and job.client_key == client_key:
                    return job
                if job.key == request.key:
                    raise JobRefused("running")
            self._lines.check(user_id)
        self._check_quota(user_id)
        return None

    def _check_quota(self, user_id: int) -> None:
        """That the user has tokens left for today. Blocks; no lock is needed."""
        if self._store.people.tokens_left(user_id) == 0:
            raise JobRefused("quota")

    def _begin(self, job: Job | Call) -> None:
        """Start what has come to the front of its line. The lock is held."""
        if isinstance(job, Call):
            job.started.set()
            return
        beside = [self._thread(self._write, other) for other in job.beside]
        self._thread(self._answer, job, beside)

    def _thread(self, work: Callable[..., None], job: Job, *more: object) -> Thread:
        thread = Thread(target=work, args=(job, *more), name=f"turn-{job.reply_id}", daemon=True)
        self._threads.add(thread)
        thread.start()
        return thread

    def _answer(self, job: Job, beside: Sequence[Thread]) -> None:
        """The turn's own thread; it ends after those beside it."""
        last = self._written(job)
        for thread in beside:
            thread.join()
        with self._lock:
            self._threads = {t for t in self._threads if t.is_alive()}
            self._lines.leave(job)
        # After it left: whoever hears of the end may at once start the next turn.
        job.apply(last)

    def _write(self, job: Job) -> None:
        """The thread of a reply beside another."""
        job.apply(self._written(job))

    def _written(self, job: Job) -> Step:
        """Run a turn to its end; its last step."""
        last = Step("ended", status="error", error_code="Unknown")
        try:
            for step in self._run(job.task, job.cancel):
                if step.phase == "ended":
                    last = step
                else:
                    job.apply(step)
        except Exception as error:
            # The store could not take the end of the turn; what it took before is there.
            log.exception("turn %d was not stored to its end", job.reply_id)
            last = Step("ended", status="error", error_code=type(error).__name__)
        return last


def _alternative(job: Job, number: int, turn: Turn) -> Job:
    """A job beside `job`: stopped with it, and with another seed where one is fixed."""
    sampling = job.task.sampling
    if sampling.seed is not None:
        sampling = replace(sampling, seed=(sampling.seed + number + 1) % 2**64)
    beside = Job(replace(job.task, turn=turn, sampling=sampling))
    beside.cancel = job.cancel
    return beside
