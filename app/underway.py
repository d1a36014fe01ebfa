"""Requests that are being answered, and their end when what was shown for them no longer opens.

A page's stream and the streams of the API live for minutes: signing out, ending a session, revoking
a key or removing an account must not wait for them. Whoever ends something calls `review`; what
ends by itself, by its time, is noticed by looking now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import anyio

from storage.records import StorageError

LOOK_SECONDS = 10.0  # between looks for what has ended by its time


class Underway:
    """Open requests by the digest of what was shown for them, a session's token or a key."""

    def __init__(self, stands: Callable[[bytes], bool]) -> None:
        """`stands` says whether a digest still opens anything; it blocks."""
        self._stands = stands
        self._open: dict[bytes, set[anyio.CancelScope]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._reviews: set[asyncio.Task[None]] = set()

    @contextmanager
    def of(self, shown: bytes) -> Iterator[anyio.CancelScope]:
        """Hold a request open in a scope that is cancelled when `shown` opens nothing any more.

        Who has shown nothing (empty) has nothing that could end.
        """
        with anyio.CancelScope() as scope:
            if not shown:
                yield scope
                return
            self._loop = asyncio.get_running_loop()
            self._open.setdefault(shown, set()).add(scope)
            self._look_later()
            try:
                yield scope
            finally:
                self._close(shown, scope)

    def _close(self, shown: bytes, scope: anyio.CancelScope) -> None:
        self._open[shown].discard(scope)
        if not self._open[shown]:
            del self._open[shown]
        if not self._open and self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def review(self) -> None:
        """End the requests behind what has ended, at once. Safe to call from any thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has closed, and every request with it
                self._loop.call_soon_threadsafe(self._begin)

    def _look_later(self) -> None:
        if self._looking is None and self._loop is not None:
            self._looking = self._loop.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._looking = None
        if self._open:
            self._begin()
            self._look_later()

    def _begin(self) -> None:
        task = asyncio.ensure_future(self._end_fallen())
        self._reviews.add(task)
        task.add_done_callback(self._reviews.discard)

    async def _end_fallen(self) -> None:
        for shown in await asyncio.to_thread(self._fallen, [*self._open]):
            for scope in self._open.get(shown, ()):
                scope.cancel()

    def _fallen(self, shown: list[bytes]) -> list[bytes]:
        try:
            return [each for each in shown if not self._stands(each)]
        except StorageError:
            return []  # the store is closing, and everything with it
