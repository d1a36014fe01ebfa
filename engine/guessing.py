"""Which guesses go into a pass, and whether guessing pays: see `engine/speculation.py`."""

from __future__ import annotations

from collections.abc import Sequence

from engine.generate import Row
from engine.model import Model
from engine.speculation import Worth

_MOST_SPECULATING = 4  # rows that write at once; more fill a pass by themselves


class Guessing:
    """Asked before each pass that writes, told after it. Owned by the compute thread."""

    def __init__(self, model: Model, *, active: bool = True) -> None:
        self._model, self._active = model, active
        self._worths: dict[int, Worth] = {}  # by how many rows write
        self._worth = Worth()  # of the pass that is going on

    def drafts(self, rows: Sequence[Row]) -> list[list[int]]:
        """What each of `rows` may write next; [] where nothing is guessed."""
        self._worth = self._worths.setdefault(len(rows), Worth())
        if not (self._active and len(rows) <= _MOST_SPECULATING and self._worth.allows()):
            return [[] for _ in rows]
        return [self._draft(row) for row in rows]

    def record(self, num_written: int, seconds: float, *, guessed: bool) -> None:
        """The pass took `seconds`, guesses and draws included, and gave `num_written` tokens."""
        self._worth.record(max(1, num_written), seconds, guessed=guessed)

    def _draft(self, row: Row) -> list[int]:
        """As far as there is room for it."""
        assert row.slot is not None
        context = self._model.cache_shape.context_length
        left = min(row.max_new_tokens - row.num_new, context - len(row.tokens)) - 1
        draft = row.lookup.propose(row.tokens, left)
        same = self._model.stretch(len(row.tokens) + len(draft)) == row.slot.stretch
        return draft if same else []
