"""Waiting for what another thread or process does: long enough for a busy machine, not for ever."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(happened: Callable[[], T], seconds: float = 60.0) -> T:
    """Look until `happened` gives something true, and give it."""
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)
    return found
