"""Work that waits at the same time goes through in one pass: how encoders judge several users.

Whoever asks leaves what is to be judged and then waits for the compute thread. The first to get
there takes along all that others have left, so that under load there are fewer, larger passes, and
a lone question never waits for company.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Lock
from typing import Generic, Protocol, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")
T = TypeVar("T")

MAX_BATCH = 8  # texts in one pass: rows that write on the same device wait no longer than that


class Run(Protocol):
    """How work reaches the thread that computes (`LocalEngine.aside`)."""

    def __call__(self, job: Callable[[], T], /) -> T:
        """Run `job` there and return what it returns, or raise what it raised. Blocks."""
        ...


def at_once(job: Callable[[], T], /) -> T:
    """A `Run` for where nothing else computes: right here."""
    return job()


class Together(Generic[Asked, Answer]):
    """Collects questions for `compute`, at most `most` a pass. Safe to call from any thread."""

    def __init__(
        self, compute: Callable[[Sequence[Asked]], Sequence[Answer]], run: Run, *, most: int
    ) -> None:
        self._compute = compute
        self._run = run
        self._most = most
        self._waiting: list[tuple[Asked, Future[Answer]]] = []
        self._lock = Lock()  # around `_waiting`
        self._computing = Lock()  # one pass at a time, also where `run` is no single thread

    def ask(self, questions: Sequence[Asked]) -> list[Answer]:
        """The answers, in order. Blocks. Raises what `compute` raised for a pass of theirs."""
        if not questions:
            return []
        answers: list[Future[Answer]] = [Future() for _ in questions]
        with self._lock:
            self._waiting += zip(questions, answers, strict=True)
        self._run(lambda: self._compute_until(answers[-1]))
        return [answer.result() for answer in answers]

    def _compute_until(self, last: Future[Answer]) -> None:
        """Compute in order of asking until `last` is answered, by this call or another."""
        with self._computing:
            while not last.done():
                with self._lock:
                    batch = self._waiting[: self._most]
                    del self._waiting[: self._most]
                self._pass(batch)

    def _pass(self, batch: Sequence[tuple[Asked, Future[Answer]]]) -> None:
        try:
            found = self._compute([asked for asked, _ in batch])
            if len(found) != len(batch):
                raise ValueError("not one answer for each question")
        except BaseException as error:  # it belongs to those who asked
            for _, answer in batch:
                answer.set_exception(error)
            return
        for (_, answer), one in zip(batch, found, strict=True):
            answer.set_result(one)
