"""How many requests pass: a bucket of tokens and some places at once for each caller.

Everybody who comes over a tunnel has one address, so both belong to accounts. Who has not signed in
shares them with all strangers who came the same way: what comes over a link empties neither what
strangers on this machine have, nor the owner's.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.asgi import Refused

PER_SECOND = 20.0  # a page that follows an answer asks a few times a second
BURST = 600.0  # a page that opens loads some two hundred files
MAX_AT_ONCE = 64  # a browser opens six connections to one host, whatever it shows
MAX_CALLERS = 1_024

Caller = int | str  # a user's id, or by which link a stranger came ("" on this machine)


class Rates:
    """Buckets that refill, and places. Used on the event loop only, so it needs no lock."""

    def __init__(
        self,
        *,
        per_second: float = PER_SECOND,
        burst: float = BURST,
        at_once: int = MAX_AT_ONCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_second = per_second
        self._burst = burst
        self._at_once = at_once
        self._clock = clock
        self._buckets: OrderedDict[Caller, tuple[float, float]] = OrderedDict()
        self._open: Counter[Caller] = Counter()

    def take(self, caller: Caller) -> None:
        """Take a token of this caller's bucket. Raises `Refused` if it is empty."""
        now = self._clock()
        left, at = self._buckets.get(caller, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_second)
        allowed = left >= 1
        self._buckets[caller] = (left - 1 if allowed else left, now)
        self._buckets.move_to_end(caller)
        while len(self._buckets) > MAX_CALLERS:
            self._buckets.popitem(last=False)
        if not allowed:
            raise Refused(429, "rate")

    @contextmanager
    def place(self, caller: Caller) -> Iterator[None]:
        """Take a token, and a place for as long as the request lasts. Raises `Refused`."""
        self.take(caller)
        if self._open[caller] >= self._at_once:
            raise Refused(429, "rate")
        self._open[caller] += 1
        try:
            yield
        finally:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]
