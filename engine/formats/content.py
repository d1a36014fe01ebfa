"""The bytes of a tensor, out of a weight file into memory, and what is said if they are amiss."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from engine.errors import CheckpointBroken


def damaged(path: Path, why: str) -> CheckpointBroken:
    """The error of a file that is not as its format wants it."""
    return CheckpointBroken(f"{path.name} is damaged or cut off ({why}): download it again.")


def read_into(tensor: Tensor, path: Path, offset: int) -> None:
    """Fill a dense tensor from `offset` of a file on. Raises `CheckpointBroken`."""
    target = tensor.view(-1).view(torch.uint8).numpy().data
    done = 0
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            while done < len(target) and (count := file.readinto(target[done:])):
                done += count
    except OSError as error:
        raise CheckpointBroken(f"{path.name} cannot be read: {error.strerror}.") from error
    if done != len(target):
        raise damaged(path, "it became shorter while it was read")
