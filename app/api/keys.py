"""The keys of the API: made once, shown once, kept as their SHA-256, each for some scopes."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock

from app.accounts import digest
from storage.api_keys import ApiKey
from storage.people import People

PREFIX = "corral-"
SCOPES = ("chat", "completions", "models", "moderations")
MAX_KEYS = 20  # of one account
RECHECK_SECONDS = 10.0  # how long a looked-up key is believed before the store is asked again
MAX_REMEMBERED = 256
_HINT_CHARS = 4
_MAX_KEY_CHARS = 128


class KeysFull(Exception):
    """The account has as many keys as it may have."""


class Keys:
    """Keys over a store. Its methods block, but for `remembered`."""

    def __init__(self, people: People, clock: Callable[[], float] = time.monotonic) -> None:
        self._people = people
        self._clock = clock
        self._lock = Lock()
        self.on_end: Callable[[], object] = lambda: None  # called when keys have ended
        # digest → (key, when the store was asked)
        self._recent: OrderedDict[bytes, tuple[ApiKey, float]] = OrderedDict()

    def create(self, user_id: int, name: str, scopes: Sequence[str] = SCOPES) -> str:
        """A new key of an account; nobody can read it again. Raises `KeysFull`, `ValueError`."""
        if not scopes or not set(scopes) <= set(SCOPES):
            raise ValueError("There is no such scope.")
        if len(self._people.keys(user_id)) >= MAX_KEYS:
            raise KeysFull
        key = PREFIX + secrets.token_urlsafe(32)
        self._people.add_key(
            user_id,
            key_sha256=digest(key),
            name=name,
            hint=key[-_HINT_CHARS:],
            scopes=scopes,
        )
        return key

    def revoke(self, user_id: int, key_id: int) -> None:
        """End a key of this account, at once. Raises `NotFound`."""
        self._people.revoke_key(user_id, key_id)
        self.forget()

    def forget(self) -> None:
        """Ask the store about every key anew."""
        with self._lock:
            self._recent.clear()
        self.on_end()

    def stands(self, key_sha256: bytes) -> bool:
        """Whether there is a key of that digest."""
        return self._people.find_key(key_sha256) is not None

    def remembered(self, given: str) -> ApiKey | None:
        """A key that was looked up moments ago. Does not block."""
        with self._lock:
            entry = self._recent.get(digest(given))
        if entry is None or self._clock() - entry[1] >= RECHECK_SECONDS:
            return None
        return entry[0]

    def find(self, given: str) -> ApiKey | None:
        """The key that a client shows; None if there is no such one (any more)."""
        if not given.startswith(PREFIX) or len(given) > _MAX_KEY_CHARS:
            return None
        found = self._people.find_key(digest(given))
        if found is None:
            return None
        self._people.mark_used(found.id)
        with self._lock:
            self._recent[digest(given)] = (found, self._clock())
            while len(self._recent) > MAX_REMEMBERED:
                self._recent.popitem(last=False)
        return found
