"""Who runs next: the line of rows that wait for a place, fair between their owners.

A row gets its place and its slot when there is room for all that it may become.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from engine.device import translated
from engine.generate import Row
from engine.kv_cache import Slot
from engine.model import Model
from engine.prefix import common_prefix, owner_of
from engine.tiers import Tiers

_WORTH_WAITING = 32  # tokens of a common beginning that another row is about to read


class Line:
    """Rows in the order of their coming. Owned by the compute thread."""

    def __init__(self, model: Model, tiers: Tiers, max_running: int) -> None:
        self._model, self._tiers, self._max_running = model, tiers, max_running
        self.rows: list[Row] = []
        self._num_served = 0
        self._served: dict[str, int] = {}  # owner → number of the latest row served

    def admit(self, running: list[Row]) -> None:
        """Give slots to waiting rows, which join `running`, while there are places and bytes."""
        while len(running) < self._max_running and (row := self._first(running)):
            if not self._fits(row, running) and running:
                return  # wait until a row ends
            self._serve(row)
            try:
                row.start(*self._tiers.take(row.scope, row.tokens, slots_of(running), row.adapter))
                running.append(row)
            except Exception as error:
                row.fail(translated(error))

    def _first(self, running: Sequence[Row]) -> Row | None:
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

    def _serve(self, row: Row) -> None:
        self.rows.remove(row)
        self._num_served += 1
        self._served[owner_of(row.scope)] = self._num_served

    def _fits(self, row: Row, running: Sequence[Row]) -> bool:
        """Whether `row` has room as long as it may become, beside what the others may."""
        shape = self._model.cache_shape
        reserved = sum(
            max(slot.capacity, shape.bucket(self._most(other))) * shape.token_bytes
            for other in running
            if (slot := other.slot) is not None
        )
        return self._tiers.fits(
            row.scope, row.tokens, self._most(row), slots_of(running), reserved, row.adapter
        )

    def _most(self, row: Row) -> int:
        """Tokens that `row` may come to."""
        most = row.num_prompt + row.max_new_tokens
        return min(most, self._model.cache_shape.context_length)


def slots_of(rows: Sequence[Row]) -> list[Slot]:
    """What rows that run write to."""
    return [row.slot for row in rows if row.slot is not None]


def _is_being_read(row: Row, running: Sequence[Row]) -> bool:
    return any(
        other.slot is not None
        and row.scope
        and owner_of(other.scope) == owner_of(row.scope)
        and other.pending() > 1
        and common_prefix(other.tokens, row.tokens) - other.slot.length >= _WORTH_WAITING
        for other in running
    )
