"""Slow readers, readers that leave, and errors between a call's thread and the event loop."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from threading import Event
from typing import cast

import pytest
from fastapi import Request

from app.api import relay as relay_module
from app.api.relay import Relay


class Gone:
    """A client that goes away after so many looks."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    async def is_disconnected(self) -> bool:
        self.looks -= 1
        return self.looks < 0


def until(cancel: Event, ended: Event) -> Iterator[int]:
    """An answer without end, which a cancel ends."""
    number = 0
    while not cancel.wait(0.001):
        yield number
        number += 1
    ended.set()


def test_a_reader_that_is_slow_holds_no_answer_up() -> None:
    written = Event()

    def make() -> Iterator[int]:
        yield from range(1000)
        written.set()

    async def read() -> list[int]:
        relay = Relay(make, Event())
        assert await asyncio.to_thread(written.wait, 30), "it waits for its reader"
        return [item async for item in relay.items()]

    assert asyncio.run(read()) == list(range(1000))


def test_a_reader_that_leaves_cancels() -> None:
    cancel, ended = Event(), Event()

    async def read() -> None:
        relay = Relay(lambda: until(cancel, ended), cancel)
        async with aclosing(relay.items()) as items:  # type: ignore[type-var]
            assert await anext(items) == 0
        assert await asyncio.to_thread(ended.wait, 30)

    asyncio.run(read())


@pytest.mark.parametrize("looks", [0, 3])
def test_a_client_that_goes_away_cancels_what_it_waits_for(
    looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "_LOOK_SECONDS", 0.005)
    cancel, ended = Event(), Event()

    async def read() -> list[int]:
        relay = Relay(lambda: until(cancel, ended), cancel)
        return await relay.all(cast(Request, Gone(looks)))

    found = asyncio.run(read())
    assert cancel.is_set() and ended.is_set()
    assert found == list(range(len(found)))


def test_an_error_comes_after_what_was_written_before_it() -> None:
    def make() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    async def read() -> list[int]:
        found = []
        with pytest.raises(ZeroDivisionError):
            async for item in Relay(make, Event()).items():
                found.append(item)
        return found

    assert asyncio.run(read()) == [1]


def test_an_answer_that_nobody_waits_for_any_more_ends_quietly() -> None:
    """The loop is closed: the thread goes on to its end and tells nobody."""
    go, ended = Event(), Event()

    def make() -> Iterator[int]:
        go.wait()
        yield 1
        ended.set()

    async def begin() -> None:
        Relay(make, Event())

    asyncio.run(begin())
    go.set()
    assert ended.wait(30)
