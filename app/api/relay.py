"""A blocking generator on a thread of its own, read from the event loop.

Threads of the pool are few and shared by everything: a call may take minutes, so it gets its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from threading import Event, Thread
from typing import Generic, TypeVar

from fastapi import Request

T = TypeVar("T")
_LOOK_SECONDS = 0.5  # between looks whether the client is still there


class Relay(Generic[T]):
    """Runs `make()` and hands over what it yields. Ends it when nobody reads any more."""

    def __init__(self, make: Callable[[], Iterator[T]], cancel: Event) -> None:
        self._make = make
        self._cancel = cancel
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[str, T | Exception | None]] = asyncio.Queue()
        Thread(target=self._run, name="api", daemon=True).start()

    def _run(self) -> None:
        try:
            for item in self._make():
                self._put("item", item)
            self._put("end", None)
        except Exception as error:  # the reader raises it
            self._put("error", error)

    def _put(self, kind: str, value: T | Exception | None) -> None:
        with suppress(RuntimeError):  # the loop has closed: nobody reads
            self._loop.call_soon_threadsafe(self._queue.put_nowait, (kind, value))

    async def items(self) -> AsyncIterator[T]:
        """What the generator yields; its error is raised here. Leaving cancels it."""
        try:
            while True:
                kind, value = await self._queue.get()
                if kind == "error":
                    assert isinstance(value, Exception)
                    raise value
                if kind == "end":
                    return
                yield value  # type: ignore[misc]  # an item is a T
        finally:
            self._cancel.set()

    async def all(self, request: Request) -> list[T]:
        """Everything, unless the client goes away meanwhile: then what there was."""
        watch = asyncio.create_task(self._watch(request))
        try:
            return [item async for item in self.items()]
        finally:
            watch.cancel()

    async def _watch(self, request: Request) -> None:
        while not await request.is_disconnected():
            await asyncio.sleep(_LOOK_SECONDS)
        self._cancel.set()
