"""Weight matrices that multiply: in fp32, bf16, fp16, int8 and int4, each in up to three ways.

On a CPU these are the own kernels (`kernels/products.h`), torch's packed kernels, which are made
for few rows, and a dense product with the weights expanded block by block. Which way takes how many
rows is a `Plan`, measured at loading (`engine/tuning.py`). Between products a CPU computes in
float32, which is both exact and, without bfloat16 instructions, faster; torch's packed kernels
alone get bfloat16 activations, as float32 ones send them into a scalar loop that is 10 to 150 times
slower.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.kernels.pages import use_large_pages
from engine.kernels.products import (
    PANEL,
    Kind,
    Stored,
    multiply,
    own_library,
    pack_panels,
    panel_scales,
    unpack_panels,
)
from engine.quantize import (
    BLOCK_VALUES,
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

# CPU kernels of torch step through rows in vectors and read behind the end of a row (and buffer)
# whose width is no multiple of one: torch 2.13 crashed on a width of 56. No real Llama has that.
KERNEL_WIDTH = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """Up to how many rows each way is the fastest, tried in this order; the dense way does more."""

    own_rows: int = 0  # the own kernel
    packed_rows: int = 23  # torch's packed kernel
    dense: torch.dtype = torch.float32  # what weights are expanded to


class Matrix(Protocol):
    """A weight matrix (N, K), ready to multiply: `matrix(x)` is x @ weightᵀ."""

    num_bytes: int
    plan: Plan
    stored: Stored | None  # how the own kernels see it, where they can
    packable: bool  # whether torch's packed kernel can multiply by it
    dtype: torch.dtype  # of the activations, in and out

    def __call__(self, x: Tensor) -> Tensor:
        """(M, K) → (M, N)."""
        ...

    def rows(self, ids: Tensor) -> Tensor:
        """Rows `ids` (M,) as activations (M, K): the matrix as an embedding table."""
        ...


class _Planned:
    """Sends a product the way its plan says. Subclasses hold the weights."""

    plan: Plan
    stored: Stored | None
    dtype: torch.dtype  # of the activations, in and out

    def __call__(self, x: Tensor) -> Tensor:
        if self.stored is not None and len(x) <= self.plan.own_rows:
            library = own_library()
            assert library is not None
            return multiply(library, self.stored, x).to(self.dtype)
        if self.packable and len(x) <= self.plan.packed_rows:
            return self.packed_product(x).to(self.dtype)
        return self.dense_product(x)

    def _own(self, stored: Stored, most_rows: int) -> None:
        """Use the own kernel for products of up to `most_rows` rows, if there is one."""
        usable = stored.weight.device.type == "cpu" and stored.fits and own_library() is not None
        self.stored = stored if usable else None
        self.plan = Plan(own_rows=most_rows if usable else 0)
        if usable:
            use_large_pages(stored.weight)

    packable = False

    def packed_product(self, x: Tensor) -> Tensor:
        """By torch's packed kernel; only if `packable`."""
        raise NotImplementedError

    def dense_product(self, x: Tensor) -> Tensor:
        """By a dense product with weights expanded to `plan.dense`."""
        raise NotImplementedError


_ANY_ROWS = 1 << 62
_FEW_ROWS = 8  # where a dense matrix leaves the own kernel to a tiled product of the BLAS


class Dense(_Planned):
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
        return _by_blocks(x, len(self.weight), lambda part: self.weight[part].to(x.dtype))

    def rows(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight).to(self.dtype)


class Int8(_Planned):
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
        self._own(Stored(Kind.INT8, weight, num_rows, width, self.wide_scale), _ANY_ROWS)

    def packed_product(self, x: Tensor) -> Tensor:
        return torch._weight_int8pack_mm(x.bfloat16(), self.weight, self.scale)

    def dense_product(self, x: Tensor) -> Tensor:
        dtype = self.plan.dense
        out = _by_blocks(x.to(dtype), len(self.weight), lambda part: self.weight[part].to(dtype))
        return out.float().mul_(self.wide_scale.T).to(self.dtype)

    def rows(self, ids: Tensor) -> Tensor:
        return (self.weight[ids] * self.wide_scale[ids]).to(self.dtype)


class Int4Panels(_Planned):
    """4-bit weights in groups of columns, in the order of the own kernels."""

    def __init__(self, weights: Grouped, dtype: torch.dtype) -> None:
        """`weights`: rows a multiple of 8, width of 64. Only where there are own kernels."""
        self.dtype = dtype
        self.num_rows, width = weights.values.shape
        self.panels = pack_panels(weights.values)  # (N / 8, K / 32, 4, 32)
        self.scales = panel_scales(weights.scale)  # (N / 8, K / group, 8)
        self.zeros = panel_scales(weights.zero) if weights.zero.any() else None
        self.num_bytes = self.panels.numel() + 2 * self.scales.numel()
        self.num_bytes += 0 if self.zeros is None else 2 * self.zeros.numel()
        scales = (self.scales, self.zeros, weights.group)
        self._own(Stored(Kind.INT4, self.panels, self.num_rows, width, *scales), _ANY_ROWS)

    def dense_product(self, x: Tensor) -> Tensor:
        out = _by_blocks(x.to(self.plan.dense), self.num_rows, self.expand)
        return out.to(self.dtype)

    def expand(self, part: slice) -> Tensor:
        """Rows `part`, whole panels, in `plan.dense`."""
        panels = slice(part.start // 8, -(-part.stop // 8))
        scale = self.scales[panels].transpose(1, 2).flatten(0, 1).float()
        zeros = None if self.zeros is None else self.zeros[panels].transpose(1, 2).flatten(0, 1)
        zero = torch.zeros_like(scale) if zeros is None else zeros.float()
        grouped = Grouped(unpack_panels(self.panels[panels]), scale, zero)
        return grouped.expand().to(self.plan.dense)

    def rows(self, ids: Tensor) -> Tensor:
        raise NotImplementedError("embeddings are kept in int8")


class Int4(_Planned):
    """4-bit weights in groups of columns, in the order of torch's CPU kernel."""

    packable = True

    def __init__(self, values: Tensor, scale_zero: Tensor, dtype: torch.dtype) -> None:
        """`values` (N, K) 0 … 15, `scale_zero` (K / group, N, 2) bfloat16; see `Grouped.packed`."""
        self.packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(values, 1)  # (N, K / 2)
        self.scale_zero = scale_zero
        self._group = values.shape[1] // len(scale_zero)
        self.dtype = dtype
        self.num_bytes = self.packed.numel() + 2 * scale_zero.numel()
        self.stored, self.plan = None, Plan()

    def packed_product(self, x: Tensor) -> Tensor:
        product: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(
            x.bfloat16(), self.packed, self._group, self.scale_zero
        )
        return product

    def dense_product(self, x: Tensor) -> Tensor:
        num_rows = len(self.packed)
        wide, out = x.float(), x.new_empty(x.shape[0], num_rows, dtype=torch.float32)
        for start in range(0, num_rows, KERNEL_WIDTH):
            torch.mm(wide, self.expand(start).T, out=out[:, start : start + KERNEL_WIDTH])
        return out.to(self.dtype)

    def expand(self, start: int) -> Tensor:
        """The `KERNEL_WIDTH` rows from `start` on in float32."""
        part = slice(start, start + KERNEL_WIDTH)
        pairs = self.packed[part].flatten()
        values = torch.stack((pairs & 15, pairs >> 4), dim=1).flatten()
        width = 2 * self.packed.shape[1]
        groups = values[_places(width)].float().view(KERNEL_WIDTH, -1, self._group)
        scale_zero = self.scale_zero[:, part].transpose(0, 1).float()  # (n, K / group, 2)
        return ((groups - 8) * scale_zero[..., :1] + scale_zero[..., 1:]).flatten(1)

    def rows(self, ids: Tensor) -> Tensor:
        raise NotImplementedError("embeddings are kept in int8")


def _by_blocks(x: Tensor, num_rows: int, expand: Callable[[slice], Tensor]) -> Tensor:
    """Multiply x (M, K) by weightsᵀ → (M, num_rows); `expand(rows)` makes some rows of them."""
    step = max(KERNEL_WIDTH, BLOCK_VALUES // x.shape[1] // KERNEL_WIDTH * KERNEL_WIDTH)
    out = x.new_empty(x.shape[0], num_rows)
    for start in range(0, num_rows, step):
        part = slice(start, min(start + step, num_rows))
        torch.mm(x, expand(part).T, out=out[:, part])
    return out


@functools.lru_cache(maxsize=16)
def _places(width: int) -> Tensor:
    """Where torch's CPU packing puts the values of `KERNEL_WIDTH` rows (flat), in half bytes.

    The order depends on the processor and is not documented, so it is asked for: the numbers of the
    places themselves are packed, four bits at a time.
    """
    numbers = torch.arange(KERNEL_WIDTH * width)
    order = torch.zeros_like(numbers)
    for shift in range(0, int(numbers[-1]).bit_length(), 4):
        digits = (numbers >> shift & 15).to(torch.int32).view(KERNEL_WIDTH, width)
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(digits, 1).flatten()
        halves = torch.stack((packed & 15, packed >> 4), dim=1).flatten()
        order |= halves.long() << shift
    places = torch.empty_like(order)
    places[order] = numbers
    return places


def make_matrix(
    weight: Tensor | Scaled | Grouped,
    precision: Precision,
    device: torch.device,
    *,
    embedding: bool = False,
) -> Matrix:
    """Put `weight` (N, K) on `device` in `precision`.

    The embedding table is at least int8, and so is what the int4 kernel cannot multiply.
    """
    activations = activation_dtype(precision, device)
    rows, width = shape_of(weight)
    own = device.type == "cpu" and own_library() is not None
    multiple = PANEL if own else KERNEL_WIDTH
    fits = rows % multiple == 0 and width % KERNEL_WIDTH == 0 and device.type == "cpu"
    if precision in INT4_GROUPS and fits and not embedding:
        if not isinstance(weight, Grouped):
            dense = weight.expand() if isinstance(weight, Scaled) else weight
            weight = quantize_int4(dense, int4_group(precision, width))
        if own:
            return Int4Panels(weight, activations)
        return Int4(*weight.packed(), activations)
    if isinstance(weight, Grouped):
        weight = weight.expand()
    if precision == "int8" or precision in INT4_GROUPS:
        quantized, scale = weight.per_row() if isinstance(weight, Scaled) else quantize_int8(weight)
        return Int8(quantized.to(device), scale.to(device), activations)
    dense = weight.expand() if isinstance(weight, Scaled) else weight
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    return Dense(dense.to(device=device, dtype=dtypes[precision]), activations)
