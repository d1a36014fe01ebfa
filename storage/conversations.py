"""Threads: create, list, rename, pin, trash, restore, purge. Functions over an open database.

Those that write run on the writer's thread inside a transaction; `store.py` calls them.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any

from storage import audit, search
from storage.clock import now
from storage.connection import Database
from storage.evidence import mapping
from storage.records import Conflict, Conversation, NotFound
from storage.text import well_formed

_COLUMNS = (
    "id, key, user_id, title, system_prompt, active_leaf_id, created_at, updated_at, "
    "pinned, archived_at, trashed_at, choices"
)
_MILLISECONDS_A_DAY = 86_400_000


def create(
    db: Database,
    user_id: int,
    title: str,
    system_prompt: str,
    choices: Mapping[str, object] | None = None,
) -> Conversation:
    at = now()
    key = secrets.token_urlsafe(16)
    title = well_formed(title)
    inserted = db.execute(
        "INSERT INTO conversation (key, user_id, title, system_prompt, created_at, updated_at, "
        "choices) SELECT ?, id, ?, ?, ?, ?, ? FROM user WHERE id = ?",
        (key, title, well_formed(system_prompt), at, at, _json(choices or {}), user_id),
    )
    if inserted.rowcount != 1:
        raise NotFound("There is no such user.")
    made = get(db, user_id, key)
    search.index_title(db, made, at)
    return made


def get(db: Database, user_id: int, key: str) -> Conversation:
    """The user's conversation. Raises `NotFound` for a foreign one as for none at all."""
    row = db.execute(
        f"SELECT {_COLUMNS} FROM conversation WHERE key = ? AND user_id = ?",
        (well_formed(key), user_id),
    ).fetchone()
    if row is None:
        raise NotFound("This conversation does not exist any more. Choose another on the left.")
    return _conversation(row)


def get_open(db: Database, user_id: int, key: str) -> Conversation:
    """As `get`, but not one that lies in the trash."""
    found = get(db, user_id, key)
    if found.trashed_at is not None:
        raise Conflict("This conversation is in the trash. Restore it to go on.")
    return found


def listed(
    db: Database, user_id: int, *, trashed: bool, limit: int, offset: int
) -> list[Conversation]:
    """Pinned first, then by last turn; the trash by when things were thrown away."""
    where, order = (
        ("trashed_at IS NOT NULL", "trashed_at DESC, id DESC")
        if trashed
        else ("trashed_at IS NULL", "pinned DESC, updated_at DESC, id DESC")
    )
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM conversation WHERE user_id = ? AND {where} "
        f"ORDER BY {order} LIMIT ? OFFSET ?",
        (user_id, limit, offset),
    )
    return [_conversation(row) for row in rows]


def rename(db: Database, user_id: int, key: str, title: str) -> Conversation:
    renamed = _set(db, user_id, key, "title", well_formed(title))
    search.index_title(db, renamed, renamed.updated_at)
    return renamed


def pin(db: Database, user_id: int, key: str, pinned: bool) -> Conversation:
    return _set(db, user_id, key, "pinned", int(pinned))


def choose(
    db: Database, user_id: int, key: str, system_prompt: str, choices: Mapping[str, object]
) -> Conversation:
    _set(db, user_id, key, "system_prompt", well_formed(system_prompt))
    return _set(db, user_id, key, "choices", _json(choices))


def trash(db: Database, user_id: int, key: str) -> Conversation:
    found = get(db, user_id, key)
    if found.trashed_at is not None:
        return found
    return _set(db, user_id, key, "trashed_at", now())


def restore(db: Database, user_id: int, key: str) -> Conversation:
    return _set(db, user_id, key, "trashed_at", None)


def purge(db: Database, user_id: int, key: str) -> None:
    """Remove a conversation and all that hangs on it.

    Freed pages are zeroed (`secure_delete`); the index's words and the WAL are `health`'s part.
    """
    found = get(db, user_id, key)
    db.execute("DELETE FROM search_entry WHERE conversation_id = ?", (found.id,))
    db.execute("DELETE FROM conversation WHERE id = ?", (found.id,))
    audit.record(db, user_id, "purge", str(found.id), "")  # so that a salvage leaves it gone


def expired(db: Database, older_than_days: int) -> list[tuple[int, str]]:
    """(user id, key) of what has lain in the trash for longer."""
    limit = now() - older_than_days * _MILLISECONDS_A_DAY
    rows = db.execute(
        "SELECT user_id, key FROM conversation WHERE trashed_at IS NOT NULL AND trashed_at <= ?",
        (limit,),
    )
    return [(row[0], row[1]) for row in rows]


def _set(db: Database, user_id: int, key: str, column: str, value: object) -> Conversation:
    found = get(db, user_id, key)
    db.execute(f"UPDATE conversation SET {column} = ? WHERE id = ?", (value, found.id))
    return get(db, user_id, key)


def _conversation(row: Any) -> Conversation:
    return Conversation(*(*row[:8], bool(row[8]), *row[9:11], mapping(row[11])))


def _json(choices: Mapping[str, object]) -> str:
    return well_formed(json.dumps(dict(choices), ensure_ascii=False, separators=(",", ":")))
