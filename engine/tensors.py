"""The tensors of a checkpoint as the parts of a model want them: checked, stacked, reordered.

Reading is strict: a tensor that is missing, has another shape or has no place is an error that
names it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from engine.config import LlamaConfig
from engine.errors import CheckpointBroken
from engine.llama import Linear
from engine.matrices import make_matrix
from engine.plans import Matrix
from engine.quantize import (
    INT4_GROUPS,
    Grouped,
    Precision,
    Scaled,
    activation_dtype,
    shape_of,
)
from engine.rotary import interleave

# A matrix as it is read: floats, int8 with scales, or 4-bit groups.
Weight = Tensor | Scaled | Grouped


class Weights(Protocol):
    """Where a model's tensors come from: an opened checkpoint, or random numbers in a bench."""

    @property
    def name(self) -> str:
        """What to call it in messages."""
        ...

    @property
    def config(self) -> LlamaConfig:
        """The architecture."""
        ...

    @property
    def tensors(self) -> Mapping[str, object]:
        """The tensors there are, by name."""
        ...

    @property
    def paired(self) -> bool:
        """Whether query and key rows lie in neighbouring pairs already."""
        ...

    def read(self, name: str) -> Tensor:
        """One tensor, on the CPU. Raises `CheckpointError`."""
        ...

    def read_grouped(self, name: str) -> Grouped | None:
        """One matrix as the 4-bit groups that it is stored in, None if it is stored otherwise."""
        ...


class TensorReader:
    """Reads tensors by name, checks shapes, remembers what was read."""

    def __init__(self, checkpoint: Weights, precision: Precision, device: torch.device) -> None:
        self.checkpoint, self.precision, self.device = checkpoint, precision, device
        self.used: set[str] = set()

    def _read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        tensor = self.checkpoint.read(name)
        if tensor.shape != shape:
            raise CheckpointBroken(
                f"{name} has the shape {tuple(tensor.shape)}; config.json asks for {shape}."
            )
        self.used.add(name)
        return tensor

    def vector(self, name: str, size: int) -> Tensor:
        """A norm's weight or a bias, in the dtype of the activations."""
        tensor = self._read(name, (size,))
        if not tensor.is_floating_point():
            raise CheckpointBroken(f"{name} holds no floating-point numbers.")
        return tensor.to(device=self.device, dtype=activation_dtype(self.precision, self.device))

    def _weight(self, name: str, shape: tuple[int, int], *, wide: bool) -> Weight:
        if self.precision in INT4_GROUPS and not wide:
            grouped = self.checkpoint.read_grouped(f"{name}.weight")
            if grouped is not None and shape_of(grouped) == shape:
                self.used.add(f"{name}.weight")
                return grouped
        tensor = self._read(f"{name}.weight", shape)
        scale_name = f"{name}.weight_scale"
        if tensor.dtype == torch.int8 and scale_name in self.checkpoint.tensors:
            scale = self.checkpoint.read(scale_name)
            self.used.add(scale_name)
            fits = scale.numel() in (1, shape[0]) or (
                scale.dim() == 2 and scale.shape[0] == shape[0] and shape[1] % scale.shape[1] == 0
            )
            if not fits or not scale.is_floating_point():
                raise CheckpointBroken(f"{scale_name} does not fit {name}.weight.")
            return Scaled(tensor, scale)
        if not tensor.is_floating_point():
            raise CheckpointBroken(f"{name}.weight holds {tensor.dtype} without a scale.")
        return tensor

    def matrix(
        self,
        parts: Sequence[tuple[str, int]],
        width: int,
        *,
        rotary_heads: Sequence[int] = (),
        embedding: bool = False,
    ) -> Matrix:
        """The weights called `parts` (name, rows), stacked and quantized."""
        weights = [self._weight(name, (rows, width), wide=embedding) for name, rows in parts]
        heads_of = self._heads_to_reorder(rotary_heads, len(parts))
        stacked = _stack(list(map(_reorder, weights, heads_of)))
        return make_matrix(stacked, self.precision, self.device, embedding=embedding)

    def _heads_to_reorder(self, rotary_heads: Sequence[int], num_parts: int) -> Sequence[int]:
        """Heads of each part whose rows must become neighbouring pairs, 0 for the others."""
        return [0] * num_parts if self.checkpoint.paired or not rotary_heads else rotary_heads

    def linear(
        self,
        parts: Sequence[tuple[str, int]],
        width: int,
        *,
        bias: bool,
        rotary_heads: Sequence[int] = (),
    ) -> Linear:
        """A matrix with its bias, if the config asks for one."""
        matrix = self.matrix(parts, width, rotary_heads=rotary_heads)
        if not bias:
            return Linear(matrix, None)
        biases = [self.vector(f"{name}.bias", rows) for name, rows in parts]
        heads_of = self._heads_to_reorder(rotary_heads, len(biases))
        return Linear(
            matrix,
            torch.cat(
                [
                    interleave(each, heads) if heads else each
                    for each, heads in zip(biases, heads_of, strict=True)
                ]
            ),
        )

    def refuse_rest(self) -> None:
        """Raise `CheckpointBroken` if the files hold a tensor that no part of the model took."""
        rest = {
            name
            for name in self.checkpoint.tensors.keys() - self.used
            if not name.endswith("rotary_emb.inv_freq")  # old files carry the table; we compute it
        }
        if rest:
            raise CheckpointBroken(
                f"The weights hold {len(rest)} tensor(s) that config.json has no place for, "
                f"such as {min(rest)}: config and weights are of two different models."
            )


def _reorder(weight: Weight, heads: int) -> Weight:
    if not heads:
        return weight
    if isinstance(weight, Tensor):
        return interleave(weight, heads)
    if isinstance(weight, Grouped):
        parts = (weight.values, weight.scale, weight.zero)
        return Grouped(*(interleave(part, heads) for part in parts))
    scale = weight.scale
    return Scaled(
        interleave(weight.weight, heads),
        interleave(scale, heads) if scale.numel() > 1 else scale,
    )


def _stack(weights: Sequence[Weight]) -> Weight:
    if len(weights) == 1:
        return weights[0]
    scaled = [weight for weight in weights if isinstance(weight, Scaled)]
    if len(scaled) == len(weights) and all(
        weight.scale.dim() < 2 or weight.scale.shape[1] == 1 for weight in scaled
    ):
        rows = [weight.per_row() for weight in scaled]
        return Scaled(torch.cat([row[0] for row in rows]), torch.cat([row[1] for row in rows]))
    grouped = [weight for weight in weights if isinstance(weight, Grouped)]
    if len(grouped) == len(weights):
        return Grouped(
            torch.cat([weight.values for weight in grouped]),
            torch.cat([weight.scale for weight in grouped]),
            torch.cat([weight.zero for weight in grouped]),
        )
    return torch.cat(
        [weight if isinstance(weight, Tensor) else weight.expand() for weight in weights]
    )
