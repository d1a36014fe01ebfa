"""Who looks at the page, and which request of each open page is the latest."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

MAX_VIEWERS = 2_000


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks, on which open page, and the number of what was asked there."""

    user_id: int
    page: str
    ticket: int


class Viewers:
    """Which request of each open page is the latest; an older one stops painting."""

    def __init__(self) -> None:
        self._latest: OrderedDict[str, int] = OrderedDict()
        self._count = 0

    def begin(self, page: str) -> int:
        self._count += 1
        self._latest[page] = self._count
        self._latest.move_to_end(page)
        if len(self._latest) > MAX_VIEWERS:
            self._latest.popitem(last=False)
        return self._count

    def is_latest(self, page: str, ticket: int) -> bool:
        return self._latest.get(page, ticket) == ticket
