"""Which guesses go into a pass: by prompt lookup, then by a draft model, as long as they pay.

Whether they pay is measured for each number of rows that write and for both kinds by themselves
(`Worth` in `engine/speculation.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.draft import DraftModel
from engine.generate import Row
from engine.model import Model
from engine.speculation import Worth

_MOST_SPECULATING = 4  # rows that write at once; more fill a pass by themselves


class Guessing:
    """Asked before each pass that writes, told after it. Owned by the compute thread."""

    def __init__(
        self, model: Model, *, active: bool = True, draft: DraftModel | None = None
    ) -> None:
        self._model, self._active, self.draft = model, active, draft
        self._worths: dict[int, tuple[Worth, Worth]] = {}  # by how many rows write
        self._asked: set[Row] = set()  # rows for which the draft model guessed this time

    def drafts(self, rows: Sequence[Row]) -> list[list[int]]:
        """What each of `rows` may write next; [] where nothing is guessed."""
        self._asked = set()
        nothing: list[list[int]] = [[] for _ in rows]
        if not self._active or len(rows) > _MOST_SPECULATING:
            return nothing
        of_lookups, of_draft = self._worths.setdefault(len(rows), (Worth(), Worth()))
        found = [self._looked_up(row) for row in rows] if of_lookups.allows() else nothing
        if self.draft is None or not of_draft.allows():
            return found
        lacking = [at for at, guess in enumerate(found) if not guess]
        asked = [rows[at] for at in lacking]
        for at, guess in zip(
            lacking, self.draft.propose(asked, [self._room(row) for row in asked]), strict=True
        ):
            found[at] = self._fitting(rows[at], guess)
            if found[at]:
                self._asked.add(rows[at])
        return found

    def learn(self, row: Row, num_proposed: int, num_right: int) -> None:
        """How many of the row's guesses came true."""
        if row not in self._asked:
            row.lookup.learn(num_proposed, num_right)

    def record(self, num_rows: int, num_written: int, seconds: float, *, guessed: bool) -> None:
        """The pass took `seconds`, guesses and draws included, and gave `num_written` tokens."""
        if num_rows not in self._worths or (self.draft is not None and self.draft.read_prompt):
            return  # what reading a prompt takes says nothing about guesses
        of_lookups, of_draft = self._worths[num_rows]
        guessers = [of_draft if self._asked else of_lookups]
        for worth in guessers if guessed else (of_lookups, of_draft):
            worth.record(max(1, num_written), seconds, guessed=guessed)

    def leave(self, row: Row) -> None:
        """`row` has ended."""
        if self.draft is not None:
            self.draft.leave(row)

    def forget(self, scope: str) -> None:
        """Drop what the draft model keeps of `scope`."""
        if self.draft is not None:
            self.draft.forget(scope)

    def give_up(self) -> bool:
        """Free what the draft model keeps of ended rows → whether that was anything."""
        return self.draft is not None and self.draft.give_up()

    def clear(self) -> None:
        """Free the draft model's slots."""
        if self.draft is not None:
            self.draft.clear()

    def _looked_up(self, row: Row) -> list[int]:
        return self._fitting(row, row.lookup.propose(row.tokens, self._room(row)))

    def _room(self, row: Row) -> int:
        """Tokens that may be guessed: one is written in any case."""
        context = self._model.cache_shape.context_length
        return min(row.max_new_tokens - row.num_new, context - len(row.tokens)) - 1

    def _fitting(self, row: Row, guess: list[int]) -> list[int]:
        """`guess`, unless the row's slot would have to be read again for it."""
        assert row.slot is not None
        fits = self._model.stretch(len(row.tokens) + len(guess)) == row.slot.stretch
        return guess if fits else []
