"""How much is kept of keys and values if nobody says otherwise, and what they can serve again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch

from engine.device import free_bytes
from engine.disk_tier import DiskTier
from engine.kv_cache import CacheShape
from engine.opening import LoadedModel, Opened
from engine.options import Options

_CACHED_CONTEXTS = 8
_LEAST_CACHE_BYTES = 128 << 20
_LEAST_CONTEXT = 256  # tokens: a conversation gets those, however little memory is free


@dataclass(frozen=True, slots=True)
class Budget:
    """Bytes of keys and values on the device and moved off it; tokens of one conversation."""

    device_bytes: int
    memory_bytes: int
    context_length: int


def budget_for(shape: CacheShape, options: Options) -> Budget:
    """What to keep of a loaded model's keys and values: what was chosen, or what is usual here."""
    free = _free_for_slots(shape)
    on_device, moved_off = options.cache_bytes, options.memory_bytes
    if on_device is None:
        on_device = _usual_device_bytes(shape, free)
    if moved_off is None:
        moved_off = _usual_memory_bytes(shape)
    fitting = max(_LEAST_CONTEXT, min(on_device, free) // shape.token_bytes)
    most = options.max_context or fitting
    return Budget(on_device, moved_off, min(shape.context_length, fitting, most))


def disk_tier(options: Options, opened: Opened, model: LoadedModel) -> DiskTier | None:
    """The keys and values on the disk, as far as `model` can use them; None without a place."""
    if options.disk_folder is None or options.disk_bytes <= 0:
        return None
    shape = model.cache_shape  # all that keys and values depend on besides the tokens:
    parts = (opened.fingerprint, model.precision, shape.dtype, shape.device.type, options.extension)
    return DiskTier(options.disk_folder, "|".join(map(str, parts)), options.disk_bytes)


def _free_for_slots(shape: CacheShape) -> int:
    """Bytes that keys and values could take; of several devices, until the first is full."""
    layers = Counter(shape.devices)
    return min(free_bytes(device) * shape.num_layers // num for device, num in layers.items())


def _usual_device_bytes(shape: CacheShape, free: int) -> int:
    """Some whole contexts, within half of the `free` bytes there."""
    whole = shape.token_bytes * shape.context_length
    return min(free // 2, max(_LEAST_CACHE_BYTES, _CACHED_CONTEXTS * whole))


def _usual_memory_bytes(shape: CacheShape) -> int:
    """As many moved off a GPU, within a quarter of the free memory.

    On the CPU there is but one memory: nothing can be moved off it.
    """
    if shape.device.type == "cpu":
        return 0
    free = free_bytes(torch.device("cpu")) // 4
    return min(free, _CACHED_CONTEXTS * shape.token_bytes * shape.context_length)
