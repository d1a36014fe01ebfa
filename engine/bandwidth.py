"""How fast weights come from main memory or the disk to the device that computes: measured here."""

from __future__ import annotations

import functools
import os
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

MEMORY, DISK = "cpu", "disk"  # as torch and accelerate name them
_PROBE_BYTES = 64 << 20  # as a layer of a model with a billion parameters in 8 bit


@functools.cache
def bandwidth(place: str, device: str, folder: Path | None = None) -> float:
    """Bytes a second that accelerate brings from `place` to `device`: the best of three, measured.

    For the disk a file of 64 MB is written to `folder`, and read as if it were new.
    """
    from accelerate.utils.modeling import set_module_tensor_to_device
    from accelerate.utils.offload import load_offloaded_weight, offload_weight

    content = torch.randint(0, 256, (_PROBE_BYTES,), dtype=torch.uint8)
    module = nn.Module()
    module.register_parameter("weights", nn.Parameter(content.to("meta"), requires_grad=False))
    seconds = []
    with tempfile.TemporaryDirectory(dir=folder and existing_folder(folder)) as place_of_probe:
        file, about = Path(place_of_probe) / "weights.dat", {}
        if place == DISK:
            about = offload_weight(content, "weights", place_of_probe, index={})["weights"]
        for _ in range(3):
            if place == DISK:
                _forget_cached(file)
            began = time.perf_counter()
            value = load_offloaded_weight(file, about) if place == DISK else content
            set_module_tensor_to_device(module, "weights", device, value=value)
            _wait_for(torch.device(device))
            seconds.append(time.perf_counter() - began)
            set_module_tensor_to_device(module, "weights", "meta")
    return _PROBE_BYTES / min(seconds)


def _forget_cached(file: Path) -> None:
    """Let the system read `file` from the disk again, where it can be asked to."""
    with file.open("r+b") as handle:
        os.fsync(handle.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def existing_folder(folder: Path) -> Path:
    """`folder`, or the nearest one above it that is there."""
    return next(each for each in (folder, *folder.absolute().parents) if each.exists())
