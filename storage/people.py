"""People and how they get in: accounts, invitations, their browsers and their API keys.

Functions over an open database; `People` is what the app holds (`Store.people`). Tokens and keys
are kept as their SHA-256 alone, passwords as the hash that the caller made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from storage import accounts, api_keys, audit, conversations, invitations
from storage.api_keys import ApiKey
from storage.clock import now
from storage.connection import Database, Readers
from storage.invitations import Invitation, InvitedRole
from storage.records import OWNER_ID, Conflict, NotFound, User
from storage.text import well_formed
from storage.writer import Writer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Person:
    """An account as the owner sees it. Times are milliseconds since 1970."""

    id: int
    name: str
    role: Literal["owner", "user", "guest"]
    has_password: bool
    daily_token_quota: int | None
    created_at: int
    disabled_at: int | None
    num_tokens_today: int


@dataclass(frozen=True, slots=True)
class SessionView:
    """A signed-in browser. `id` is the digest of its token, in hex."""

    id: str
    created_at: int
    seen_at: int
    expires_at: int
    agent: str


class People:
    """The store's part for accounts. All methods block; safe to call from any thread.

    Raises `NotFound` for what is not there, `Conflict` for a name that is taken, and whatever else
    `StorageError` covers.
    """

    def __init__(self, readers: Readers, writer: Writer | None) -> None:
        self._readers = readers
        self._write = writer

    # Accounts

    def everybody(self) -> list[Person]:
        """All accounts, the owner first."""
        with self._readers.snapshot() as db:
            return _everybody(db)

    def role(self, user_id: int) -> str:
        """The role of an account that is not disabled."""
        with self._readers.snapshot() as db:
            return accounts.user(db, user_id).role

    def is_guest(self, user_id: int) -> bool:
        """Whether this is the account of a guest."""
        with self._readers.snapshot() as db:
            row = db.execute("SELECT role FROM user WHERE id = ?", (user_id,)).fetchone()
        return row is not None and row[0] == "guest"

    def password_of(self, name: str) -> tuple[User, str] | None:
        """The account of that name and its password's hash; None without either."""
        with self._readers.snapshot() as db:
            row = db.execute(
                "SELECT id, name, role, password_hash FROM user "
                "WHERE name = ? AND disabled_at IS NULL AND password_hash IS NOT NULL",
                (well_formed(name),),
            ).fetchone()
        return None if row is None else (User(*row[:3]), str(row[3]))

    def has_passwords(self) -> bool:
        """Whether anybody can sign in with a password."""
        with self._readers.snapshot() as db:
            found = db.execute(
                "SELECT 1 FROM user WHERE password_hash IS NOT NULL AND disabled_at IS NULL"
            ).fetchone()
        return found is not None

    def set_password(self, user_id: int, password_hash: str, *, keep: bytes = b"") -> None:
        """Give an account a password, in place of the one it has.

        Signs its browsers out, but for the session with the digest `keep`: whoever got in with the
        old password is out.
        """

        def change(db: Database) -> None:
            _update(db, user_id, "password_hash", password_hash, audited="password")
            db.execute(
                "DELETE FROM session WHERE user_id = ? AND token_sha256 != ?", (user_id, keep)
            )

        self._call(change)

    def set_quota(self, user_id: int, tokens: int | None) -> None:
        """Limit what an account may use on one day (UTC), prompt and reply together."""
        self._call(lambda db: _update(db, user_id, "daily_token_quota", tokens, audited="quota"))

    def set_disabled(self, user_id: int, disabled: bool) -> None:
        """Lock an account out, signing its browsers out, or let it in again. Not the owner."""
        self._call(lambda db: _set_disabled(db, user_id, disabled))

    def remove(self, user_id: int) -> None:
        """Remove an account and its words, not the owner; `Store.remove_person` does the rest."""
        self._call(lambda db: _remove(db, user_id))

    def guests_gone(self, *, idle_milliseconds: int) -> list[int]:
        """Guests without a session that could still be used: their time is over."""
        with self._readers.snapshot() as db:
            rows = db.execute(
                "SELECT u.id FROM user AS u WHERE u.role = 'guest' AND NOT EXISTS (SELECT 1 FROM "
                "session AS s WHERE s.user_id = u.id AND s.expires_at > ?1 AND s.seen_at > ?2)",
                (now(), now() - idle_milliseconds),
            ).fetchall()
        return [int(row[0]) for row in rows]

    def tokens_left(self, user_id: int) -> int | None:
        """How much of today's quota is left; None without a quota."""
        with self._readers.snapshot() as db:
            return _tokens_left(db, user_id)

    def add_usage(self, user_id: int, *, num_prompt: int, num_new: int) -> None:
        """Count a call that stored no message."""
        self._call(
            lambda db: accounts.add_usage(db, user_id, num_prompt=num_prompt, num_new=num_new)
        )

    # Invitations

    def invite(
        self, token_sha256: bytes, *, role: InvitedRole, note: str, uses: int, expires_at: int
    ) -> None:
        """Keep an invitation."""
        self._call(lambda db: invitations.invite(db, token_sha256, role, note, uses, expires_at))

    def invitations(self) -> list[Invitation]:
        """Those that still let somebody in, newest first."""
        with self._readers.snapshot() as db:
            return invitations.usable(db)

    def invitation(self, token_sha256: bytes) -> Invitation | None:
        """The invitation of a token, if it still lets somebody in."""
        wanted = token_sha256.hex()
        return next((each for each in self.invitations() if each.id == wanted), None)

    def accept(self, token_sha256: bytes, name: str, password_hash: str | None) -> User:
        """Make the account that an invitation allows, using it up by one."""
        return self._call(lambda db: invitations.accept(db, token_sha256, name, password_hash))

    def withdraw(self, token_sha256: bytes) -> None:
        """End an invitation."""
        self._call(lambda db: invitations.withdraw(db, token_sha256))

    # Browsers

    def sessions(self, user_id: int, *, idle_milliseconds: int) -> list[SessionView]:
        """Where an account is signed in, the latest first."""
        with self._readers.snapshot() as db:
            rows = db.execute(
                "SELECT lower(hex(token_sha256)), created_at, seen_at, expires_at, agent "
                "FROM session WHERE user_id = ? AND expires_at > ? AND seen_at > ? "
                "ORDER BY seen_at DESC, created_at DESC",
                (user_id, now(), now() - idle_milliseconds),
            ).fetchall()
        return [SessionView(*row) for row in rows]

    def end_session(self, user_id: int, token_sha256: bytes) -> None:
        """Sign one browser of this account out."""

        def end(db: Database) -> None:
            db.execute(
                "DELETE FROM session WHERE token_sha256 = ? AND user_id = ?",
                (token_sha256, user_id),
            )
            audit.record(db, user_id, "session_end", "", "")

        self._call(end)

    # Keys

    def add_key(
        self, user_id: int, *, key_sha256: bytes, name: str, hint: str, scopes: Sequence[str]
    ) -> int:
        """Keep a key of the API; its id."""
        return self._call(lambda db: api_keys.add(db, user_id, key_sha256, name, hint, scopes))

    def keys(self, user_id: int) -> list[ApiKey]:
        """The keys of an account, oldest first."""
        with self._readers.snapshot() as db:
            return api_keys.of_user(db, user_id)

    def find_key(self, key_sha256: bytes) -> ApiKey | None:
        """The key with that digest, if its account is not disabled."""
        with self._readers.snapshot() as db:
            return api_keys.find(db, key_sha256)

    def mark_used(self, key_id: int) -> None:
        """Note that a key is in use."""
        self._call(lambda db: api_keys.mark_used(db, key_id))

    def revoke_key(self, user_id: int, key_id: int) -> None:
        """End a key of this account."""
        self._call(lambda db: api_keys.revoke(db, user_id, key_id))

    def _call(self, change: Callable[[Database], T]) -> T:
        assert self._write is not None, "this store was opened for reading only"
        return self._write.call(change)


_PERSON = tuple(Person.__dataclass_fields__)
_DAY_TOKENS = (
    "coalesce((SELECT num_prompt + num_new FROM usage_day "
    "WHERE user_id = u.id AND day = date('now')), 0)"
)


def _everybody(db: Database) -> list[Person]:
    rows = db.execute(
        "SELECT u.id, u.name, u.role, u.password_hash IS NOT NULL, u.daily_token_quota, "
        f"u.created_at, u.disabled_at, {_DAY_TOKENS} FROM user AS u ORDER BY u.id"
    )
    return [
        Person(**{**dict(zip(_PERSON, row, strict=True)), "has_password": bool(row[3])})
        for row in rows
    ]


def _tokens_left(db: Database, user_id: int) -> int | None:
    row = db.execute(
        f"SELECT daily_token_quota - {_DAY_TOKENS} FROM user AS u WHERE u.id = ?", (user_id,)
    ).fetchone()
    if row is None:
        raise NotFound("There is no such user.")
    return None if row[0] is None else max(0, int(row[0]))


def _update(db: Database, user_id: int, column: str, value: object, *, audited: str) -> None:
    accounts.user(db, user_id)
    db.execute(f"UPDATE user SET {column} = ? WHERE id = ?", (value, user_id))
    audit.record(db, None, audited, str(user_id), "")


def _not_owner(user_id: int) -> None:
    if user_id == OWNER_ID:
        raise Conflict("The owner's account stays.")


def _set_disabled(db: Database, user_id: int, disabled: bool) -> None:
    _not_owner(user_id)
    found = db.execute(
        "UPDATE user SET disabled_at = ? WHERE id = ? RETURNING id",
        (now() if disabled else None, user_id),
    ).fetchall()
    if not found:
        raise NotFound("There is no such user.")
    if disabled:
        accounts.revoke_sessions(db, user_id)
    audit.record(db, OWNER_ID, "user_disable" if disabled else "user_enable", str(user_id), "")


def _remove(db: Database, user_id: int) -> None:
    _not_owner(user_id)
    keys = db.execute("SELECT key FROM conversation WHERE user_id = ?", (user_id,)).fetchall()
    for (key,) in keys:
        conversations.purge(db, user_id, key)
    found = db.execute("DELETE FROM user WHERE id = ? RETURNING id", (user_id,)).fetchall()
    if not found:
        raise NotFound("There is no such user.")
    audit.record(db, None, "user_remove", str(user_id), "")
