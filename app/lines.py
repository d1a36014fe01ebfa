"""The lines in which turns wait: fair use between users.

One running and two queued turns a user, sixteen queued in all; calls of the API stand in the same
lines. `Lines` only keeps order: what it means to begin is said by whoever made it.
"""

from __future__ import annotations

from collections.abc import Callable

from app.job import Call, Job
from app.requests import JobRefused

MAX_QUEUED_PER_USER = 2
MAX_QUEUED = 16


class Lines:
    """Who runs and who waits, by user. Not safe by itself: its owner holds a lock around it."""

    def __init__(self, begin: Callable[[Job | Call], None]) -> None:
        """`begin` is called with what has come to the front of its line."""
        self._begin_one = begin
        self._running: dict[int, Job | Call] = {}  # user id → what runs
        self._queues: dict[int, list[Job | Call]] = {}

    def check(self, user_id: int) -> None:
        """That there is room to run, or to wait, for one more of this user, or `JobRefused`."""
        if user_id not in self._running:
            return
        if len(self._queues.get(user_id, ())) >= MAX_QUEUED_PER_USER:
            raise JobRefused("queue_full")
        if sum(map(len, self._queues.values())) >= MAX_QUEUED:
            raise JobRefused("queue_full")

    def enter(self, job: Job | Call) -> None:
        """Begin at once if nothing of this user runs; otherwise wait."""
        if job.user_id in self._running:
            self._queues.setdefault(job.user_id, []).append(job)
            self._number(job.user_id)
        else:
            self._begin(job)

    def leave(self, job: Job | Call) -> None:
        """Give its place to the next in line. May be repeated."""
        user_id = job.user_id
        if self._running.get(user_id) is job:
            self._running.pop(user_id)
            if queue := self._queues.get(user_id):
                self._begin(queue.pop(0))
        elif job in (queue := self._queues.get(user_id, [])):
            queue.remove(job)
        self._number(user_id)

    def of(self, user_id: int) -> list[Job | Call]:
        """What runs and waits of this user, in order."""
        running = self._running.get(user_id)
        return [*([running] if running else []), *self._queues.get(user_id, ())]

    def find(self, user_id: int, key: str) -> Job | None:
        """The turn that runs or waits in this conversation."""
        mine = self.of(user_id)
        return next((job for job in mine if isinstance(job, Job) and job.key == key), None)

    def running(self) -> list[Job | Call]:
        """What runs, of all users."""
        return [*self._running.values()]

    def all(self) -> list[Job | Call]:
        """What runs and waits, of all users."""
        return [job for user_id in {*self._running, *self._queues} for job in self.of(user_id)]

    def _begin(self, job: Job | Call) -> None:
        self._running[job.user_id] = job
        self._begin_one(job)

    def _number(self, user_id: int) -> None:
        """Tell those who wait their places."""
        queue = self._queues.get(user_id, [])
        for place, waiting in enumerate(queue, start=1):
            waiting.queue_at(place)
        if not queue:
            self._queues.pop(user_id, None)
