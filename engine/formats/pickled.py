"""Weights as PyTorch itself writes them: a zip archive with a pickle that says what lies where.

A pickle is a program. These files are opened only after the owner said yes, then by torch's reader
that builds nothing but tensors (`weights_only`), mapped into memory, so that one tensor after the
other is read.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from engine.errors import CheckpointBroken, CheckpointUnsafe


@dataclass(frozen=True)
class PickledTensor:
    """A tensor that lies in a mapped file."""

    tensor: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def num_bytes(self) -> int:
        return self.tensor.nbytes

    def read(self) -> Tensor:
        """The tensor in memory of its own."""
        return self.tensor.clone()


def read_pickled(file: Path) -> dict[str, Tensor]:
    """The tensors in `file`, by name, mapped. Only for files whose owner allowed it.

    Raises `CheckpointUnsafe` if it would build more than tensors, `CheckpointBroken` if it is
    damaged or holds something else than floating-point weights by name.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise CheckpointUnsafe(
            f"{file.name} wants to build something that is no tensor: it was not opened. Get this "
            "model from its makers, or in safetensors."
        ) from error
    except (
        RuntimeError, ValueError, OSError, EOFError, LookupError, AttributeError, TypeError,
    ) as error:  # fmt: skip
        raise CheckpointBroken(
            f"{file.name} is damaged or cut off: download it again, and compare its checksum."
        ) from error
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) and tensor.is_floating_point()
        for name, tensor in content.items()
    ):
        raise CheckpointBroken(f"{file.name} holds something else than the weights of a Llama.")
    return dict(content)


def sample_of(tensor: Tensor, *, num_bytes: int = 4096) -> bytes:
    """The first bytes of a tensor, for fingerprints."""
    values = tensor.detach().flatten()[: num_bytes // tensor.element_size()]
    return bytes(values.clone().view(torch.uint8).numpy())
