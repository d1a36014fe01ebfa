"""Threads: create, list, rename, pin, trash, restore, purge. Functions over an open database.

Those that write run on the writer's thread inside a transaction; `store.py` calls them.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from storage import accounts, audit, search
from storage.clock import now
from storage.connection import Database
from storage.evidence import mapping
from storage.records import Conflict, Conversation, NotFound, Shelf
from storage.text import well_formed

_COLUMNS = (
    "id, key, user_id, title, system_prompt, active_leaf_id, created_at, updated_at, "
    "pinned, archived_at, trashed_at, choices, tags"
)
_MILLISECONDS_A_DAY = 86_400_000
MAX_TAGS, MAX_TAG_CHARS = 20, 40
_SHELVES: dict[Shelf, str] = {
    "open": "trashed_at IS NULL AND archived_at IS NULL",
    "archive": "trashed_at IS NULL AND archived_at IS NOT NULL",
    "trash": "trashed_at IS NOT NULL",
}
_BY_DATE = "pinned DESC, updated_at DESC, id DESC"
_ORDER: dict[Shelf, str] = {
    "open": _BY_DATE,
    "archive": _BY_DATE,
    "trash": "trashed_at DESC, id DESC",
}
_TAGGED = "(? = '' OR EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?))"


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
    db: Database, user_id: int, *, shelf: Shelf, tag: str, limit: int, offset: int
) -> list[Conversation]:
    """Pinned first, then by last turn; the trash by when things were thrown away."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM conversation WHERE user_id = ? AND {_SHELVES[shelf]} "
        f"AND {_TAGGED} ORDER BY {_ORDER[shelf]} LIMIT ? OFFSET ?",
        (user_id, tag, tag, limit, offset),
    )
    return [_conversation(row) for row in rows]


def dates(db: Database, user_id: int, *, shelf: Shelf, tag: str) -> list[tuple[bool, int]]:
    """(pinned, last turn in ms) of all that `listed` would give, in its order."""
    rows = db.execute(
        f"SELECT pinned, updated_at FROM conversation WHERE user_id = ? AND {_SHELVES[shelf]} "
        f"AND {_TAGGED} ORDER BY {_ORDER[shelf]}",
        (user_id, tag, tag),
    )
    return [(bool(pinned), at) for pinned, at in rows]


def tags(db: Database, user_id: int) -> list[str]:
    """All tags that a user gave to conversations outside the trash, by name."""
    rows = db.execute(
        "SELECT DISTINCT t.value FROM conversation AS c, json_each(c.tags) AS t "
        "WHERE c.user_id = ? AND c.trashed_at IS NULL ORDER BY t.value COLLATE NOCASE",
        (user_id,),
    )
    return [row[0] for row in rows]


def tag(db: Database, user_id: int, key: str, given: Iterable[str]) -> Conversation:
    return _set(db, user_id, key, "tags", tags_json(given))


def archive(db: Database, user_id: int, key: str, archived: bool) -> Conversation:
    return _set(db, user_id, key, "archived_at", now() if archived else None)


def tags_json(given: Iterable[object]) -> str:
    """Tags as they are kept: short words, each once, in the order given."""
    words = [" ".join(well_formed(t).split())[:MAX_TAG_CHARS] for t in given if isinstance(t, str)]
    return json.dumps([*dict.fromkeys(filter(None, words))][:MAX_TAGS], ensure_ascii=False)


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
    accounts.set_setting(db, user_id, _draft(key), None)
    db.execute("DELETE FROM search_entry WHERE conversation_id = ?", (found.id,))
    db.execute("DELETE FROM conversation WHERE id = ?", (found.id,))
    audit.record(db, user_id, "purge", str(found.id), "")  # so that a salvage leaves it gone


def draft(db: Database, user_id: int, key: str | None) -> str:
    """What was written and not sent in a conversation, or for a new one."""
    return accounts.setting(db, user_id, _draft(key)) or ""


def keep_draft(db: Database, user_id: int, key: str | None, text: str) -> None:
    if key:
        get(db, user_id, key)
    if draft(db, user_id, key) != text:
        accounts.set_setting(db, user_id, _draft(key), text or None)


def _draft(key: str | None) -> str:
    return f"draft:{key or ''}"


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
    return Conversation(*(*row[:8], bool(row[8]), *row[9:11], mapping(row[11]), _tags(row[12])))


def _tags(text: str) -> tuple[str, ...]:
    """Tags from their column; of a damaged one none."""
    try:
        found = json.loads(text)
    except ValueError:
        return ()
    return tuple(tag for tag in found if isinstance(tag, str)) if isinstance(found, list) else ()


def _json(choices: Mapping[str, object]) -> str:
    return well_formed(json.dumps(dict(choices), ensure_ascii=False, separators=(",", ":")))
