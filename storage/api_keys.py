"""Keys of the API, without the keys: what each is called and may do, by its SHA-256.

`People` holds them for the app.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from storage import accounts, audit
from storage.clock import now
from storage.connection import Database
from storage.records import NotFound
from storage.text import well_formed

_COLUMNS = "id, user_id, name, hint, scopes, created_at, used_at"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key of the API, without the key."""

    id: int
    user_id: int
    name: str
    hint: str
    scopes: tuple[str, ...]
    created_at: int
    used_at: int | None


def add(
    db: Database, user_id: int, key_sha256: bytes, name: str, hint: str, scopes: Sequence[str]
) -> int:
    """Keep a key; its id."""
    accounts.user(db, user_id)
    row = db.execute(
        "INSERT INTO api_key (user_id, name, hint, scopes, key_sha256, created_at) "
        "VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
        (user_id, well_formed(name)[:80], hint, json.dumps(list(scopes)), key_sha256, now()),
    ).fetchone()
    audit.record(db, user_id, "key_new", str(row[0]), " ".join(scopes))
    return int(row[0])


def of_user(db: Database, user_id: int) -> list[ApiKey]:
    """The keys of an account, oldest first."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM api_key WHERE user_id = ? ORDER BY id", (user_id,)
    ).fetchall()
    return [_key(row) for row in rows]


def find(db: Database, key_sha256: bytes) -> ApiKey | None:
    """The key with that digest, if its account is not disabled."""
    row = db.execute(
        f"SELECT {_COLUMNS} FROM api_key WHERE key_sha256 = ? AND user_id IN "
        "(SELECT id FROM user WHERE disabled_at IS NULL)",
        (key_sha256,),
    ).fetchone()
    return None if row is None else _key(row)


def mark_used(db: Database, key_id: int) -> None:
    """Note that a key is in use."""
    db.execute("UPDATE api_key SET used_at = ? WHERE id = ?", (now(), key_id))


def revoke(db: Database, user_id: int, key_id: int) -> None:
    """End a key of this account. Raises `NotFound`."""
    found = db.execute(
        "DELETE FROM api_key WHERE id = ? AND user_id = ? RETURNING id", (key_id, user_id)
    ).fetchall()
    if not found:
        raise NotFound("There is no such key.")
    audit.record(db, user_id, "key_revoke", str(key_id), "")


def _key(row: tuple[object, ...]) -> ApiKey:
    values = dict(zip(_COLUMNS.split(", "), row, strict=True))
    return ApiKey(**{**values, "scopes": tuple(json.loads(str(values["scopes"])))})  # type: ignore[arg-type]  # columns as typed in the table
