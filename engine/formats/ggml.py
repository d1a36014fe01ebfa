"""ggml's block formats: stored bytes → float32 weights, or → groups of 4 bits as they are.

A row of a matrix is cut into blocks of 32 (the plain formats) or 256 weights (the K formats), each
with its own scale. Layouts are those of ggml-org/ggml `src/ggml-common.h`; the order of operations
is that of `gguf/quants.py`, so that every float32 comes out bit by bit the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.quantize import INT4_GROUP, Grouped

_BLOCKS_AT_A_TIME = 1 << 16  # what is expanded in between: 64 MB of float32 for the K formats


@dataclass(frozen=True, slots=True)
class Kind:
    """A storage type: `num_bytes` hold `num_weights` weights."""

    name: str
    num_weights: int
    num_bytes: int
    dtype: torch.dtype | None = None  # of the types that are plain numbers
    expand: Callable[[Tensor], Tensor] | None = None  # (blocks, num_bytes) → (blocks, num_weights)
    group: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]] | None = None

    def size(self, shape: tuple[int, ...]) -> int | None:
        """Bytes of a tensor of `shape` (outermost first), None where blocks do not fill rows."""
        if not shape or shape[-1] % self.num_weights:
            return None
        return math.prod(shape) // self.num_weights * self.num_bytes


def dequantize(content: Tensor, kind: Kind, shape: tuple[int, ...]) -> Tensor:
    """The weights that `content` (uint8) stands for: float32, or the plain type as stored."""
    if kind.dtype is not None:
        return content.view(kind.dtype).view(shape)
    assert kind.expand is not None
    blocks = content.view(-1, kind.num_bytes)
    weights = torch.empty(len(blocks), kind.num_weights)
    for start in range(0, len(blocks), _BLOCKS_AT_A_TIME):
        part = slice(start, start + _BLOCKS_AT_A_TIME)
        weights[part] = kind.expand(blocks[part]).view(-1, kind.num_weights)
    return weights.view(shape)


def regroup(content: Tensor, kind: Kind, shape: tuple[int, ...]) -> Grouped | None:
    """The 4-bit values of a matrix as they are stored; None for types that are not of that form."""
    if kind.group is None or len(shape) != 2:
        return None
    values, scale, zero = kind.group(content.view(-1, kind.num_bytes))
    groups = (shape[0], shape[1] // INT4_GROUP)
    return Grouped(values.view(shape), scale.view(groups), zero.view(groups))


def _half(blocks: Tensor, at: int) -> Tensor:
    """The float16 at byte `at` of each block, as float32 (blocks, 1)."""
    return blocks[:, at : at + 2].contiguous().view(torch.float16).float()


def _shifted(packed: Tensor, width: int, shifts: range, mask: int) -> Tensor:
    """Bit fields of runs of `width` bytes, all of one shift before the next: (blocks, values)."""
    runs = packed.reshape(len(packed), -1, 1, width)
    by = torch.tensor(list(shifts), dtype=torch.uint8).view(1, 1, -1, 1)
    return ((runs >> by) & mask).reshape(len(packed), -1)


def _nibbles(packed: Tensor) -> Tensor:
    """16 bytes → 32 values: the low halves, then the high halves."""
    return _shifted(packed, 16, range(0, 8, 4), 15)


def _fifth_bits(packed: Tensor) -> Tensor:
    """4 bytes → the bit 16 of 32 values."""
    bits = torch.arange(8, dtype=torch.uint8)
    return ((packed.unsqueeze(-1) >> bits) & 1).reshape(len(packed), 32) << 4


def _q4_0(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * (_nibbles(blocks[:, 2:]).float() - 8)


def _q4_1(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * _nibbles(blocks[:, 4:]).float() + _half(blocks, 2)


def _q5_0(blocks: Tensor) -> Tensor:
    values = _nibbles(blocks[:, 6:]) | _fifth_bits(blocks[:, 2:6])
    return _half(blocks, 0) * (values.float() - 16)


def _q5_1(blocks: Tensor) -> Tensor:
    values = _nibbles(blocks[:, 8:]) | _fifth_bits(blocks[:, 4:8])
    return _half(blocks, 0) * values.float() + _half(blocks, 2)


def _q8_0(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * blocks[:, 2:].view(torch.int8).float()


def _q2_k(blocks: Tensor) -> Tensor:
    scales = blocks[:, :16]
    low = _half(blocks, 80) * (scales & 15).float()
    minimum = _half(blocks, 82) * (scales >> 4).float()
    values = _shifted(blocks[:, 16:80], 32, range(0, 8, 2), 3).view(-1, 16, 16).float()
    return low.unsqueeze(-1) * values - minimum.unsqueeze(-1)


def _q3_k(blocks: Tensor) -> Tensor:
    low = _shifted(blocks[:, 96:104], 8, range(0, 8, 4), 15)
    high = _shifted(blocks[:, 104:108], 4, range(0, 8, 2), 3)
    scales = _half(blocks, 108) * ((low | (high << 4)).float() - 32)
    values = _shifted(blocks[:, 32:96], 32, range(0, 8, 2), 3).float()
    absent = (_shifted(blocks[:, :32], 32, range(8), 1) ^ 1).float()
    return scales.unsqueeze(-1) * (values - 4 * absent).view(-1, 16, 16)


def _six_bit_pairs(packed: Tensor) -> tuple[Tensor, Tensor]:
    """12 bytes → 8 scales and 8 minima of 6 bits each, as float32."""
    scale, minimum, both = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = torch.cat((scale & 63, (both & 15) | ((scale >> 2) & 48)), dim=1)
    minima = torch.cat((minimum & 63, (both >> 4) | ((minimum >> 2) & 48)), dim=1)
    return scales.float(), minima.float()


def _scales_of_k(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and minimum of each 32 weights of Q4_K and Q5_K: (blocks, 8)."""
    scales, minima = _six_bit_pairs(blocks[:, 4:16])
    return _half(blocks, 0) * scales, _half(blocks, 2) * minima


def _q4_k(blocks: Tensor) -> Tensor:
    scale, minimum = _scales_of_k(blocks)
    values = _shifted(blocks[:, 16:], 32, range(0, 8, 4), 15).view(-1, 8, 32).float()
    return scale.unsqueeze(-1) * values - minimum.unsqueeze(-1)


def _q5_k(blocks: Tensor) -> Tensor:
    scale, minimum = _scales_of_k(blocks)
    low = _shifted(blocks[:, 48:], 32, range(0, 8, 4), 15)
    values = (low | (_shifted(blocks[:, 16:48], 32, range(8), 1) << 4)).view(-1, 8, 32).float()
    return scale.unsqueeze(-1) * values - minimum.unsqueeze(-1)


def _q6_k(blocks: Tensor) -> Tensor:
    low = _shifted(blocks[:, :128], 64, range(0, 8, 4), 15)
    high = _shifted(blocks[:, 128:192], 32, range(0, 8, 2), 3)
    scales = _half(blocks, 208) * blocks[:, 192:208].view(torch.int8).float()
    return scales.unsqueeze(-1) * ((low | (high << 4)).float() - 32).view(-1, 16, 16)


# A `Grouped` weight is (value - 8) · scale + zero.


def _group_q4_0(blocks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    scale = _half(blocks, 0)
    return _nibbles(blocks[:, 2:]), scale, torch.zeros_like(scale)


def _group_q4_1(blocks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    scale = _half(blocks, 0)
    return _nibbles(blocks[:, 4:]), scale, _half(blocks, 2) + 8 * scale


def _group_q4_k(blocks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    scale, minimum = _scales_of_k(blocks)
    return _shifted(blocks[:, 16:], 32, range(0, 8, 4), 15), scale, 8 * scale - minimum


# By the number that GGUF files give them (`enum ggml_type` in ggml.h).
KINDS: dict[int, Kind] = {
    0: Kind("F32", 1, 4, torch.float32),
    1: Kind("F16", 1, 2, torch.float16),
    2: Kind("Q4_0", 32, 18, expand=_q4_0, group=_group_q4_0),
    3: Kind("Q4_1", 32, 20, expand=_q4_1, group=_group_q4_1),
    6: Kind("Q5_0", 32, 22, expand=_q5_0),
    7: Kind("Q5_1", 32, 24, expand=_q5_1),
    8: Kind("Q8_0", 32, 34, expand=_q8_0),
    10: Kind("Q2_K", 256, 84, expand=_q2_k),
    11: Kind("Q3_K", 256, 110, expand=_q3_k),
    12: Kind("Q4_K", 256, 144, expand=_q4_k, group=_group_q4_k),
    13: Kind("Q5_K", 256, 176, expand=_q5_k),
    14: Kind("Q6_K", 256, 210, expand=_q6_k),
    30: Kind("BF16", 1, 2, torch.bfloat16),
}
