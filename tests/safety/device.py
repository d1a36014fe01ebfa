"""A compute thread that a test lets go on."""

import queue
import threading
from concurrent.futures import Future


class Device:
    """A compute thread that begins only when it is told to, so that others can line up."""

    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue = queue.SimpleQueue()
        self.waiting = threading.Semaphore(0)

    def run(self, job):
        future: Future = Future()

        def work() -> None:
            try:
                future.set_result(job())
            except BaseException as error:
                future.set_exception(error)

        self.jobs.put(work)
        self.waiting.release()
        return future.result(timeout=30)

    def begin(self, num_waiting: int) -> None:
        """Compute what is there once so many wait."""
        for _ in range(num_waiting):
            assert self.waiting.acquire(timeout=30)
        for _ in range(num_waiting):
            self.jobs.get(timeout=30)()
