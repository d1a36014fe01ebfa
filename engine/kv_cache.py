"""Slots of keys and values, one per row, each with its own length.

A slot holds what a model computed for a sequence of token ids, layer by layer, in one buffer that
grows in buckets (doubling), so that decode writes in place and nothing is padded. Slots know which
ids they hold: the prefix cache compares them. All slots of a model draw on one budget of bytes.

Keys and values may be kept in int8, each head of each token with a scale of its own that stands
behind its values: about half the room of 16 bits, and slots, prefixes and pieces on the disk are
handled as they always are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Literal

import torch
from torch import Tensor

from engine.config import LlamaConfig
from engine.device import is_out_of_memory
from engine.errors import DeviceOutOfMemory
from engine.quantize import Precision, activation_dtype

# How keys and values are kept: as suits the activations, or in int8.
Kept = Literal["auto", "int8"]

_WIDE_CACHE_BYTES = 256 << 20
_SCALE_BYTES = 4  # a float32 behind the int8 values of a head

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
    layer_devices: tuple[torch.device, ...] = ()  # of each layer, where not all are on `device`

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """Where the keys and values of each layer lie."""
        return self.layer_devices or (self.device,) * self.num_layers

    @property
    def entry(self) -> int:
        """Elements that a head keeps of a token's key, or of its value."""
        return self.head_dim + _SCALE_BYTES if self.dtype == torch.int8 else self.head_dim

    @property
    def token_bytes(self) -> int:
        """Bytes of keys and values per token."""
        return 2 * self.num_layers * self.num_kv_heads * self.entry * self.dtype.itemsize

    def bucket(self, num_tokens: int) -> int:
        """The smallest capacity a slot may have to hold `num_tokens`."""
        size = FIRST_BUCKET
        while size < num_tokens:
            size *= 2
        return max(num_tokens, min(size, self.context_length))


def cache_shape(
    config: LlamaConfig, precision: Precision, device: torch.device, kept: Kept = "auto"
) -> CacheShape:
    """What a token of a model of this shape leaves behind, in the dtype that `kept` asks for."""
    return CacheShape(
        num_layers=config.num_hidden_layers,
        num_kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        dtype=torch.int8 if kept == "int8" else _usual_dtype(config, precision, device),
        device=device,
        context_length=config.context_length,
    )


def _usual_dtype(config: LlamaConfig, precision: Precision, device: torch.device) -> torch.dtype:
    """As the activations, but never float32 where that is much.

    A CPU reads float32 faster than bfloat16, so it keeps small caches in float32 around narrower
    weights; at long contexts the halved memory counts more.
    """
    dtype = activation_dtype(precision, device)
    if precision != "fp32" and dtype == torch.float32:
        whole = config.kv_bytes_per_token(4) * config.context_length
        return torch.float32 if whole <= _WIDE_CACHE_BYTES else torch.bfloat16
    return dtype


def to_int8(values: Tensor) -> Tensor:
    """(..., D) floats → (..., D + 4) int8: rounded by a scale each, which stands behind them."""
    wide = values.float()
    scale = wide.abs().amax(dim=-1, keepdim=True) / 127
    whole = (wide / scale.clamp_min(1e-30)).round_().to(torch.int8)
    return torch.cat((whole, scale.view(torch.int8)), dim=-1)


def from_int8(entries: Tensor, dtype: torch.dtype) -> Tensor:
    """The inverse of `to_int8`, but for the rounding."""
    scale = entries[..., -_SCALE_BYTES:].contiguous().view(torch.float32)
    return (entries[..., :-_SCALE_BYTES] * scale).to(dtype)


@dataclass(slots=True, eq=False)
class Slot:
    """Keys and values of one sequence. `layers[i]` is (2·Hkv, capacity, entry): keys, values."""

    shape: CacheShape
    capacity: int = 0
    ids: list[int] = field(default_factory=list)  # the tokens whose keys and values are valid
    layers: list[Tensor] = field(default_factory=list)
    scope: str = ""
    stretch: int = 0  # the length that dynamic rotary scaling was computed for
    adapter: str = ""  # fingerprint of the adapter that they were computed with
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
        capacity = self.shape.bucket(num_tokens)
        try:
            layers = [layer for part in self._buffers(capacity) for layer in part.unbind(0)]
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise DeviceOutOfMemory(
                    f"The device has no room for {num_tokens} tokens of conversation: "
                    "close other conversations or programs, or choose a smaller model."
                ) from error
            raise
        for new, old in zip(layers, self.layers, strict=False):
            new[:, : self.length].copy_(old[:, : self.length])
        self.layers, self.capacity = layers, capacity

    def _buffers(self, capacity: int) -> Iterator[Tensor]:
        """Room for all layers: one piece of memory for those that follow each other on a device."""
        shape = self.shape
        for device, layers in groupby(shape.devices):
            size = (len(list(layers)), 2 * shape.num_kv_heads, capacity, shape.entry)
            yield torch.empty(size, dtype=shape.dtype, device=device)

    def trim(self, length: int) -> None:
        """Forget everything after the first `length` tokens."""
        del self.ids[length:]

    def copy(self, length: int, room: int) -> Slot:
        """A new slot with the first `length` tokens and place for `room` in total."""
        twin = Slot(self.shape, scope=self.scope, stretch=self.stretch, adapter=self.adapter)
        twin.reserve(max(length, room))
        for new, old in zip(twin.layers, self.layers, strict=True):
            new[:, :length].copy_(old[:, :length])
        twin.ids = self.ids[:length]
        return twin

    def moved_to(self, device: str) -> Slot:
        """A copy on another device, without the room to grow; only `copy` may read it."""
        twin = replace(self, capacity=self.length, ids=list(self.ids))
        twin.layers = [layer[:, : self.length].to(device, copy=True) for layer in self.layers]
        return twin

    def release(self) -> None:
        """Give the memory back."""
        self.layers, self.capacity, self.ids = [], 0, []
