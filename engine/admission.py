"""Who runs next: the line of rows that wait for a place, fair between their owners."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from engine.generate import Row
from engine.prefix import common_prefix, owner_of

_WORTH_WAITING = 32  # tokens of a common beginning that another row is about to read


class Line:
    """Rows in the order of their coming. Owned by the compute thread."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._num_served = 0
        self._served: dict[str, int] = {}  # owner → number of the latest row served

    def first(self, running: Sequence[Row]) -> Row | None:
        """The row to serve next: of the owner who has the fewest running.

        Among equals it is the owner who was served longest ago, then the oldest row. A row whose
        beginning is being read by another of its owner waits, to copy it.
        """
        ready = [row for row in self.rows if not _is_being_read(row, running)]
        if not ready:
            return None
        places = Counter(owner_of(row.scope) for row in running)

        def order(row: Row) -> tuple[int, int]:
            owner = owner_of(row.scope)
            return places[owner], self._served.get(owner, 0)

        return min(ready, key=order)

    def serve(self, row: Row) -> None:
        """Take `row` out of the line: it gets its place."""
        self.rows.remove(row)
        self._num_served += 1
        self._served[owner_of(row.scope)] = self._num_served


def _is_being_read(row: Row, running: Sequence[Row]) -> bool:
    return any(
        other.slot is not None
        and row.scope
        and owner_of(other.scope) == owner_of(row.scope)
        and other.pending() > 1
        and common_prefix(other.tokens, row.tokens) - other.slot.length >= _WORTH_WAITING
        for other in running
    )
