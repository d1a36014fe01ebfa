"""How many requests pass: a bucket of tokens and some places at once for each caller.

Everybody who comes over a tunnel has one address, so both belong to accounts. Who has not signed in
shares them with all strangers who came the same way, and an account over a link has others than at
this machine. All who came by one link share a larger bucket too: however many there are, what comes
over it leaves the machine free, and empties nothing that its owner has.
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
LINK_TIMES = 5  # what everybody over one link may ask together, in measures of one caller
# How long a link's refusal is held back. Connections over it are limited: a flood that is refused
# comes no faster than they become free.
PAUSE_SECONDS = 1.0
MAX_CALLERS = 1_024

# A user's id, with the link they came by if it was one; a stranger is that link ("": this machine).
Caller = int | str | tuple[str, int]


class Rates:
    """Buckets that refill, and places. Used on the event loop only, so it needs no lock."""

    def __init__(
        self,
        *,
        per_second: float = PER_SECOND,
        burst: float = BURST,
        at_once: int = MAX_AT_ONCE,
        pause_seconds: float = PAUSE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_second = per_second
        self._burst = burst
        self._at_once = at_once
        self.pause_seconds = pause_seconds
        self._clock = clock
        self._buckets: OrderedDict[Caller, tuple[float, float]] = OrderedDict()
        self._open: Counter[Caller] = Counter()

    def take_of_link(self, link: str) -> None:
        """Take a token of the bucket of all who come by `link`. Raises `Refused`."""
        self.take(f"all of {link}", times=LINK_TIMES)

    def take(self, caller: Caller, *, times: float = 1.0) -> None:
        """Take a token of this caller's bucket, `times` the usual one. Raises `Refused`."""
        now, burst = self._clock(), self._burst * times
        left, at = self._buckets.get(caller, (burst, now))
        left = min(burst, left + (now - at) * self._per_second * times)
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
