"""Products with weights in the forms of `products.h`, by the compiled library."""

from __future__ import annotations

import ctypes
import functools
import logging
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from engine.kernels import build
from engine.kernels.pages import use_large_pages

log = logging.getLogger(__name__)

GROUP = 64  # int8 activations that share a scale: widths are multiples of it
GROUP4 = 32  # 4-bit weights that share a scale, and are stored together
_WIDE_GROUP4 = 128  # or as many share one
PANEL = 8  # rows of 4-bit weights that are stored together
_TILE = 4  # rows, or panels of them, that are multiplied side by side


class Kind(IntEnum):
    """How numbers are stored: the enumeration of numbers.h."""

    FLOAT32 = 0
    BFLOAT16 = 1
    INT8 = 2
    INT4 = 3


class MatrixPointers(ctypes.Structure):
    """`Matrix` of products.h."""

    _fields_ = (
        ("weight", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("zero", ctypes.c_void_p),
        ("rows", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("kind", ctypes.c_int64),
        ("group", ctypes.c_int64),
    )


@dataclass(frozen=True, slots=True)
class Stored:
    """Weights (rows, width) on the CPU as the library reads them: see `Matrix` in products.h."""

    kind: Kind
    weight: Tensor
    rows: int
    width: int
    scale: Tensor | None = None
    zero: Tensor | None = None
    group: int = GROUP4  # columns of INT4 that share a scale

    @property
    def pointers(self) -> MatrixPointers:
        """Valid as long as this value is."""
        addresses = [None if t is None else t.data_ptr() for t in (self.scale, self.zero)]
        sizes = (self.rows, self.width, self.kind, self.group)
        return MatrixPointers(self.weight.data_ptr(), *addresses, *sizes)

    @property
    def fits(self) -> bool:
        """Whether the library can walk these sizes."""
        height = PANEL * _TILE if self.kind == Kind.INT4 else _TILE
        groups = self.group == GROUP4 or (self.group == _WIDE_GROUP4 and self.zero is None)
        sizes = self.rows % height == 0 and self.width % max(GROUP, self.group) == 0
        return groups and sizes and self.weight.is_contiguous()


def multiply(library: ctypes.CDLL, matrix: Stored, x: Tensor) -> Tensor:
    """Multiply x (M, width) by weightᵀ → (M, rows), float32; each row to the bit as it is alone."""
    product, scratch_bytes = library.corral_multiply, library.corral_multiply_bytes
    scratch_bytes.restype = ctypes.c_int64
    x = x.float().contiguous()
    out = torch.empty(len(x), matrix.rows)
    pointers, num = ctypes.byref(matrix.pointers), ctypes.c_int64(len(x))
    scratch = torch.empty(scratch_bytes(pointers, num), dtype=torch.uint8)
    product(
        pointers,
        ctypes.c_void_p(x.data_ptr()),
        num,
        ctypes.c_void_p(out.data_ptr()),
        ctypes.c_void_p(scratch.data_ptr()),
        ctypes.c_int(torch.get_num_threads()),
    )
    return out


def pack_panels(values: Tensor) -> Tensor:
    """Values 0 … 15 (N, K) uint8 → panels (N / 8, K / 32, 4, 32) of two values a byte."""
    rows, width = values.shape
    # panel, row, group, half of the group, four columns, column → see dot4 in integers.h
    split = values.view(rows // PANEL, PANEL, width // GROUP4, 2, 4, 4).permute(0, 2, 3, 4, 1, 5)
    panels = torch.empty(split[:, :, 0].shape, dtype=torch.uint8)
    use_large_pages(panels)
    return torch.bitwise_or(split[:, :, 0], split[:, :, 1] << 4, out=panels).flatten(3)


def unpack_panels(panels: Tensor) -> Tensor:
    """The inverse of `pack_panels`."""
    num_panels, groups = panels.shape[:2]
    halves = torch.stack((panels & 15, panels >> 4), dim=2)  # (N / 8, K / 32, 2, 4, 32)
    split = halves.view(num_panels, groups, 2, 4, PANEL, 4).permute(0, 4, 1, 2, 3, 5)
    return split.reshape(num_panels * PANEL, groups * GROUP4)


def panel_scales(scale: Tensor) -> Tensor:
    """(N, K / group) → (N / 8, K / group, 8) bfloat16."""
    return scale.view(-1, PANEL, scale.shape[1]).transpose(1, 2).contiguous().bfloat16()


@functools.cache
def own_library() -> ctypes.CDLL | None:
    """The library of this process, built and verified on the first call; None where it fails."""
    library = build.load()
    if library is not None and not computes_right(library):
        log.warning("the own kernels failed their test and are not used")
        return None
    return library


def computes_right(library: ctypes.CDLL) -> bool:
    """Compare every kind of product with the same in float64, in tiles of every size.

    The activations are whole numbers of which one in each group is 127, a divisor of what they are
    quantized to: that changes nothing, and what is left is the rounding of float32 sums.
    """
    generator = torch.Generator().manual_seed(0)
    rows, width = 3 * PANEL * _TILE, 18 * GROUP  # whole spans of columns and a part of one
    x = torch.randint(-127, 128, (7, width), generator=generator).float()
    x[:, ::GROUP] = 127
    for matrix, exact in _samples(rows, width, generator):
        expected = x.double() @ exact.double().T
        for num in range(1, len(x) + 1):
            error = (multiply(library, matrix, x[:num]) - expected[:num]).abs().max()
            if not error / expected.std() < 1e-5:
                return False
    return True


def _samples(rows: int, width: int, generator: torch.Generator) -> list[tuple[Stored, Tensor]]:
    """One matrix of each kind, and its weights as floats."""
    dense = torch.randn(rows, width, generator=generator)
    whole = torch.randint(-128, 128, (rows, width), generator=generator, dtype=torch.int8)
    scale = torch.rand(rows, generator=generator)
    halves = torch.randint(0, 16, (rows, width), generator=generator, dtype=torch.uint8)
    scale4, zero4 = (
        torch.rand(rows, width // GROUP4, generator=generator).bfloat16().float() for _ in range(2)
    )
    panels, scales, zeros = pack_panels(halves), panel_scales(scale4), panel_scales(zero4)
    few = scale4[:, :: _WIDE_GROUP4 // GROUP4].contiguous()
    shared = (halves.float() - 8) * few.repeat_interleave(_WIDE_GROUP4, dim=1)
    plain = (halves.float() - 8) * scale4.repeat_interleave(GROUP4, dim=1)
    moved = plain + zero4.repeat_interleave(GROUP4, dim=1)
    return [
        (Stored(Kind.FLOAT32, dense, rows, width), dense),
        (Stored(Kind.BFLOAT16, dense.bfloat16(), rows, width), dense.bfloat16()),
        (Stored(Kind.INT8, whole, rows, width, scale), whole * scale.unsqueeze(1)),
        (Stored(Kind.INT4, panels, rows, width, scales), plain),
        (Stored(Kind.INT4, panels, rows, width, scales, zeros), moved),
        (Stored(Kind.INT4, panels, rows, width, panel_scales(few), None, _WIDE_GROUP4), shared),
    ]
