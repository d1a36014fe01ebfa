"""Weight matrices that multiply: in fp32, bf16, fp16 and int8; and which kind a weight becomes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.four_bits import Int4, Int4Panels, Int4Tiles
from engine.kernels.products import PANEL, Kind, Stored, own_library
from engine.plans import ANY_ROWS, KERNEL_WIDTH, Matrix, Plan, Planned, by_blocks
from engine.quantize import (
    INT4_GROUPS,
    Grouped,
    Precision,
    Scaled,
    activation_dtype,
    int4_group,
    quantize_int4,
    quantize_int8,
    shape_of,
)

_FEW_ROWS = 8  # where a dense matrix leaves the own kernel to a tiled product of the BLAS


class Dense(Planned):
    """Weights in float32, bfloat16 or float16."""

    def __init__(self, weight: Tensor, dtype: torch.dtype | None = None) -> None:
        """`dtype` is that of the activations, if it is not that of the weights."""
        self.weight = weight  # (N, K)
        self.dtype = dtype or weight.dtype
        self.num_bytes = weight.numel() * weight.element_size()
        kinds = {torch.float32: Kind.FLOAT32, torch.bfloat16: Kind.BFLOAT16}
        self.stored, self.plan = None, Plan()
        if self.dtype == torch.float32 and weight.dtype in kinds and weight.dim() == 2:
            num_rows, width = weight.shape
            self._own(Stored(kinds[weight.dtype], weight, num_rows, width), _FEW_ROWS)

    def dense_product(self, x: Tensor) -> Tensor:
        if x.dtype == self.weight.dtype:
            return F.linear(x, self.weight)
        if self.plan.dense == self.weight.dtype:
            return F.linear(x.to(self.weight.dtype), self.weight).to(self.dtype)
        return by_blocks(x, len(self.weight), lambda part: self.weight[part].to(x.dtype))

    def rows(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight).to(self.dtype)


class Int8(Planned):
    """int8 weights with one scale per row."""

    def __init__(self, weight: Tensor, scale: Tensor, dtype: torch.dtype) -> None:
        """`dtype` is that of the activations, in and out."""
        self.weight = weight  # (N, K) int8
        self.dtype = dtype
        self.scale = scale.bfloat16()  # (N,)
        self.wide_scale = scale.float().unsqueeze(1)  # (N, 1)
        self.num_bytes = weight.numel() + 4 * scale.numel()
        self.packable = weight.shape[1] % KERNEL_WIDTH == 0 or weight.device.type != "cpu"
        num_rows, width = weight.shape
        self._own(Stored(Kind.INT8, weight, num_rows, width, self.wide_scale), ANY_ROWS)

    def packed_product(self, x: Tensor) -> Tensor:
        return torch._weight_int8pack_mm(x.bfloat16(), self.weight, self.scale)

    def dense_product(self, x: Tensor) -> Tensor:
        dtype = self.plan.dense
        out = by_blocks(x.to(dtype), len(self.weight), lambda part: self.weight[part].to(dtype))
        return out.float().mul_(self.wide_scale.T).to(self.dtype)

    def rows(self, ids: Tensor) -> Tensor:
        return (self.weight[ids] * self.wide_scale[ids]).to(self.dtype)


def make_matrix(
    weight: Tensor | Scaled | Grouped,
    precision: Precision,
    device: torch.device,
    *,
    embedding: bool = False,
) -> Matrix:
    """Put `weight` (N, K) on `device` in `precision`.

    The embedding table is at least int8, and so is what the 4-bit kernels cannot multiply.
    """
    activations = activation_dtype(precision, device)
    rows, width = shape_of(weight)
    cpu = device.type == "cpu"
    own = cpu and own_library() is not None
    multiple = KERNEL_WIDTH if cpu else PANEL  # a GPU's tiles are those of eight rows
    fits = rows % multiple == 0 and width % KERNEL_WIDTH == 0
    if precision in INT4_GROUPS and fits and not embedding:
        if not isinstance(weight, Grouped):
            dense = weight.expand() if isinstance(weight, Scaled) else weight
            weight = quantize_int4(dense, int4_group(precision, width))
        if own:
            return Int4Panels(weight, activations)
        if not cpu:
            return Int4Tiles(weight, device, activations)
        return Int4(*weight.packed(), activations)
    if isinstance(weight, Grouped):
        weight = weight.expand()
    if precision == "int8" or precision in INT4_GROUPS:
        quantized, scale = weight.per_row() if isinstance(weight, Scaled) else quantize_int8(weight)
        return Int8(quantized.to(device), scale.to(device), activations)
    dense = weight.expand() if isinstance(weight, Scaled) else weight
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    return Dense(dense.to(device=device, dtype=dtypes[precision]), activations)
