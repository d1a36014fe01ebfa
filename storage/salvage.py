"""What can be saved from a damaged database, put into a sound new one.

Rows are recognised by their shape (number and kinds of columns, closed sets of words), which works
without the catalogue and the inner pages of the tables. What the newest backup has and the damaged
file lost is filled in from there, except conversations that the audit says were purged. Messages
whose parent or conversation is lost are kept: as roots, in a conversation named as recovered.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from storage import conversations, search
from storage.connection import Database, connect, sqlite3
from storage.pages import Pages, Value

RECOVERED_TITLE = "Recovered conversation"

Test = Callable[[Value], bool]
Row = list[Value]
Found = dict[str, dict[Value | tuple[Value, ...], Row]]  # table to primary key to row


@dataclass(frozen=True, slots=True)
class Kept:
    """What a salvage brought into the new database, and how many rows could not be read."""

    num_conversations: int
    num_messages: int
    num_from_backup: int  # messages
    num_broken: int


def _integer(value: Value) -> bool:
    return isinstance(value, int)


def _number(value: Value) -> bool:
    return isinstance(value, (int, float))


def _text(value: Value) -> bool:
    return isinstance(value, str)


def _blob(value: Value) -> bool:
    return isinstance(value, bytes)


def _hash(value: Value) -> bool:
    return isinstance(value, bytes) and len(value) == 32


def _none(value: Value) -> bool:
    return value is None


def _or_none(test: Test) -> Test:
    return lambda value: value is None or test(value)


def _word(*words: Value) -> Test:
    return lambda value: value in words


_STAGES = ("prompt", "partial", "final", "code", "document")
_ACTIONS = ("allow", "log", "warn", "block", "unchecked")
_STATUSES = ("streaming", "done", "stopped", "interrupted", "blocked", "cut", "error")

# Column tests in the order of schema.py. Rows with a rowid begin with NULL, their id's alias.
_TABLES: dict[str, tuple[Test, ...]] = {
    "user": (
        *(_none, _text, _word("owner", "user", "guest"), _or_none(_text)),
        *(_or_none(_integer), _integer, _or_none(_integer)),
    ),
    "conversation": (
        *(_none, _text, _integer, _text, _text, _or_none(_integer), _integer, _integer),
        *(_word(0, 1), _or_none(_integer), _or_none(_integer), _text, _text),
    ),
    "message": (
        *(_none, _integer, _integer, _or_none(_integer), _word("system", "user", "assistant")),
        *(_word(*_STATUSES), _text, _text, _or_none(_text), _integer, _integer),
        _or_none(_integer),
    ),
    "verdict": (
        *(_none, _integer, _word(*_STAGES), _text, _text),
        *(_word(*_ACTIONS), _number, _text, _number, _text),
        *(_text, _text, _integer, _number, _integer, _text),
    ),
    "safety_event": (
        *(_none, _integer, _integer, _integer, _word(*_STAGES), _text, _text, _text),
        *(_word(*_ACTIONS), _word("shown", "withheld", "overridden", "appealed"), _text),
        *(_number, _number, _number, _text, _text, _integer, _number, _text),
    ),
    "withheld": (_none, _text, _integer),
    "model": (_none, _text, _text),
    "generation": (
        *(_none, _integer, _integer, _text, _text, _text, _text),
        *(_integer, _integer, _integer, _integer, _number, _number, _number, _number),
        *(_text, _text, _integer, _blob, _integer, _text, _integer, _integer),
    ),
    "saved": (
        *(_none, _integer, _word("prompt", "persona", "sampling"), _text, _text, _text),
        _integer,
    ),
    "feedback": (_none, _word(-1, 0, 1), _text, _integer),
    "comparison": (
        *(_none, _integer, _integer, _integer, _integer, _integer, _word(0, 1)),
        *(_or_none(_integer), _or_none(_integer), _text, _integer),
    ),
    "audit": (_none, _integer, _or_none(_integer), _text, _text, _text, _hash, _hash),
}
_WITHOUT_ROWID: dict[str, tuple[Test, ...]] = {
    "setting": (_integer, _text, _text),
    "message_chunk": (_integer, _integer, _text),
    "usage_day": (_integer, _text, _integer, _integer, _integer),
    "session": (_hash, _integer, _integer, _integer, _integer, _text),
}

_AFTER_MESSAGES = (
    *("message_chunk", "model", "verdict", "generation", "setting", "usage_day"),
    *("saved", "feedback", "comparison", "safety_event", "withheld"),
)


def salvage(damaged: Path, backup: Path | None, db: Database) -> Kept:
    """Fill `db`, new and migrated, from `damaged` and, with what that lost, from `backup`."""
    found, num_broken = _from_pages(damaged)
    before = len(found["message"])
    if backup is not None:
        _add_from_backup(backup, found)
    added = len(found["message"]) - before
    db.conn.execute("BEGIN IMMEDIATE")
    try:
        _load(db, found)
        db.conn.execute("COMMIT")
    except BaseException:
        if db.conn.in_transaction:
            db.conn.execute("ROLLBACK")
        raise
    return Kept(_count(db, "conversation"), _count(db, "message"), added, num_broken)


def _from_pages(path: Path) -> tuple[Found, int]:
    pages = Pages.read(path)
    found: Found = {table: {} for table in (*_TABLES, *_WITHOUT_ROWID)}
    for rowid, values in pages.rows():
        for table, tests in (_WITHOUT_ROWID if rowid is None else _TABLES).items():
            if _fits(values, tests):
                row = values if rowid is None else [rowid, *values[1:]]
                found[table][_key(table, row)] = row
    return found, pages.num_broken


def _add_from_backup(path: Path, found: Found) -> None:
    purged = {row[4] for row in found["audit"].values() if row[3] == "purge"}
    db = connect(path, "immutable")
    try:
        for table in found:
            place = {"conversation": 0, "message": 2}.get(table)
            for values in db.execute(f"SELECT * FROM {table}"):
                row = list(values)
                if place is None or str(row[place]) not in purged:
                    found[table].setdefault(_key(table, row), row)
    finally:
        db.close()


def _load(db: Database, found: Found) -> None:
    for row in found["user"].values():
        _insert(db, "user", row, verb="INSERT OR REPLACE")
    users = {row[0] for row in db.execute("SELECT id FROM user")}
    messages = [row for _, row in sorted(found["message"].items()) if row[1] in users]
    for row in _conversations(found, messages):
        _insert(db, "conversation", row)
    _load_messages(db, messages)
    for table in _AFTER_MESSAGES:
        for row in found[table].values():
            _insert(db, table, row)
    for _, row in sorted(found["audit"].items()):
        _insert(db, "audit", row)
    for row in found["session"].values():
        _insert(db, "session", row)
    _settle_status(db, messages)
    _choose_leaves(db, found)
    _index(db)


def _conversations(found: Found, messages: list[Row]) -> Iterable[Row]:
    """Rows for `conversation`, without a leaf as yet; made up for messages that lost theirs."""
    rows = {key: [*row[:5], None, *row[6:]] for key, row in found["conversation"].items()}
    for message in messages:
        _, user_id, conversation_id, *_, created_at, _, _ = message
        if conversation_id not in rows:
            key = secrets.token_urlsafe(16)
            rows[conversation_id] = [
                *(conversation_id, key, user_id, RECOVERED_TITLE, "", None),
                *(created_at, created_at, 0, None, None, "{}", "[]"),
            ]
    return rows.values()


def _load_messages(db: Database, messages: list[Row]) -> None:
    home = {row[0]: row[2] for row in messages}
    for row in messages:
        message = list(row)
        if home.get(row[3]) != row[2]:
            message[3] = None  # its parent is lost
        if row[4] == "assistant" and row[5] == "done":
            message[5] = "interrupted"  # until its verdict is there
        if not _insert(db, "message", message):
            message[8] = None  # a client key that damage made double
            _insert(db, "message", message)


def _settle_status(db: Database, messages: list[Row]) -> None:
    for row in messages:
        if row[4] == "assistant" and row[5] == "done":
            # Without its verdict the trigger refuses: the reply stays 'interrupted'.
            with suppress(sqlite3.IntegrityError):
                db.execute("UPDATE message SET status = 'done' WHERE id = ?", (row[0],))


def _choose_leaves(db: Database, found: Found) -> None:
    for (conversation_id,) in db.execute("SELECT id FROM conversation").fetchall():
        known = found["conversation"].get(conversation_id)
        db.execute(
            "UPDATE conversation SET active_leaf_id = coalesce("
            "(SELECT id FROM message WHERE conversation_id = conversation.id AND id = ?),"
            "(SELECT max(id) FROM message WHERE conversation_id = conversation.id)) WHERE id = ?",
            (known[5] if known else None, conversation_id),
        )


def _index(db: Database) -> None:
    for row in db.execute(
        "SELECT id, user_id, conversation_id, content, updated_at FROM message "
        "WHERE status <> 'streaming' ORDER BY id"
    ).fetchall():
        search.index_message(
            db,
            message_id=row[0],
            user_id=row[1],
            conversation_id=row[2],
            content=row[3],
            at=row[4],
        )
    for user_id, key in db.execute("SELECT user_id, key FROM conversation ORDER BY id").fetchall():
        found = conversations.get(db, user_id, key)
        search.index_title(db, found, found.updated_at)


def _insert(db: Database, table: str, row: Row, *, verb: str = "INSERT") -> bool:
    """Insert a row as it is; False if the new database's rules refuse it."""
    marks = ", ".join("?" for _ in row)
    try:
        db.execute(f"{verb} INTO {table} VALUES ({marks})", row)
    except sqlite3.IntegrityError:
        return False
    return True


def _fits(values: Row, tests: tuple[Test, ...]) -> bool:
    return len(values) == len(tests) and all(
        test(value) for test, value in zip(tests, values, strict=True)
    )


def _key(table: str, row: Row) -> Value | tuple[Value, ...]:
    return row[0] if table in _TABLES else tuple(row[:2])


def _count(db: Database, table: str) -> int:
    return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
