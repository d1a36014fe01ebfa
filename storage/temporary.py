"""Conversations that are never written down: each in a database of its own, in memory alone.

Such a database has the same tables as the one on the disk, so everything that can be done with a
conversation can be done with these. It ends with its conversation, and nothing of it is left. Ids
of its rows begin so high that an id alone says where it belongs.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from threading import Lock

from storage import turns
from storage.ballast import NoBallast
from storage.clock import now
from storage.connection import Database, Readers, connect_memory
from storage.records import Conversation
from storage.schema import migrations
from storage.writer import Writer

MOST_PER_USER = 8  # one more ends the one that was not looked at for longest
# Ids stay whole numbers in a browser (below 2**53), each database has 2**32 of them.
_FIRST_ID = 2**52
_IDS_EACH = 2**32
_NUMBERED = ("conversation", "message", "comparison")


@dataclass(slots=True)
class Memory:
    """The database of one such conversation. `key` is "" until the conversation is made."""

    number: int
    user_id: int
    readers: Readers
    writer: Writer
    seen_at: float  # of `time.monotonic`
    key: str = ""

    def close(self) -> None:
        self.readers.close()
        self.writer.close()


class Temporary:
    """All that there are now. Safe to call from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._count = 0
        self._open: dict[int, Memory] = {}

    def begin(self, user_id: int, create: Callable[[Database], Conversation]) -> Conversation:
        """Make a conversation in a new database; `create` enters it there. Blocks."""
        with self._lock:
            number, self._count = self._count, self._count + 1
        name = f"corral-{secrets.token_hex(8)}"
        writer = Writer(
            partial(_made, name, number, user_id), turns.write_chunk, NoBallast(), lambda: None
        )
        readers = Readers(partial(connect_memory, name, "read"), on_damage=lambda: None)
        memory = Memory(number, user_id, readers, writer, time.monotonic())
        try:
            conversation = writer.call(create)
        except BaseException:
            memory.close()
            raise
        memory.key = conversation.key
        with self._lock:
            self._open[number] = memory
            own = [one for one in self._open.values() if one.user_id == user_id]
        if len(own) > MOST_PER_USER:
            oldest = min(own, key=lambda one: one.seen_at)
            self.end(user_id, oldest.key)
        return conversation

    def find(self, which: str | int | None) -> Memory | None:
        """The database that holds a conversation's key, or a row's id; None for the one on disk."""
        with self._lock:
            if isinstance(which, int):
                return self._open.get((which - _FIRST_ID) // _IDS_EACH)
            return next((one for one in self._open.values() if one.key == which), None)

    def holds(self, user_id: int, key: str | None) -> bool:
        """Whether this is a temporary conversation of that user."""
        found = self.find(key)
        return found is not None and found.user_id == user_id

    def keep_alive(self, user_id: int, key: str | None) -> None:
        """Note that a page still shows it."""
        if (found := self.find(key)) is not None and found.user_id == user_id:
            found.seen_at = time.monotonic()

    def left_alone(self, seconds: float) -> list[tuple[int, str]]:
        """(user id, key) of those that no page has shown for so long."""
        limit = time.monotonic() - seconds
        with self._lock:
            return [(one.user_id, one.key) for one in self._open.values() if one.seen_at <= limit]

    def of_user(self, user_id: int) -> list[str]:
        """The keys of a user's."""
        with self._lock:
            return [one.key for one in self._open.values() if one.user_id == user_id]

    def end(self, user_id: int, key: str) -> bool:
        """Forget a conversation at once; false if the user has no such one. Blocks."""
        found = self.find(key)
        if found is None or found.user_id != user_id:
            return False
        with self._lock:
            self._open.pop(found.number, None)
        found.close()
        return True

    def close(self) -> None:
        """Forget all of them."""
        with self._lock:
            ended, self._open = [*self._open.values()], {}
        for one in ended:
            one.close()


def _made(name: str, number: int, user_id: int) -> Database:
    """An empty database in memory that knows one user. It lives while a connection is open."""
    db = connect_memory(name)
    migrations.apply(db)
    db.execute(
        "INSERT OR IGNORE INTO user (id, name, role, created_at) VALUES (?, 'visitor', 'guest', ?)",
        (user_id, now()),
    )
    first = _FIRST_ID + number * _IDS_EACH
    for table in _NUMBERED:
        db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, first))
    return db
