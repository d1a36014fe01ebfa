"""Which way a product of a matrix takes: what all kinds of weights share.

On a CPU there are up to three ways: the own kernels (`kernels/products.h`), torch's packed kernels,
which are made for few rows, and a dense product with the weights expanded block by block. Which way
takes how many rows is a `Plan`, measured at loading (`engine/tuning.py`). Between products a CPU
computes in float32, which is both exact and, without bfloat16 instructions, faster; torch's packed
kernels alone get bfloat16 activations, as float32 ones send them into a scalar loop that is 10 to
150 times slower.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from engine.kernels.pages import use_large_pages
from engine.kernels.products import Stored, multiply, own_library
from engine.quantize import BLOCK_VALUES

# CPU kernels of torch step through rows in vectors and read behind the end of a row (and buffer)
# whose width is no multiple of one: torch 2.13 crashed on a width of 56. No real Llama has that.
KERNEL_WIDTH = 64


ANY_ROWS = 1 << 62


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


class Planned:
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


def by_blocks(x: Tensor, num_rows: int, expand: Callable[[slice], Tensor]) -> Tensor:
    """Multiply x (M, K) by weightsᵀ → (M, num_rows); `expand(rows)` makes some rows of them."""
    step = max(KERNEL_WIDTH, BLOCK_VALUES // x.shape[1] // KERNEL_WIDTH * KERNEL_WIDTH)
    out = x.new_empty(x.shape[0], num_rows)
    for start in range(0, num_rows, step):
        part = slice(start, min(start + step, num_rows))
        torch.mm(x, expand(part).T, out=out[:, part])
    return out
