"""Weights on pages of 2 MB, where Linux has them: reading them all looks up fewer addresses.

A decode step reads every weight once. In pages of 4 KB that is a lookup for each, on a virtual
machine through the tables of two systems, and a processor's own reading ahead ends at every page.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable

from torch import Tensor

PAGE_BYTES = 2 << 20  # on x86-64, and on ARM with 4 KB pages
_HUGEPAGE = 14  # linux/mman.h: use large pages here


@functools.cache
def _advise() -> Callable[[ctypes.c_void_p, ctypes.c_size_t, int], int] | None:
    """The C library's `madvise`, None where the system is not Linux."""
    if not sys.platform.startswith("linux"):
        return None
    found: Callable[[ctypes.c_void_p, ctypes.c_size_t, int], int] | None
    found = getattr(ctypes.CDLL(None), "madvise", None)
    return found


def use_large_pages(tensor: Tensor) -> None:
    """Let `tensor`, on the CPU, lie on large pages as far as it fills them.

    To be asked before anything is written to it: then it costs nothing, and writing is faster.
    What was written before moves by and by, as the system finds time (at once it would take 2 s a
    gigabyte). Where there are no such pages nothing happens.
    """
    advise = _advise()
    first = -(-tensor.data_ptr() // PAGE_BYTES) * PAGE_BYTES
    last = (tensor.data_ptr() + tensor.nbytes) // PAGE_BYTES * PAGE_BYTES
    if advise is not None and first < last:
        advise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _HUGEPAGE)
