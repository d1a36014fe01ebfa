"""The queue looks often after an event and seldom at rest."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from gradio.queueing import Queue

from app.page import looks
from app.page.looks import AWAKE_SECONDS, REST_SECONDS, look_seldom


class Quiet:
    """As much of Gradio's queue as is asked."""

    sleep_when_free = 0.001
    progress_update_sleep_when_free = 0.1
    pushed: tuple[Any, ...] = ()

    async def push(self, *events: Any) -> tuple[bool, str]:
        self.pushed += events
        return True, "kept"


def test_an_event_wakes_it_and_quiet_lets_it_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "TIRED_SECONDS", 0.05)
    queue: Any = Quiet()
    look_seldom(queue)
    assert queue.sleep_when_free == REST_SECONDS > AWAKE_SECONDS

    async def session() -> None:
        for event in ("first", "second"):
            assert await queue.push(event) == (True, "kept")
            assert queue.sleep_when_free == AWAKE_SECONDS
        while queue.sleep_when_free != REST_SECONDS:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(session(), 30))
    assert queue.pushed == ("first", "second")


def test_gradio_still_sleeps_as_long_as_it_is_told() -> None:
    names = Queue.start_processing.__code__.co_names
    assert "sleep_when_free" in names and hasattr(Queue, "push")
