"""The store on conversations as wholes: make, list, find, name, put away, copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from storage import conversations, documents, export, search
from storage.connection import Database
from storage.methods.access import Access
from storage.records import Conversation, Hit, Shelf


class ConversationMethods(Access):
    """What concerns a conversation as a whole. All methods block."""

    def create_conversation(
        self,
        user_id: int,
        *,
        title: str = "",
        system_prompt: str = "",
        choices: Mapping[str, object] | None = None,
        temporary: bool = False,
    ) -> Conversation:
        """Begin an empty conversation; a `temporary` one is never written to the disk."""

        def create(db: Database) -> Conversation:
            return conversations.create(db, user_id, title, system_prompt, choices)

        if temporary:
            return self.temporary.begin(user_id, create)
        return self._writer.call(create, grows=True)

    def choose(
        self, user_id: int, key: str, *, system_prompt: str, choices: Mapping[str, object]
    ) -> Conversation:
        """Set how a conversation is answered from now on."""
        return self._writing(key).call(
            lambda db: conversations.choose(db, user_id, key, system_prompt, choices)
        )

    def conversation(self, user_id: int, key: str) -> Conversation:
        """One conversation, trashed or not."""
        with self._reading(key) as db:
            return conversations.get(db, user_id, key)

    def conversations(
        self,
        user_id: int,
        *,
        shelf: Shelf = "open",
        tag: str = "",
        limit: int = 200,
        offset: int = 0,
    ) -> list[Conversation]:
        """Pinned first, then newest turn first; or the trash, last thrown away first."""
        with self._readers.snapshot() as db:
            return conversations.listed(
                db, user_id, shelf=shelf, tag=tag, limit=limit, offset=offset
            )

    def dates(
        self, user_id: int, *, shelf: Shelf = "open", tag: str = ""
    ) -> list[tuple[bool, int]]:
        """(pinned, last turn in ms) of all conversations of a shelf, in the order of the list."""
        with self._readers.snapshot() as db:
            return conversations.dates(db, user_id, shelf=shelf, tag=tag)

    def tags(self, user_id: int) -> list[str]:
        """All tags that a user has given, by name."""
        with self._readers.snapshot() as db:
            return conversations.tags(db, user_id)

    def tag(self, user_id: int, key: str, tags: Sequence[str]) -> Conversation:
        """Give a conversation these tags in place of those it had."""
        return self._writing(key).call(lambda db: conversations.tag(db, user_id, key, tags))

    def archive(self, user_id: int, key: str, archived: bool) -> Conversation:
        """Put a conversation out of the list, where search still finds it, or back into it."""
        return self._writing(key).call(lambda db: conversations.archive(db, user_id, key, archived))

    def copy(
        self, user_id: int, key: str, *, upto_id: int | None = None, title: str = ""
    ) -> Conversation:
        """A second conversation like this one, or like the path to one of its messages.

        A copy of a temporary one is temporary too.
        """
        with self._reading(key) as db:
            document = documents.copied(db, user_id, key, upto_id=upto_id, title=title)
        if self.temporary.find(key) is None:
            return self.add_document(user_id, document)
        return self.temporary.begin(user_id, lambda db: documents.add(db, user_id, document))

    def add_document(self, user_id: int, document: Mapping[str, object]) -> Conversation:
        """Enter a conversation in the layout of `export`.

        Raises `DocumentInvalid`, or `Conflict` if the user has it already.
        """
        return self._writer.call(lambda db: documents.add(db, user_id, document), grows=True)

    def document(self, user_id: int, key: str) -> dict[str, Any]:
        """One conversation in the layout of `export`."""
        with self._reading(key) as db:
            return export.document(db, "", conversations.get(db, user_id, key))

    def rename(self, user_id: int, key: str, title: str) -> Conversation:
        """Give a conversation another title."""
        return self._writing(key).call(lambda db: conversations.rename(db, user_id, key, title))

    def pin(self, user_id: int, key: str, pinned: bool) -> Conversation:
        """Keep a conversation at the top of the list, or no longer."""
        return self._writing(key).call(lambda db: conversations.pin(db, user_id, key, pinned))

    def trash(self, user_id: int, key: str) -> Conversation:
        """Put a conversation in the trash; nothing is deleted."""
        return self._writing(key).call(lambda db: conversations.trash(db, user_id, key))

    def restore(self, user_id: int, key: str) -> Conversation:
        """Take a conversation out of the trash."""
        return self._writing(key).call(lambda db: conversations.restore(db, user_id, key))

    def draft(self, user_id: int, key: str | None) -> str:
        """What was written and not sent in a conversation, or (None) for a new one."""
        with self._reading(key or "") as db:
            return conversations.draft(db, user_id, key)

    def keep_draft(self, user_id: int, key: str | None, text: str) -> None:
        """Keep what is not sent yet; "" forgets it. It goes with its conversation."""
        self._writing(key or "").call(lambda db: conversations.keep_draft(db, user_id, key, text))

    def search(self, user_id: int, text: str, *, limit: int = 50) -> list[Hit]:
        """Titles and messages of all branches that hold all words of `text`, newest first.

        The last word also matches as a beginning. What lies in the trash is left out.
        """
        with self._readers.snapshot() as db:
            return search.find(db, user_id, text, limit)
