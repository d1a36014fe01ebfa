"""Who a browser is: one-time launch tokens, the session cookies they are exchanged for, and users.

Only the SHA-256 of a token is ever kept. A launch token lives in memory, works once and expires
soon; a session lives in the store, ends after being idle and after an absolute time, and can be
revoked. The owner, users and guests have sessions of one kind; how they get one is `app/signin.py`.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

from storage.records import OWNER_ID, User

LAUNCH_SECONDS = 15 * 60  # time enough to copy the printed address to a browser by hand
RECHECK_SECONDS = 10.0  # how long a looked-up session is believed before the store is asked again
MAX_LAUNCH_TOKENS = 64
MAX_REMEMBERED = 1024
TOKEN_BYTES = 32
_MAX_TOKEN_CHARS = 128


class SessionStore(Protocol):
    """What accounts need of the store. Blocks; safe to call from any thread."""

    def add_session(
        self, token_sha256: bytes, user_id: int, expires_at: int, agent: str = ""
    ) -> None:
        """Keep a session until `expires_at` (milliseconds since 1970)."""
        ...

    def session_user(self, token_sha256: bytes, *, idle_milliseconds: int) -> User | None:
        """The user of an unexpired session that was in use lately, who is thereby seen."""
        ...

    def revoke_session(self, token_sha256: bytes) -> None:
        """End a session; none there is no error."""
        ...


@dataclass(frozen=True, slots=True)
class Visitor:
    """A signed-in browser: the user it acts for, and the digest of its session token."""

    user_id: int
    session: bytes
    scopes: tuple[str, ...] = ()  # what a key of the API may do; a browser has none


def cookie_name(port: int, *, secure: bool) -> str:
    """Cookies are shared by all ports of a host, so each Corral has its own.

    Over HTTPS browsers take a name with this prefix from this very host alone: the neighbours of a
    share link, other names below the same domain, cannot plant a session of theirs.
    """
    return f"__Host-corral-{port}" if secure else f"corral-{port}"


def digest(token: str) -> bytes:
    """What is kept of a token. Tokens are 256 random bits: a plain hash is enough."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


class LaunchTokens:
    """One-time tokens that open a session for the owner. Safe to call from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._expiry: OrderedDict[bytes, float] = OrderedDict()

    def issue(self) -> str:
        """A new token. Beyond `MAX_LAUNCH_TOKENS` unused ones the oldest is dropped."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        with self._lock:
            self._expiry[digest(token)] = self._clock() + LAUNCH_SECONDS
            while len(self._expiry) > MAX_LAUNCH_TOKENS:
                self._expiry.popitem(last=False)
        return token

    def redeem(self, token: str) -> bool:
        """Whether `token` was issued, is fresh and was not used before; it is used up by this."""
        if len(token) > _MAX_TOKEN_CHARS:
            return False
        given, found = digest(token), b""
        with self._lock:
            for known in self._expiry:  # every one is compared, each in constant time
                if hmac.compare_digest(known, given):
                    found = known
            return bool(found) and self._expiry.pop(found) > self._clock()


class Accounts:
    """Sessions over a store. Its methods block: call them on a thread."""

    def __init__(
        self,
        store: SessionStore,
        *,
        session_seconds: float,
        idle_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._session_seconds = session_seconds
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._lock = Lock()
        # session digest → (visitor, when the store was asked)
        self._recent: OrderedDict[bytes, tuple[Visitor, float]] = OrderedDict()
        self.launch = LaunchTokens()
        self.on_end: Callable[[], object] = lambda: None  # called when sessions have ended
        # What a second start on this data folder shows to be let in; it lies in `run.json`.
        self.secret = secrets.token_urlsafe(TOKEN_BYTES)

    def cookie(self, port: int, token: str, *, secure: bool = False) -> str:
        """The Set-Cookie header of a session; without a token, the one that takes it back.

        The browser drops it after the idle time unless it is sent anew, which the gateway does
        whenever the page is used; the store ends the session after the idle time too, and after the
        absolute one.
        """
        seconds = int(min(self._idle_seconds, self._session_seconds)) if token else 0
        # Strict survives the entrance: its own page, not the program that opened it, goes on.
        flags = f"Max-Age={seconds}; Path=/; HttpOnly; SameSite=Strict"
        name = cookie_name(port, secure=secure)
        return f"{name}={token}; {flags}; Secure" if secure else f"{name}={token}; {flags}"

    def knows_secret(self, given: str) -> bool:
        """Whether `given` is the secret of this run."""
        return hmac.compare_digest(digest(given), digest(self.secret))

    def enter(self, launch_token: str, agent: str = "") -> str | None:
        """Exchange a launch token for the token of a new session of the owner."""
        if not self.launch.redeem(launch_token):
            return None
        return self.open_session(OWNER_ID, agent)

    def open_session(self, user_id: int, agent: str = "", *, seconds: float | None = None) -> str:
        """A new session of somebody who has shown who they are; its token. Blocks."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        lasts = min(self._session_seconds, seconds or self._session_seconds)
        expires_at = int((self._clock() + lasts) * 1000)
        self._store.add_session(digest(token), user_id, expires_at, agent[:200])
        return token

    def remembered(self, token: str) -> Visitor | None:
        """The visitor of a token that was looked up moments ago. Does not block."""
        key = digest(token)
        with self._lock:
            entry = self._recent.get(key)
        if entry is None or not 0 <= self._clock() - entry[1] < RECHECK_SECONDS:
            return None
        return entry[0]

    def visitor(self, token: str) -> Visitor | None:
        """The visitor of a session token; None if there is no such session any more. Blocks."""
        if not token or len(token) > _MAX_TOKEN_CHARS:
            return None
        key = digest(token)
        user = self._store.session_user(key, idle_milliseconds=self.idle_milliseconds)
        with self._lock:
            if user is None:
                self._recent.pop(key, None)
                return None
            visitor = Visitor(user.id, key)
            self._recent[key] = (visitor, self._clock())
            self._recent.move_to_end(key)
            while len(self._recent) > MAX_REMEMBERED:
                self._recent.popitem(last=False)
        return visitor

    def stands(self, session: bytes) -> bool:
        """Whether a session of that digest has not ended. Blocks."""
        found = self._store.session_user(session, idle_milliseconds=self.idle_milliseconds)
        return found is not None

    def forget(self) -> None:
        """Ask the store about every session anew: some have ended."""
        with self._lock:
            self._recent.clear()
        self.on_end()

    @property
    def idle_milliseconds(self) -> int:
        """After how long without use a session has ended."""
        return int(self._idle_seconds * 1000)

    def leave(self, session: bytes) -> None:
        """End a session, here and in the store. Blocks."""
        with self._lock:
            self._recent.pop(session, None)
        self._store.revoke_session(session)
        self.on_end()
