"""Passwords as Argon2id hashes, computed one at a time on a thread of their own.

Parameters: 46 MiB, one pass, one lane (OWASP password storage cheat sheet, the row that trades
passes for memory). One thread bounds the memory that guesses can take, and the event loop is free.
"""

from __future__ import annotations

import asyncio
import secrets
import unicodedata
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

MIN_CHARS = 10
MAX_CHARS = 256
MEMORY_KIBIBYTES = 46 * 1024


class PasswordRefused(Exception):
    """The password that was to be shown is not shown. `code`: "wrong", or "wait" before a try."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Passwords:
    """Makes and checks hashes without blocking the event loop."""

    def __init__(self, *, memory_kibibytes: int = MEMORY_KIBIBYTES) -> None:
        self._hasher = PasswordHasher(time_cost=1, memory_cost=memory_kibibytes, parallelism=1)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="password")
        # What an unknown name is checked against, so that it costs what a known one costs.
        self._nobody = self._hasher.hash(secrets.token_urlsafe(32))

    async def hash(self, password: str) -> str:
        """The hash to keep. Raises `ValueError` for a password that is too short or too long."""
        return await asyncio.wrap_future(self._hashing(password))

    def hash_now(self, password: str) -> str:
        """`hash`, for threads: blocks until it is done."""
        return self._hashing(password).result()

    def _hashing(self, password: str) -> Future[str]:
        if not MIN_CHARS <= len(password) <= MAX_CHARS:
            raise ValueError("the length of the password")
        return self._thread.submit(self._hasher.hash, _normal(password))

    async def verify(self, known: str | None, password: str) -> bool:
        """Whether `password` is that of the hash `known`; None does the same work and is false."""
        return await asyncio.wrap_future(self._checking(known, password)) and known is not None

    def verify_now(self, known: str | None, password: str) -> bool:
        """`verify`, for threads: blocks until it is done."""
        return self._checking(known, password).result() and known is not None

    def _checking(self, known: str | None, password: str) -> Future[bool]:
        check = partial(self._check, known or self._nobody, _normal(password[: MAX_CHARS + 1]))
        return self._thread.submit(check)

    def _check(self, known: str, password: str) -> bool:
        try:
            return self._hasher.verify(known, password)
        except (VerificationError, InvalidHashError):
            return False


def _normal(password: str) -> str:
    """One form for look-alike input methods (NFKC), as RFC 8265 asks of passwords."""
    return unicodedata.normalize("NFKC", password)
