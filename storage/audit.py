"""The audit: who did what to which object, append-only and hash-chained. It holds no text.

Triggers refuse changes and deletions. Each row's hash covers the row and the hash before it, ids
are consecutive, and SQLite's own sequence remembers the last one: a row that was altered, removed
or cut off at the end behind the triggers' back shows.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from storage.clock import now
from storage.connection import Database
from storage.text import well_formed

_START = bytes(32)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line: `actor` is a user id or None for Corral itself."""

    id: int
    at: int
    actor: int | None
    action: str
    target: str
    detail: str


def record(db: Database, actor: int | None, action: str, target: str, detail: str) -> None:
    last = db.execute("SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1").fetchone()
    entry = AuditEntry(
        _last_id(db) + 1,
        now(),
        actor,
        well_formed(action),
        well_formed(target),
        well_formed(detail),
    )
    previous = last[1] if last else _START
    db.execute(
        "INSERT INTO audit (id, at, actor, action, target, detail, previous, hash) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (*_fields(entry), previous, _hash(entry, previous)),
    )


def newest(db: Database, limit: int) -> list[AuditEntry]:
    rows = db.execute(
        "SELECT id, at, actor, action, target, detail FROM audit ORDER BY id DESC LIMIT ?",
        (limit,),
    )
    return [AuditEntry(*row) for row in rows]


def intact(db: Database) -> bool:
    """Whether the chain holds from the first row to the last that was ever written."""
    previous, count = _START, 0
    for row in db.execute(
        "SELECT id, at, actor, action, target, detail, previous, hash FROM audit ORDER BY id"
    ):
        entry, count = AuditEntry(*row[:6]), count + 1
        if entry.id != count or row[6] != previous or row[7] != _hash(entry, previous):
            return False
        previous = row[7]
    return count == _last_id(db)


def _last_id(db: Database) -> int:
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'audit'").fetchone()
    return int(row[0]) if row else 0


def _hash(entry: AuditEntry, previous: bytes) -> bytes:
    line = json.dumps(_fields(entry), ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(previous + line.encode()).digest()


def _fields(entry: AuditEntry) -> tuple[object, ...]:
    return (entry.id, entry.at, entry.actor, entry.action, entry.target, entry.detail)
