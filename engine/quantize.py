"""Linear layers and embeddings in fp32, bf16, fp16, int8 and int4.

Weights are quantized per output row (int8: symmetric, one scale) or per group of columns (int4:
scale and zero per group), and multiplied by torch's own packed kernels, `_weight_int8pack_mm` and
`_weight_int4pack_mm_for_cpu`. These are made for few rows; from `DENSE_ROWS` rows on a layer is
expanded block by block and multiplied densely. The kernels get bfloat16 activations: with float32
ones they fall into a scalar loop that is 10 to 150 times slower. Between them a CPU computes in
float32, which is both exact and, without bfloat16 instructions, faster.
"""

from __future__ import annotations

import functools
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.config import LlamaConfig

Precision = Literal["fp32", "bf16", "fp16", "int8", "int4"]

# Rows from which expanding the weights and multiplying densely beats the packed kernels.
DENSE_ROWS = 24
INT4_GROUP = 32
# CPU kernels of torch step through rows in vectors and read behind the end of a row (and buffer)
# whose width is no multiple of one: torch 2.13 crashed on a width of 56. No real Llama has that.
KERNEL_WIDTH = 64
_WIDE_CACHE_BYTES = 256 << 20
_BLOCK_VALUES = 1 << 20  # weights expanded at a time: 4 MB of float32 stay in a core's L2/L3


class Matrix(Protocol):
    """A weight matrix (N, K), ready to multiply: `matrix(x)` is x @ weightᵀ."""

    num_bytes: int

    def __call__(self, x: Tensor) -> Tensor:
        """(M, K) → (M, N)."""
        ...

    def rows(self, ids: Tensor) -> Tensor:
        """Rows `ids` (M,) as activations (M, K): the matrix as an embedding table."""
        ...


class Dense:
    """Weights in the dtype of the activations, or nearest to it."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight  # (N, K)
        self.num_bytes = weight.numel() * weight.element_size()

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)

    def rows(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight)


class Int8:
    """int8 weights with one scale per row."""

    def __init__(self, weight: Tensor, scale: Tensor, dtype: torch.dtype) -> None:
        """`dtype` is that of the activations, in and out."""
        self.weight = weight  # (N, K) int8
        self.dtype = dtype
        self.scale = scale.bfloat16()  # (N,)
        self.wide_scale = scale.float().unsqueeze(1)  # (N, 1)
        self.num_bytes = weight.numel() + 4 * scale.numel()
        self.packable = weight.shape[1] % KERNEL_WIDTH == 0 or weight.device.type != "cpu"

    def __call__(self, x: Tensor) -> Tensor:
        if x.shape[0] < DENSE_ROWS and self.packable:
            packed: Tensor = torch._weight_int8pack_mm(x.bfloat16(), self.weight, self.scale)
            return packed.to(self.dtype)
        return self._dense(x)

    def _dense(self, x: Tensor) -> Tensor:
        num_rows, width = self.weight.shape
        step = max(1, _BLOCK_VALUES // width)
        wide, out = x.float(), x.new_empty(x.shape[0], num_rows, dtype=torch.float32)
        for start in range(0, num_rows, step):
            part = slice(start, start + step)
            torch.mm(wide, self.weight[part].float().T, out=out[:, part])
        return out.mul_(self.wide_scale.T).to(self.dtype)

    def rows(self, ids: Tensor) -> Tensor:
        return (self.weight[ids] * self.wide_scale[ids]).to(self.dtype)


class Int4:
    """4-bit weights in groups of `INT4_GROUP` columns, in the order of torch's CPU kernel."""

    def __init__(self, values: Tensor, scale_zero: Tensor, dtype: torch.dtype) -> None:
        """`values` (N, K) 0 … 15, `scale_zero` (K / group, N, 2) bfloat16; see `quantize_int4`."""
        self.packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(values, 1)  # (N, K / 2)
        self.scale_zero = scale_zero
        self.dtype = dtype
        self.num_bytes = self.packed.numel() + 2 * scale_zero.numel()

    def __call__(self, x: Tensor) -> Tensor:
        if x.shape[0] < DENSE_ROWS:
            product: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(
                x.bfloat16(), self.packed, INT4_GROUP, self.scale_zero
            )
            return product.to(self.dtype)
        return self._dense(x)

    def _dense(self, x: Tensor) -> Tensor:
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
        groups = values[_places(width)].float().view(KERNEL_WIDTH, -1, INT4_GROUP)
        scale_zero = self.scale_zero[:, part].transpose(0, 1).float()  # (n, K / group, 2)
        return ((groups - 8) * scale_zero[..., :1] + scale_zero[..., 1:]).flatten(1)

    def rows(self, ids: Tensor) -> Tensor:
        raise NotImplementedError("embeddings are kept in int8")


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
    """4-bit weights as a GGUF file stores them, in groups of `INT4_GROUP` columns.

    weight = (value - 8) · scale + zero, as `quantize_int4` has it too.
    """

    def __init__(self, values: Tensor, scale: Tensor, zero: Tensor) -> None:
        self.values = values  # (N, K) uint8, 0 … 15
        self.scale, self.zero = scale, zero  # (N, K / group) float32

    def expand(self) -> Tensor:
        """The weights in float32."""
        groups = self.values.float().view(*self.scale.shape, -1) - 8
        wide: Tensor = groups * self.scale.unsqueeze(-1) + self.zero.unsqueeze(-1)
        return wide.flatten(1)

    def packed(self) -> tuple[Tensor, Tensor]:
        """As `quantize_int4` gives them: the values unchanged, scale and zero in bfloat16."""
        scale_zero = torch.stack((self.scale, self.zero), dim=-1).transpose(0, 1)
        return self.values.to(torch.int32), scale_zero.contiguous().bfloat16()


def quantize_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(N, K) floats → int8 (N, K) and scales (N,), symmetric.

    The scale is rounded to bfloat16 first, as that is what the kernel multiplies by: the rounding
    then is no error of a whole row.
    """
    num_rows, width = weight.shape
    quantized, scale = torch.empty(weight.shape, dtype=torch.int8), torch.empty(num_rows)
    step = max(1, _BLOCK_VALUES // width)  # a table of embeddings in float32 would be a peak
    for start in range(0, num_rows, step):
        part = slice(start, start + step)
        wide = weight[part].float()
        scale[part] = (wide.abs().amax(dim=1) / 127).clamp_min(1e-12).bfloat16().float()
        quantized[part] = (wide / scale[part].unsqueeze(1)).round_().clamp_(-127, 127)
    return quantized, scale


def quantize_int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(N, K) floats → values 0 … 15 (N, K) int32 and scale and zero (K / group, N, 2) bfloat16.

    weight ≈ (value - 8) · scale + zero, per group of `INT4_GROUP` columns.
    """
    groups = weight.float().reshape(len(weight), -1, INT4_GROUP)  # (N, K / group, group)
    low, high = groups.amin(dim=-1), groups.amax(dim=-1)
    scale = ((high - low) / 15).clamp_min(1e-8).bfloat16().float()
    zero = (low + 8 * scale).bfloat16().float()
    values = ((groups - zero.unsqueeze(-1)) / scale.unsqueeze(-1)).round_().add_(8).clamp_(0, 15)
    scale_zero = torch.stack((scale, zero), dim=-1).transpose(0, 1).contiguous().bfloat16()
    return values.flatten(1).to(torch.int32), scale_zero


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
    fits = rows % KERNEL_WIDTH == 0 and width % KERNEL_WIDTH == 0 and device.type == "cpu"
    if precision == "int4" and fits and not embedding:
        if isinstance(weight, Grouped):
            return Int4(*weight.packed(), activations)
        dense = weight.expand() if isinstance(weight, Scaled) else weight
        return Int4(*quantize_int4(dense), activations)
    if isinstance(weight, Grouped):
        weight = weight.expand()
    if precision in ("int8", "int4"):
        quantized, scale = weight.per_row() if isinstance(weight, Scaled) else quantize_int8(weight)
        return Int8(quantized.to(device), scale.to(device), activations)
    dense = weight.expand() if isinstance(weight, Scaled) else weight
    return Dense(dense.to(device=device, dtype=activations))


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
        case "bf16":
            return torch.bfloat16
        case _:
            return torch.float32 if device.type == "cpu" else torch.bfloat16


def cache_dtype(config: LlamaConfig, precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype of keys and values: as the activations, but never float32 where that is much.

    A CPU reads float32 faster than bfloat16, so it keeps small caches in float32 around quantized
    weights; at long contexts the halved memory counts more.
    """
    dtype = activation_dtype(precision, device)
    if precision in ("int8", "int4") and dtype == torch.float32:
        whole = config.kv_bytes_per_token(4) * config.context_length
        return torch.float32 if whole <= _WIDE_CACHE_BYTES else torch.bfloat16
    return dtype
