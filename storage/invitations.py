"""Invitations: links that let a number of people make accounts, until a time.

Tokens are kept as their SHA-256 alone. `People` holds them for the app.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from storage import audit
from storage.clock import now
from storage.connection import Database
from storage.records import OWNER_ID, Conflict, NotFound, User
from storage.text import well_formed

InvitedRole = Literal["user", "guest"]


@dataclass(frozen=True, slots=True)
class Invitation:
    """A link that still lets `num_left` people in. `id` is the digest of its token, in hex."""

    id: str
    role: InvitedRole
    note: str
    num_left: int
    created_at: int
    expires_at: int


def invite(
    db: Database, token_sha256: bytes, role: InvitedRole, note: str, uses: int, expires_at: int
) -> None:
    """Keep an invitation; those that let nobody in any more go."""
    db.execute("DELETE FROM invitation WHERE expires_at <= ? OR num_left = 0", (now(),))
    db.execute(
        "INSERT INTO invitation VALUES (?, ?, ?, ?, ?, ?)",
        (token_sha256, role, well_formed(note)[:80], uses, now(), expires_at),
    )
    audit.record(db, OWNER_ID, "invite", role, str(uses))


def usable(db: Database) -> list[Invitation]:
    """Those that still let somebody in, newest first."""
    rows = db.execute(
        "SELECT lower(hex(token_sha256)), role, note, num_left, created_at, expires_at "
        "FROM invitation WHERE num_left > 0 AND expires_at > ? ORDER BY created_at DESC",
        (now(),),
    ).fetchall()
    return [Invitation(*row) for row in rows]


def accept(db: Database, token_sha256: bytes, name: str, password_hash: str | None) -> User:
    """Make the account that an invitation allows, using it up by one."""
    row = db.execute(
        "UPDATE invitation SET num_left = num_left - 1 "
        "WHERE token_sha256 = ? AND num_left > 0 AND expires_at > ? RETURNING role",
        (token_sha256, now()),
    ).fetchone()
    if row is None:
        raise NotFound("This invitation was used up, withdrawn, or is too old.")
    role = row[0]
    if role == "user" and password_hash is None:
        raise Conflict("An account needs a password.")
    name = well_formed(name)
    if db.execute("SELECT 1 FROM user WHERE name = ?", (name,)).fetchone():
        raise Conflict("That name is taken.")
    made = db.execute(
        "INSERT INTO user (name, role, password_hash, created_at) VALUES (?, ?, ?, ?) RETURNING id",
        (name, role, password_hash if role == "user" else None, now()),
    ).fetchone()
    audit.record(db, None, "user_new", str(made[0]), role)
    return User(int(made[0]), name, role)


def withdraw(db: Database, token_sha256: bytes) -> None:
    """End an invitation."""
    db.execute("DELETE FROM invitation WHERE token_sha256 = ?", (token_sha256,))
