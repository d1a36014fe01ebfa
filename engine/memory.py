"""Freed memory goes back to the system, so that other programs and `fit` see it.

glibc keeps what was freed in pieces under 32 MB for later: while a model is read one matrix after
the other, or after it was unloaded, that is memory nobody uses. Threads have heaps of their own, of
which `malloc_trim` leaves the end as it is (glibc 2.36: `mtrim` trims the top of the main heap
alone): the launcher starts the app with one heap for all (`MALLOC_ARENA_MAX`), without which up to
43 MB stayed behind after a long prompt and an unload.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of `mallopt`, as malloc.h numbers them.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGE = 1 << 20  # what is at once returned while a model is loaded
# While it answers, the same blocks come and go with each pass, and to get them anew from the system
# made reading a prompt an eighth slower (135M shape, int8). So glibc's own bound, and twice it.
_KEPT = 32 << 20


@functools.cache
def _libc() -> ctypes.CDLL | None:
    """The C library, if it is glibc."""
    library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    return library if hasattr(library, "malloc_trim") else None


def give_back() -> None:
    """Return what is free to the system; nothing happens where that is not needed."""
    if libc := _libc():
        libc.malloc_trim(0)


@contextmanager
def lean() -> Iterator[None]:
    """While a model is loaded: all large blocks are returned as soon as they are freed."""
    libc = _libc()
    if libc is None:
        yield
        return
    libc.mallopt(_MMAP_THRESHOLD, _LARGE)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_THRESHOLD, _KEPT)
        libc.mallopt(_TRIM_THRESHOLD, 2 * _KEPT)
        give_back()
