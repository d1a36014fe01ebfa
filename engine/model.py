"""The model seam inside the engine: what computes, as the scheduler sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from engine.kv_cache import CacheShape, Slot


class Model(Protocol):
    """What the scheduler needs of a model: `engine.llama.Llama`, or anything that acts like it."""

    @property
    def cache_shape(self) -> CacheShape:
        """What one token leaves in a slot."""
        ...

    @property
    def steady_width(self) -> int:
        """Tokens that a pass may have for each to be computed as if it were alone, to the bit.

        1 means that a token must be alone indeed.
        """
        ...

    def stretch(self, num_tokens: int) -> int:
        """What a slot's `stretch` must be for its contents to count in such a long sequence."""
        ...

    def make_room(self, slot: Slot, num_tokens: int) -> None:
        """Let `slot` hold `num_tokens`; may empty it."""
        ...

    def give_up(self) -> bool:
        """Free memory that it can do without → whether it had any."""
        ...

    def forward(
        self, ids: Sequence[int], spans: Sequence[tuple[Slot, int]], *, every: bool = False
    ) -> Tensor:
        """Read `ids` into the slots → logits after each span, or after every token."""
        ...
