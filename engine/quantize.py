"""Precisions: floats → int8 with a scale per row, or 4 bits with a scale per group of columns.

int8 is symmetric. int4 comes in groups of 32 columns, as ggml's Q4_0, or of 128, which take less
room and err a little more. What multiplies by such weights is in `engine/matrices.py`.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from engine.kernels.pages import use_large_pages

Precision = Literal["fp32", "bf16", "fp16", "int8", "int4", "int4-128"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "fp16", "int8", "int4", "int4-128")

INT4_GROUP = 32  # columns that share a scale, if it is not said otherwise
INT4_GROUPS: dict[Precision, int] = {"int4": INT4_GROUP, "int4-128": 128}
BLOCK_VALUES = 1 << 20  # weights expanded at a time: 4 MB of float32 stay in a core's L2/L3


def int4_group(precision: Precision, width: int) -> int:
    """Columns of a matrix of `width` that share a scale; wide groups must fill it."""
    group = INT4_GROUPS[precision]
    return group if width % group == 0 else INT4_GROUP


class Scaled:
    """int8 weights as a checkpoint stores them, with the scale of each row (or group)."""

    def __init__(self, weight: Tensor, scale: Tensor) -> None:
        self.weight = weight  # (N, K) int8
        self.scale = scale  # (N, 1), (1,) or (N, K / group)

    def expand(self) -> Tensor:
        """The weights in float32, exactly."""
        scale = self.scale.float()
        if scale.dim() < 2 or scale.shape[1] == 1:
            return self.weight.float() * (scale if scale.dim() == 2 else scale.view(-1, 1))
        groups = self.weight.float().view(*scale.shape, -1)
        wide: Tensor = groups * scale.unsqueeze(-1)
        return wide.flatten(1)

    def per_row(self) -> tuple[Tensor, Tensor]:
        """int8 weights and (N,) scales; grouped ones are quantized anew."""
        if self.scale.dim() == 2 and self.scale.shape[1] > 1:
            return quantize_int8(self.expand())
        return self.weight, self.scale.float().reshape(-1).expand(self.weight.shape[0]).contiguous()


class Grouped:
    """4-bit weights in groups of columns, quantized here or as a GGUF file stores them.

    weight = (value - 8) · scale + zero.
    """

    def __init__(self, values: Tensor, scale: Tensor, zero: Tensor) -> None:
        self.values = values  # (N, K) uint8, 0 … 15
        self.scale, self.zero = scale, zero  # (N, K / group) float32

    @property
    def group(self) -> int:
        """Columns that share a scale."""
        return self.values.shape[1] // self.scale.shape[1]

    def expand(self) -> Tensor:
        """The weights in float32."""
        groups = self.values.float().view(*self.scale.shape, -1) - 8
        wide: Tensor = groups * self.scale.unsqueeze(-1) + self.zero.unsqueeze(-1)
        return wide.flatten(1)

    def packed(self) -> tuple[Tensor, Tensor]:
        """As torch wants them: values (N, K) int32, scale and zero (K / group, N, 2) bfloat16."""
        scale_zero = torch.stack((self.scale, self.zero), dim=-1).transpose(0, 1)
        return self.values.to(torch.int32), scale_zero.contiguous().bfloat16()


def quantize_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(N, K) floats → int8 (N, K) and scales (N,), symmetric.

    The scale is rounded to bfloat16 first, as that is what the kernel multiplies by: the rounding
    then is no error of a whole row.
    """
    num_rows, width = weight.shape
    quantized, scale = torch.empty(weight.shape, dtype=torch.int8), torch.empty(num_rows)
    use_large_pages(quantized)
    step = max(1, BLOCK_VALUES // width)  # a table of embeddings in float32 would be a peak
    for start in range(0, num_rows, step):
        part = slice(start, start + step)
        wide = weight[part].float()
        scale[part] = (wide.abs().amax(dim=1) / 127).clamp_min(1e-12).bfloat16().float()
        quantized[part] = (wide / scale[part].unsqueeze(1)).round_().clamp_(-127, 127)
    return quantized, scale


def quantize_int4(weight: Tensor, group: int = INT4_GROUP) -> Grouped:
    """(N, K) floats → values 0 … 15 with one scale per `group` columns.

    As ggml's Q4_0 the scale takes the largest weight of the group to -8; a scale a tenth smaller,
    which clips that weight for finer steps, is taken where it errs less.
    """
    values = torch.empty(weight.shape, dtype=torch.uint8)
    scale = torch.empty(len(weight), weight.shape[1] // group)
    step = max(1, BLOCK_VALUES // weight.shape[1])
    for start in range(0, len(weight), step):
        part = slice(start, start + step)
        groups = weight[part].float().view(-1, scale.shape[1], group)  # (n, K / group, group)
        largest = groups.gather(-1, groups.abs().argmax(dim=-1, keepdim=True))
        whole, finer = (_round_groups(groups, largest * factor / -8) for factor in (1.0, 0.9))
        better = finer[2] < whole[2]  # (n, K / group, 1)
        values[part] = torch.where(better, finer[0], whole[0]).add_(8).to(torch.uint8).flatten(1)
        scale[part] = torch.where(better, finer[1], whole[1]).squeeze(-1)
    return Grouped(values, scale, torch.zeros_like(scale))


def _round_groups(groups: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values -8 … 7, the scale as bfloat16 has it, and the squared error of each group."""
    scale = scale.bfloat16().float()
    scale[scale == 0] = 1e-8
    values = (groups / scale).round_().clamp_(-8, 7)
    error = (values * scale).sub_(groups).square_().sum(dim=-1, keepdim=True)
    return values, scale, error


def shape_of(weight: Tensor | Scaled | Grouped) -> tuple[int, int]:
    """Rows and columns of a matrix, however it is stored."""
    match weight:
        case Scaled():
            values = weight.weight
        case Grouped():
            values = weight.values
        case _:
            values = weight
    return values.shape[0], values.shape[1]


def activation_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype of activations and norms around weights of `precision`."""
    match precision:
        case "fp32":
            return torch.float32
        case "fp16":
            return torch.float16
        case _:
            return torch.float32 if device.type == "cpu" else torch.bfloat16
