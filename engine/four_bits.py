"""4-bit weights: for the own kernels, for torch's kernels on a CPU, and for those on a GPU."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from engine.kernels.products import Kind, Stored, pack_panels, panel_scales, unpack_panels
from engine.plans import ANY_ROWS, KERNEL_WIDTH, Plan, Planned, by_blocks
from engine.quantize import Grouped


class Int4Panels(Planned):
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
        self._own(Stored(Kind.INT4, self.panels, self.num_rows, width, *scales), ANY_ROWS)

    def dense_product(self, x: Tensor) -> Tensor:
        out = by_blocks(x.to(self.plan.dense), self.num_rows, self.expand)
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


class Int4(Planned):
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


class Int4Tiles:
    """4-bit weights in groups of columns, in torch's tiles for the matrix units of a GPU.

    One way for any number of rows: a prompt is read slower than by dense weights.
    """

    stored: Stored | None = None
    packable = True
    plan = Plan(packed_rows=ANY_ROWS)

    def __init__(self, weights: Grouped, device: torch.device, dtype: torch.dtype) -> None:
        """`weights`: rows a multiple of 8, width of 64."""
        values, scale_zero = weights.packed()
        pairs = (values[:, 0::2] << 4 | values[:, 1::2]).to(torch.uint8)  # (N, K / 2)
        self.num_rows, width = values.shape
        deep = next(tiles for tiles in (8, 4, 2) if width % (16 * tiles) == 0)
        # (N / 8, K / (16 · deep), 32, deep / 2) int32
        self.tiles = torch.ops.aten._convert_weight_to_int4pack(pairs.to(device), deep)
        self.scale_zero = scale_zero.to(device)  # (K / group, N, 2) bfloat16
        self.group, self.dtype = weights.group, dtype
        self.num_bytes = 4 * self.tiles.numel() + 2 * self.scale_zero.numel()

    def __call__(self, x: Tensor) -> Tensor:
        """(M, K) → (M, N)."""
        product: Tensor = torch.ops.aten._weight_int4pack_mm(
            x.bfloat16(), self.tiles, self.group, self.scale_zero
        )
        return product.to(self.dtype)

    def rows(self, ids: Tensor) -> Tensor:
        """Embeddings are kept in int8."""
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
