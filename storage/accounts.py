"""Users, sessions, settings and daily usage. Functions over an open database.

Session tokens are kept as their SHA-256 alone; passwords as the hash that the caller made.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage.clock import now
from storage.connection import Database
from storage.records import NotFound, User
from storage.text import well_formed

NEVER_IDLE = 2**62  # milliseconds
SEEN_EVERY_MILLISECONDS = 300_000  # `seen_at` is exact to five minutes: not a write per request


@dataclass(frozen=True, slots=True)
class Usage:
    """What a user's turns cost on one day (UTC): requests, prompt tokens, new tokens."""

    day: str
    num_requests: int = 0
    num_prompt: int = 0
    num_new: int = 0


def user(db: Database, user_id: int) -> User:
    row = db.execute(
        "SELECT id, name, role FROM user WHERE id = ? AND disabled_at IS NULL", (user_id,)
    ).fetchone()
    if row is None:
        raise NotFound("There is no such user.")
    return User(*row)


def add_session(
    db: Database, token_sha256: bytes, user_id: int, expires_at: int, agent: str
) -> None:
    user(db, user_id)
    at = now()
    db.execute("DELETE FROM session WHERE expires_at <= ?", (at,))
    db.execute(
        "INSERT INTO session (token_sha256, user_id, created_at, seen_at, expires_at, agent) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (token_sha256, user_id, at, at, expires_at, well_formed(agent)[:300]),
    )


def session_user(
    db: Database, token_sha256: bytes, idle_milliseconds: int
) -> tuple[User, bool] | None:
    """Whose valid session this is, and whether `seen_at` is due for an update.

    A session that was not seen for `idle_milliseconds` has ended.
    """
    at = now()
    row = db.execute(
        "SELECT u.id, u.name, u.role, s.seen_at FROM session AS s JOIN user AS u "
        "ON u.id = s.user_id WHERE s.token_sha256 = ? AND s.expires_at > ? AND s.seen_at > ? "
        "AND u.disabled_at IS NULL",
        (token_sha256, at, at - idle_milliseconds),
    ).fetchone()
    if row is None:
        return None
    return User(*row[:3]), at - row[3] > SEEN_EVERY_MILLISECONDS


def mark_seen(db: Database, token_sha256: bytes) -> None:
    db.execute("UPDATE session SET seen_at = ? WHERE token_sha256 = ?", (now(), token_sha256))


def revoke_session(db: Database, token_sha256: bytes) -> None:
    db.execute("DELETE FROM session WHERE token_sha256 = ?", (token_sha256,))


def revoke_sessions(db: Database, user_id: int) -> None:
    db.execute("DELETE FROM session WHERE user_id = ?", (user_id,))


def setting(db: Database, user_id: int, name: str) -> str | None:
    row = db.execute(
        "SELECT value FROM setting WHERE user_id = ? AND name = ?", (user_id, well_formed(name))
    ).fetchone()
    return None if row is None else str(row[0])


def settings(db: Database, user_id: int) -> dict[str, str]:
    return dict(db.execute("SELECT name, value FROM setting WHERE user_id = ?", (user_id,)))


def set_setting(db: Database, user_id: int, name: str, value: str | None) -> None:
    """Keep a setting; None removes it, also where the account is disabled."""
    name = well_formed(name)
    if value is None:
        db.execute("DELETE FROM setting WHERE user_id = ? AND name = ?", (user_id, name))
        return
    user(db, user_id)
    db.execute(
        "INSERT INTO setting (user_id, name, value) VALUES (?, ?, ?) "
        "ON CONFLICT (user_id, name) DO UPDATE SET value = excluded.value",
        (user_id, name, well_formed(value)),
    )


def usage(db: Database, user_id: int, day: str) -> Usage:
    row = db.execute(
        "SELECT num_requests, num_prompt, num_new FROM usage_day WHERE user_id = ? AND day = ?",
        (user_id, day),
    ).fetchone()
    return Usage(day, *row) if row else Usage(day)


def add_usage(db: Database, user_id: int, *, num_prompt: int, num_new: int) -> None:
    db.execute(
        "INSERT INTO usage_day (user_id, day, num_requests, num_prompt, num_new) "
        "VALUES (?, date('now'), 1, ?, ?) ON CONFLICT (user_id, day) DO UPDATE SET "
        "num_requests = num_requests + 1, num_prompt = num_prompt + excluded.num_prompt, "
        "num_new = num_new + excluded.num_new",
        (user_id, num_prompt, num_new),
    )
