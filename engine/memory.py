"""Freed memory goes back to the system at once, so that other programs and `fit` see it.

glibc keeps what was freed in pieces under 32 MB for later, which while a model is read one matrix
after the other, or after it was unloaded, is memory that nobody uses.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable


@functools.cache
def _trim() -> Callable[[int], int] | None:
    """Glibc's `malloc_trim`, None where the C library has none."""
    if not sys.platform.startswith("linux"):
        return None
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found


def give_back() -> None:
    """Return what is free to the system; nothing happens where that is not needed."""
    trim = _trim()
    if trim is not None:
        trim(0)
