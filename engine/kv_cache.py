"""Slots of keys and values, one per row, each with its own length.

A slot holds what a model computed for a sequence of token ids, layer by layer, in one buffer that
grows in buckets (doubling), so that decode writes in place and nothing is padded. Slots know which
ids they hold: the prefix cache compares them. All slots of a model draw on one budget of bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from engine.base import DeviceOutOfMemory
from engine.device import is_out_of_memory

FIRST_BUCKET = 256  # tokens; a short question and its answer


@dataclass(frozen=True, slots=True)
class CacheShape:
    """What one token leaves behind: fixed by the model."""

    num_layers: int
    num_kv_heads: int
    head_dim: int
    dtype: torch.dtype
    device: torch.device
    context_length: int

    @property
    def token_bytes(self) -> int:
        """Bytes of keys and values per token."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * self.dtype.itemsize

    def bucket(self, num_tokens: int) -> int:
        """The smallest capacity a slot may have to hold `num_tokens`."""
        size = FIRST_BUCKET
        while size < num_tokens:
            size *= 2
        return max(num_tokens, min(size, self.context_length))


@dataclass(slots=True, eq=False)
class Slot:
    """Keys and values of one sequence. `layers[i]` is (2·Hkv, capacity, D): keys, then values."""

    shape: CacheShape
    capacity: int = 0
    ids: list[int] = field(default_factory=list)  # the tokens whose keys and values are valid
    layers: list[Tensor] = field(default_factory=list)
    scope: str = ""
    stretch: int = 0  # the length that dynamic rotary scaling was computed for
    last_used: int = 0

    @property
    def length(self) -> int:
        """Tokens held."""
        return len(self.ids)

    @property
    def num_bytes(self) -> int:
        """Bytes of the buffer, used or not."""
        return self.capacity * self.shape.token_bytes

    def reserve(self, num_tokens: int) -> None:
        """Make room for `num_tokens` in total. Raises `DeviceOutOfMemory`; the slot stays whole."""
        if num_tokens <= self.capacity:
            return
        shape, capacity = self.shape, self.shape.bucket(num_tokens)
        try:
            buffer = torch.empty(
                shape.num_layers,
                2 * shape.num_kv_heads,
                capacity,
                shape.head_dim,
                dtype=shape.dtype,
                device=shape.device,
            )
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise DeviceOutOfMemory(
                    f"The device has no room for {num_tokens} tokens of conversation: "
                    "close other conversations or programs, or choose a smaller model."
                ) from error
            raise
        layers = list(buffer.unbind(0))
        for new, old in zip(layers, self.layers, strict=False):
            new[:, : self.length].copy_(old[:, : self.length])
        self.layers, self.capacity = layers, capacity

    def trim(self, length: int) -> None:
        """Forget everything after the first `length` tokens."""
        del self.ids[length:]

    def copy(self, length: int, room: int) -> Slot:
        """A new slot with the first `length` tokens and place for `room` in total."""
        twin = Slot(self.shape, scope=self.scope, stretch=self.stretch)
        twin.reserve(max(length, room))
        for new, old in zip(twin.layers, self.layers, strict=True):
            new[:, :length].copy_(old[:, :length])
        twin.ids = self.ids[:length]
        return twin

    def moved_to(self, device: str) -> Slot:
        """A copy on another device, without the room to grow; only `copy` may read it."""
        twin = Slot(self.shape, self.length, list(self.ids), scope=self.scope, stretch=self.stretch)
        twin.layers = [layer[:, : self.length].to(device, copy=True) for layer in self.layers]
        twin.last_used = self.last_used
        return twin

    def release(self) -> None:
        """Give the memory back."""
        self.layers, self.capacity, self.ids = [], 0, []
