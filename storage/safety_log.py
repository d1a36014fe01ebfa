"""The safety log: what was judged, by whom, and what became of it. It holds no text.

A line outlives the message it speaks of; instead of words it keeps a keyed hash, by which only the
holder of this database can tell whether two texts were the same. Triggers refuse changes and
deletions. What the guard held back of a cut answer is kept apart, for as long as the owner asked.

Functions over an open database; `store.py` calls them.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from typing import Any

from storage.clock import now
from storage.connection import Database
from storage.records import OWNER_ID, SafetyEvent
from storage.text import well_formed

_KEY = "safety_digest_key"  # a setting of the owner
_COLUMNS = (
    *("at", "user_id", "message_id", "stage", "guard", "guard_version", "policy_version", "action"),
    *("outcome", "category", "score", "threshold", "unsafe", "scores", "reason", "upto_char"),
    *("seconds", "digest"),
)
_DAY = 86_400_000


def add(db: Database, event: SafetyEvent) -> None:
    """Write a line. `user_id` 0 is found by the message."""
    owner = event.user_id or _owner_of(db, event.message_id)
    given = {column: getattr(event, column) for column in _COLUMNS}
    given |= {
        "at": event.at or now(),
        "user_id": owner,
        "scores": json.dumps(dict(event.scores), separators=(",", ":")),
        "reason": well_formed(event.reason),
    }
    marks = ", ".join("?" for _ in _COLUMNS)
    db.execute(
        f"INSERT INTO safety_event ({', '.join(_COLUMNS)}) VALUES ({marks})",
        [given[column] for column in _COLUMNS],
    )


def newest(
    db: Database, *, user_id: int | None, limit: int, outcome: str = "", category: str = ""
) -> list[SafetyEvent]:
    """The newest lines first, of one user or of all; of one outcome or category where named."""
    rows = db.execute(
        f"SELECT id, {', '.join(_COLUMNS)} FROM safety_event WHERE (?1 IS NULL OR user_id = ?1) "
        "AND (?2 = '' OR outcome = ?2) AND (?3 = '' OR category = ?3) ORDER BY id DESC LIMIT ?4",
        (user_id, outcome, category, limit),
    )
    return [_event(row) for row in rows]


def whole_messages(db: Database, user_id: int, limit: int) -> list[SafetyEvent]:
    """The judgements of a user's newest prompts and whole answers, one each, newest first."""
    rows = db.execute(
        f"SELECT id, {', '.join(_COLUMNS)} FROM safety_event WHERE user_id = ? "
        "AND stage IN ('prompt', 'final') AND outcome IN ('shown', 'withheld') AND reason = '' "
        "ORDER BY id DESC LIMIT ?",
        (user_id, limit),
    )
    return [_event(row) for row in rows]


def digest_key(db: Database) -> bytes:
    """The key of this database's hashes, made when it is first needed."""
    row = db.execute(
        "SELECT value FROM setting WHERE user_id = ? AND name = ?", (OWNER_ID, _KEY)
    ).fetchone()
    if row is not None:
        return bytes.fromhex(row[0])
    key = secrets.token_bytes(32)
    db.execute(
        "INSERT INTO setting (user_id, name, value) VALUES (?, ?, ?)", (OWNER_ID, _KEY, key.hex())
    )
    return key


def digest(key: bytes, text: str) -> str:
    """BLAKE2b of `text` under `key`, 16 bytes in hexadecimal."""
    return hashlib.blake2b(well_formed(text).encode(), key=key, digest_size=16).hexdigest()


def keep_withheld(db: Database, message_id: int, text: str) -> None:
    """Keep what the guard held back of an answer, beside it; it is no part of the message."""
    db.execute(
        "INSERT INTO withheld (message_id, text, at) VALUES (?, ?, ?) "
        "ON CONFLICT (message_id) DO UPDATE SET text = excluded.text, at = excluded.at",
        (message_id, well_formed(text), now()),
    )


def withheld(db: Database, message_id: int) -> str:
    """What was held back of an answer, "" if nothing is kept."""
    row = db.execute("SELECT text FROM withheld WHERE message_id = ?", (message_id,)).fetchone()
    return "" if row is None else str(row[0])


def drop_withheld(db: Database, older_than_days: int) -> int:
    """Forget held-back text that is older → how many answers it was of."""
    return int(
        db.execute("DELETE FROM withheld WHERE at <= ?", (now() - older_than_days * _DAY,)).rowcount
    )


def _owner_of(db: Database, message_id: int) -> int:
    row = db.execute("SELECT user_id FROM message WHERE id = ?", (message_id,)).fetchone()
    return int(row[0]) if row else 0


def _event(row: tuple[Any, ...]) -> SafetyEvent:
    fields: dict[str, Any] = dict(zip(_COLUMNS, row[1:], strict=True))
    scores: object = json.loads(fields["scores"])
    return SafetyEvent(
        **{**fields, "scores": scores if isinstance(scores, Mapping) else {}, "id": row[0]}
    )
