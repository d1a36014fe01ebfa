"""The store on users: their settings, what they used, and their signed-in browsers."""

from __future__ import annotations

from storage import accounts
from storage.accounts import NEVER_IDLE, Usage
from storage.methods.access import Access
from storage.records import User


class UserMethods(Access):
    """What every request asks of its user; `storage.people` has the rest. All methods block."""

    def user(self, user_id: int) -> User:
        """A user who may sign in."""
        with self._readers.snapshot() as db:
            return accounts.user(db, user_id)

    def setting(self, user_id: int, name: str) -> str | None:
        """A user's setting, None if it was never set."""
        with self._readers.snapshot() as db:
            return accounts.setting(db, user_id, name)

    def settings(self, user_id: int) -> dict[str, str]:
        """All of a user's settings."""
        with self._readers.snapshot() as db:
            return accounts.settings(db, user_id)

    def set_setting(self, user_id: int, name: str, value: str | None) -> None:
        """Keep a user's setting; None removes it."""
        self._writer.call(lambda db: accounts.set_setting(db, user_id, name, value))

    def usage(self, user_id: int, day: str) -> Usage:
        """What a user's turns cost on a day, written 2026-01-31, in UTC."""
        with self._readers.snapshot() as db:
            return accounts.usage(db, user_id, day)

    def add_session(
        self, token_sha256: bytes, user_id: int, expires_at: int, agent: str = ""
    ) -> None:
        """Keep a signed-in browser: the SHA-256 of its token and when it ends (ms, UTC)."""
        self._writer.call(
            lambda db: accounts.add_session(db, token_sha256, user_id, expires_at, agent)
        )

    def session_user(
        self, token_sha256: bytes, *, idle_milliseconds: int = NEVER_IDLE
    ) -> User | None:
        """Whose session this is; None if it is unknown, expired, idle too long or revoked.

        `idle_milliseconds` is how long a session may go unseen (to within five minutes).
        """
        with self._readers.snapshot() as db:
            found = accounts.session_user(db, token_sha256, idle_milliseconds)
        if found is None:
            return None
        user, stale = found
        if stale and self._write_thread is not None:
            self._write_thread.submit(lambda db: accounts.mark_seen(db, token_sha256))
        return user

    def revoke_session(self, token_sha256: bytes) -> None:
        """Sign a browser out."""
        self._writer.call(lambda db: accounts.revoke_session(db, token_sha256))

    def revoke_sessions(self, user_id: int) -> None:
        """Sign all of a user's browsers out."""
        self._writer.call(lambda db: accounts.revoke_sessions(db, user_id))
