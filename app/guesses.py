"""How often a password may be tried: some tries are free, then each name waits, ever longer.

Waiting is refusing: nothing is computed for a try that comes too early. All names together have a
limit too, because everybody who comes over a tunnel has one address.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from threading import Lock

FREE_TRIES = 5
LONGEST_WAIT_SECONDS = 60.0
MAX_A_MINUTE = 20  # of all names together
MAX_NAMES = 4_096


class Guesses:
    """Failed tries by name. Safe to call from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()  # name → (tries, last)
        self._tries: deque[float] = deque()
        self._lock = Lock()

    def wait_seconds(self, name: str) -> float:
        """How long this name must wait; 0 means that a try is allowed, and counts it."""
        with self._lock:
            return self._wait(name)

    def _wait(self, name: str) -> float:
        now = self._clock()
        num, last = self._failed.get(name.casefold(), (0, 0.0))
        if num >= FREE_TRIES:
            wait = last + min(LONGEST_WAIT_SECONDS, 2.0 ** (num - FREE_TRIES + 1)) - now
            if wait > 0:
                return wait
        while self._tries and self._tries[0] <= now - 60:
            self._tries.popleft()
        if len(self._tries) >= MAX_A_MINUTE:
            return self._tries[0] + 60 - now
        self._tries.append(now)
        return 0.0

    def failed(self, name: str) -> None:
        """Note a try that was wrong."""
        key = name.casefold()
        with self._lock:
            num = self._failed.get(key, (0, 0.0))[0]
            self._failed[key] = (num + 1, self._clock())
            self._failed.move_to_end(key)
            while len(self._failed) > MAX_NAMES:
                self._failed.popitem(last=False)

    def succeeded(self, name: str) -> None:
        """Forget the wrong tries of a name."""
        with self._lock:
            self._failed.pop(name.casefold(), None)
