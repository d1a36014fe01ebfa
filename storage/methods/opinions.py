"""The store on what people prefer, and on the prompts, personas and presets that they keep."""

from __future__ import annotations

from storage import conversations, opinions, saved, tree
from storage.connection import Database
from storage.methods.access import Access
from storage.records import Comparison, Feedback, Saved, SavedKind


class OpinionMethods(Access):
    """Thumbs, comparisons and what was saved under a name. All methods block."""

    def set_feedback(self, user_id: int, key: str, message_id: int, given: Feedback) -> None:
        """Keep a thumb and a note on an answer; neither removes what was there."""
        self._writing(key).call(
            lambda db: opinions.set_feedback(
                db, tree.message(db, conversations.get(db, user_id, key), message_id), given
            )
        )

    def compare(
        self, user_id: int, key: str, *, first_id: int, second_id: int, blind: bool
    ) -> Comparison:
        """Put two answers to one prompt side by side, to be rated."""

        def made(db: Database) -> Comparison:
            conversation = conversations.get(db, user_id, key)
            first, second = (tree.message(db, conversation, i) for i in (first_id, second_id))
            return opinions.compare(db, conversation, first, second, blind)

        return self._writing(key).call(made)

    def comparison(self, user_id: int, comparison_id: int) -> Comparison:
        """One comparison."""
        with self._reading(comparison_id) as db:
            return opinions.comparison(db, user_id, comparison_id)

    def rate(
        self,
        user_id: int,
        comparison_id: int,
        *,
        helpfulness: int | None,
        safety: int | None,
        note: str = "",
    ) -> Comparison:
        """Keep which of two answers is preferred; see `Comparison` for the degrees."""
        return self._writing(comparison_id).call(
            lambda db: opinions.rate(db, user_id, comparison_id, helpfulness, safety, note)
        )

    def rated(self, user_id: int) -> list[tuple[str, Comparison]]:
        """All rated comparisons, oldest first, each with its conversation's key."""
        with self._readers.snapshot() as db:
            return opinions.rated(db, user_id)

    def liked(self, user_id: int) -> list[tuple[str, int]]:
        """(conversation key, message id) of all answers with a thumb up."""
        with self._readers.snapshot() as db:
            return opinions.liked(db, user_id)

    def saved(self, user_id: int, kind: SavedKind) -> list[Saved]:
        """A user's own, by name."""
        with self._readers.snapshot() as db:
            return saved.listed(db, user_id, kind)

    def save(
        self, user_id: int, kind: SavedKind, name: str, body: str, *, use_case: str = ""
    ) -> list[Saved]:
        """Keep `body` under `name`, in place of what had that name; all of the kind."""
        return self._writer.call(
            lambda db: saved.save(db, user_id, kind, name, body, use_case), grows=True
        )

    def remove_saved(self, user_id: int, saved_id: int) -> None:
        """Remove one for good."""
        self._writer.call(lambda db: saved.remove(db, user_id, saved_id))
