"""One running turn as others see it: what it has released so far, and whoever follows it.

A `Call` stands for a call of the API, which waits in the same line but is answered by its caller.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from threading import Event, Lock

from app.task import Phase, Step, Task
from storage.records import Status


@dataclass(frozen=True, slots=True)
class JobView:
    """What a page may know of a running turn. `text` is the whole reply as far as released.

    Times are `time.time()` seconds, 0.0 while it has not happened.
    """

    phase: Phase = "waiting"
    text: str = ""
    waiting_for: str = ""
    num_prefilled: int = 0
    num_prompt: int = 0
    num_new: int = 0
    num_held: int = 0
    tokens_per_second: float = 0.0
    status: Status = "streaming"
    error_code: str = ""
    place_in_queue: int = 0
    started_at: float = 0.0
    emitted_at: float = 0.0  # the engine gave its first text
    released_at: float = 0.0  # the gate let the first text through


class Job:
    """One turn that runs, and whoever follows it."""

    def __init__(self, task: Task, client_key: str = "") -> None:
        self.task = task
        self.client_key = client_key
        self.user_id = task.conversation.user_id
        self.key = task.conversation.key
        self.prompt_id = task.turn.prompt.id
        self.reply_id = task.turn.reply.id
        self.cancel = Event()
        self._lock = Lock()
        self._view = JobView(text=task.turn.reply.content)
        self._texts: list[str] = [task.turn.reply.content]
        self.beside: tuple[Job, ...] = ()  # other replies to the same prompt, written meanwhile
        self.num_followers = 0  # pages that watch
        self._num_changes = 0
        self._waiting: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}  # for the next change

    def view(self) -> JobView:
        """How far it is. Does not block."""
        with self._lock:
            # Joined only when somebody looks: appending stays O(1) however long the reply grows.
            text = "".join(self._texts)
            self._texts = [text]
            return replace(self._view, text=text)

    async def follow(self, rate_hz: Callable[[], float] = lambda: 20.0) -> AsyncIterator[JobView]:
        """Yield views as they change, at most `rate_hz()` a second, until the turn has ended.

        The first change after a pause is seen at once; the last view has phase "ended".
        """
        with self._lock:
            self.num_followers += 1
        try:
            while True:
                seen = self._num_changes
                view = self.view()
                yield view
                if view.phase == "ended":
                    return
                await asyncio.sleep(1.0 / rate_hz())
                await self._change_after(seen)
        finally:
            with self._lock:
                self.num_followers -= 1

    async def _change_after(self, seen: int) -> None:
        # Mostly there was one meanwhile: waking a loop from another thread costs more than asking.
        changed = asyncio.Event()
        with self._lock:
            if self._num_changes != seen:
                return
            self._waiting[changed] = asyncio.get_running_loop()
        try:
            await changed.wait()
        finally:
            with self._lock:
                self._waiting.pop(changed, None)

    def apply(self, step: Step) -> None:
        """Take over what `step` says. Called by the turn's own thread only."""
        now = time.time()
        with self._lock:
            old = self._view
            if step.text:
                self._texts.append(step.text)
            emitted_at = old.emitted_at or (now if step.num_new else 0.0)
            writing_for = now - emitted_at if emitted_at else 0.0
            num_new = max(step.num_new, old.num_new)
            self._view = JobView(
                phase=step.phase,
                waiting_for=step.waiting_for,
                num_prefilled=max(step.num_prefilled, old.num_prefilled),
                num_prompt=step.num_prompt or old.num_prompt,
                num_new=num_new,
                num_held=step.num_held,
                tokens_per_second=(num_new - 1) / writing_for if writing_for > 0 else 0.0,
                status=step.status,
                error_code=step.error_code,
                started_at=old.started_at or now,
                emitted_at=emitted_at,
                released_at=old.released_at or (now if step.text else 0.0),
            )
        self._wake()

    def queue_at(self, place: int) -> None:
        """Say how many turns stand before this one."""
        with self._lock:
            self._view = replace(self._view, place_in_queue=place)
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            self._num_changes += 1
            waiting = list(self._waiting.items())
            self._waiting.clear()
        for event, loop in waiting:
            # A loop that closed under its follower has nobody left to tell.
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)


class Call:
    """A call of the API: it stands in its user's line and is answered by whoever made it."""

    key = client_key = ""

    def __init__(self, user_id: int) -> None:
        self.user_id = user_id
        self.cancel = Event()
        self.started = Event()  # it is this call's turn
        self.place_in_queue = 0

    def queue_at(self, place: int) -> None:
        """Note how many turns stand before this one."""
        self.place_in_queue = place

    def wait(self) -> bool:
        """Block until it is this call's turn; false if it was cancelled before."""
        while not self.started.wait(timeout=0.05):
            if self.cancel.is_set():
                return False
        return not self.cancel.is_set()
