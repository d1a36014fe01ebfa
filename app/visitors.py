"""Who is here over a link, so that the owner sees how many: sessions, and when they last asked."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

HERE_SECONDS = 120.0  # a page asks at least this often while it is open
MAX_KEPT = 1_024


class Visitors:
    """Sessions by the link they came over. Used on the event loop; counting is safe elsewhere."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: OrderedDict[tuple[str, bytes], float] = OrderedDict()

    def saw(self, session: bytes, link: str) -> None:
        """Note a request that came over `link` ("" notes nothing)."""
        if not link:
            return
        self._seen[link, session] = self._clock()
        self._seen.move_to_end((link, session))
        while len(self._seen) > MAX_KEPT:
            self._seen.popitem(last=False)

    def count(self, link: str) -> int:
        """How many browsers are here over `link` now."""
        since = self._clock() - HERE_SECONDS
        return sum(name == link and at > since for (name, _), at in [*self._seen.items()])
