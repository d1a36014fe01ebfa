"""Every way into this Corral, as the dialog People opens and closes them."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from app.accounts import TOKEN_BYTES, Accounts, digest
from app.api.keys import Keys
from app.gateway import Gateway
from app.guesses import Guesses
from app.lan import Lan
from app.passwords import PasswordRefused, Passwords
from app.routes import INVITATION
from app.share import Share
from storage.clock import now
from storage.invitations import InvitedRole
from storage.records import OWNER_ID
from storage.store import Store

INVITED_DAYS = 3
GUEST_USES = 10
_DAY = 86_400_000


@dataclass(frozen=True, slots=True)
class Doors:
    """Accounts, invitations, keys, the share link and the network. Its methods block."""

    store: Store
    port: int
    accounts: Accounts
    passwords: Passwords
    guesses: Guesses
    keys: Keys
    gateway: Gateway
    share: Share
    lan: Lan
    stop_turns: Callable[[int], None]  # of a user
    remove_person: Callable[[int], None]

    def invite(self, role: InvitedRole, note: str) -> str:
        """A new invitation: the address to send. The token in it is nowhere else."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        self.store.people.invite(
            digest(token),
            role=role,
            note=note,
            uses=GUEST_USES if role == "guest" else 1,
            expires_at=now() + INVITED_DAYS * _DAY,
        )
        return f"{self.address()}{INVITATION}#{token}"

    def address(self) -> str:
        """Where others reach this Corral now; this machine's own address if they do not."""
        for link in (self.share.view(), self.lan.view()):
            if link is not None:
                return link.address
        return f"http://127.0.0.1:{self.port}"

    def set_password(self, user_id: int, password: str, *, session: bytes = b"") -> None:
        """Give an account a password, and sign out its browsers but `session`.

        Raises `ValueError` for its length.
        """
        hashed = self.passwords.hash_now(password)
        self.store.people.set_password(user_id, hashed, keep=session)
        self.accounts.forget()

    def check_password(self, name: str, password: str) -> None:
        """That this is the account's password. Raises `PasswordRefused`; wrong ones are guesses."""
        if self.guesses.wait_seconds(name) > 0:
            raise PasswordRefused("wait")
        known = self.store.people.password_of(name)
        if not self.passwords.verify_now(known[1] if known else None, password):
            self.guesses.failed(name)
            raise PasswordRefused("wrong")
        self.guesses.succeeded(name)

    def lock_out(self, user_id: int, *, remove: bool = False) -> None:
        """Disable or remove an account: its browsers, keys, open streams and turns end now."""
        self.store.people.set_disabled(user_id, True)
        self.accounts.forget()
        self.keys.forget()
        if remove:
            self.remove_person(user_id)
        else:
            self.stop_turns(user_id)

    def switch_api(self, on: bool) -> None:
        """Let keys open the API, now and after the next start."""
        self.store.set_setting(OWNER_ID, "api", "on" if on else None)
        self.gateway.api_on = on
        self.keys.forget()

    def close(self) -> None:
        """End every link."""
        self.share.stop()
        self.lan.stop()
