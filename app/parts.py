"""A part of Corral that takes a while to load, and everybody who waits for it.

The page is up before torch is imported. Whatever needs the engine or the guard waits on its
`Part`, can be cancelled meanwhile, and gets the load's own error if it failed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition, Event, Thread
from typing import Generic, Literal, TypeVar

T = TypeVar("T")
PartState = Literal["loading", "ready", "failed"]


class PartCancelled(Exception):
    """The waiting ended before the part was there: its cancel flag was set."""


@dataclass(frozen=True, slots=True)
class PartView:
    """How far a part is, for the page: `error` is set when `state` is "failed"."""

    name: str
    state: PartState
    error: Exception | None = None


class Part(Generic[T]):
    """One object that `load` builds on a thread of its own; `replace` builds another later."""

    def __init__(self, name: str, load: Callable[[], T]) -> None:
        self.name = name
        self._load = load
        self._changed = Condition()
        self._state: PartState = "loading"
        self._value: T | None = None
        self._error: Exception | None = None
        self._epoch = 0  # counts loads, so that a slow old load never overwrites a newer one

    def start(self) -> None:
        """Begin to load. Does not block."""
        with self._changed:
            self._epoch += 1
            self._state, self._value, self._error = "loading", None, None
            epoch = self._epoch
        Thread(target=self._run, args=(epoch,), name=f"load-{self.name}", daemon=True).start()

    def replace(self, load: Callable[[], T]) -> None:
        """Load something else in this part's place; those who wait get the new one."""
        self._load = load
        self.start()

    def view(self) -> PartView:
        """How far it is. Does not block."""
        with self._changed:
            return PartView(self.name, self._state, self._error)

    def peek(self) -> T | None:
        """The part if it is ready, else None. Does not block."""
        with self._changed:
            return self._value

    def wait(self, cancel: Event) -> T:
        """Block until the part is ready. Raises `PartCancelled`, or the load's own error."""
        with self._changed:
            while self._state == "loading":
                # Nobody notifies when `cancel` is set: look often enough for a person not to wait.
                if cancel.is_set():
                    raise PartCancelled(self.name)
                self._changed.wait(timeout=0.05)
            if self._error is not None:
                raise self._error
            assert self._value is not None
            return self._value

    def _run(self, epoch: int) -> None:
        value: T | None = None
        error: Exception | None = None
        try:
            value = self._load()
        except Exception as raised:  # whatever it was, the waiting turns must hear of it
            error = raised
        with self._changed:
            if epoch != self._epoch:
                return
            self._state = "ready" if error is None else "failed"
            self._value, self._error = value, error
            self._changed.notify_all()
