"""Which device computes, with how many threads, how much memory it has, what its failures mean.

`auto` means CUDA, then Apple's MPS, then the CPU. Nothing here holds state: a device that is chosen
but absent is an error with the choices that are left.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import torch

from engine.errors import DeviceAbsent, DeviceOutOfMemory, EngineError

DEVICES = ("auto", "cuda", "mps", "cpu")


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`. Raises `DeviceAbsent` if this machine (or torch build) lacks it."""
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": _has_mps()}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if present[kind])
    kind = name.partition(":")[0]
    if kind not in present:
        raise DeviceAbsent(f"There is no device called {name!r}: choose {', '.join(DEVICES)}.")
    if not present[kind]:
        left = " or ".join(each for each in ("cuda", "mps", "cpu") if present[each])
        raise DeviceAbsent(f"This machine offers no {kind.upper()} device to torch: choose {left}.")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceAbsent(f"There is no device called {name!r}.") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceAbsent(f"This machine has {torch.cuda.device_count()} CUDA device(s).")
    return device


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def choose_threads() -> int:
    """Threads for torch: the physical cores this process may use.

    More than one thread per physical core makes small matrix products slower, and a container's
    CPU quota counts: threads beyond it stop each other in the middle of a parallel region.
    """
    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return max(1, min(physical, allowed, _cpu_quota() or physical))


def _cpu_quota() -> int | None:
    """Whole CPUs that the control group of this process may use, if it is limited."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if quota == "max" else max(1, int(quota) // int(period))
    except (OSError, ValueError):
        return None


def free_bytes(device: torch.device) -> int:
    """Memory that could be taken on `device` now, in bytes."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    available = int(psutil.virtual_memory().available)
    if device.type == "mps":
        limit = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        return max(0, min(available, int(limit)))
    return available


def held_bytes(device: torch.device) -> int:
    """Memory that this process holds on `device`, in bytes; all of its own on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.memory_reserved(device))
    if device.type == "mps":
        return int(torch.mps.driver_allocated_memory())
    return int(psutil.Process().memory_info().rss)


def total_bytes(device: torch.device) -> int:
    """Memory of `device` altogether, in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory())
    return int(psutil.virtual_memory().total)


def device_name(device: torch.device, threads: int = 0) -> str:
    """What the page shows: the GPU's own name, or `CPU (8 threads)` if `threads` is given."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    if device.type == "mps":
        return "Apple GPU"
    return f"CPU ({threads} thread{'' if threads == 1 else 's'})" if threads else "CPU"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` is how Python or torch says that an allocation failed, on any device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "not enough memory" in text or "can't allocate memory" in text or "out of memory" in text
    )


def translated(error: Exception) -> EngineError:
    """What the failure of a step means in our words."""
    if isinstance(error, EngineError):
        return error
    if is_out_of_memory(error):
        return DeviceOutOfMemory(
            "The device ran out of memory in the middle of an answer: close other programs or "
            "conversations, or choose a smaller model or precision."
        )
    return EngineError(
        "The engine met an error of its own while computing this answer; the log says where. "
        "Send the prompt again."
    )
