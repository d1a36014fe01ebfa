"""How many keys and values are kept if nobody says otherwise, and what they can serve again."""

from __future__ import annotations

import torch

from engine.device import free_bytes
from engine.kv_cache import CacheShape
from engine.opening import LoadedModel, Opened

DISK_BYTES = 4 << 30
_CACHED_CONTEXTS = 8
_LEAST_CACHE_BYTES = 128 << 20


def usual_cache_bytes(shape: CacheShape, free: int) -> int:
    """Some whole contexts on the device, within half of the `free` bytes there."""
    whole = shape.token_bytes * shape.context_length
    return min(free // 2, max(_LEAST_CACHE_BYTES, _CACHED_CONTEXTS * whole))


def usual_memory_bytes(shape: CacheShape) -> int:
    """As many moved off a GPU, within a quarter of the free memory.

    On the CPU there is but one memory: nothing can be moved off it.
    """
    if shape.device.type == "cpu":
        return 0
    free = free_bytes(torch.device("cpu")) // 4
    return min(free, _CACHED_CONTEXTS * shape.token_bytes * shape.context_length)


def cache_identity(opened: Opened, model: LoadedModel, extension: str) -> str:
    """All that keys and values depend on besides the tokens."""
    shape = model.cache_shape
    parts = (opened.fingerprint, model.precision, shape.dtype, shape.device.type, extension)
    return "|".join(str(part) for part in parts)
