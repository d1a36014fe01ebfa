"""How many requests pass: a bucket of tokens for each user, one for all who have not signed in.

Everybody who comes over a tunnel has one address, so buckets belong to accounts. The owner has a
bucket like everybody: what others send never empties it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

PER_SECOND = 20.0  # a page that follows an answer asks a few times a second
BURST = 600.0  # a page that opens loads some two hundred files
MAX_USERS = 1_024


class Rates:
    """Buckets that refill. Used on the event loop only, so it needs no lock."""

    def __init__(
        self,
        *,
        per_second: float = PER_SECOND,
        burst: float = BURST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[int | None, tuple[float, float]] = OrderedDict()

    def allows(self, user_id: int | None) -> bool:
        """Take a token of this user's bucket (None: of all strangers'); false if it is empty."""
        now = self._clock()
        left, at = self._buckets.get(user_id, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_second)
        allowed = left >= 1
        self._buckets[user_id] = (left - 1 if allowed else left, now)
        self._buckets.move_to_end(user_id)
        while len(self._buckets) > MAX_USERS:
            self._buckets.popitem(last=False)
        return allowed
