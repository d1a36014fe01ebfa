"""What a pass does with keys and values: each row's go to its slot, its queries look over the slot.

There are two kinds of pass. `Ragged` takes any number of tokens for each row. `Fixed` takes one
token for each, and all that differs from one token to the next lies in tensors, so that what it
does can be recorded and done again (`engine/graphs.py`).

Letters in shapes as in `engine/llama.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.kv_cache import Slot, from_int8, to_int8

if TYPE_CHECKING:
    from engine.low_rank import Adapted
    from engine.rotary import Rotary

# One row's part of a pass: its slot, and how many of the tokens are for it.
Span = tuple[Slot, int]


class Pass(Protocol):
    """What all layers need to know about one forward pass."""

    turns: Tensor  # (N, D / 2) complex: the rotation of each token
    adapted: Adapted  # which of the tokens compute with an adapter

    def look(self, qkv: Tensor, layer: int) -> Tensor:
        """Keep the keys and values of (N, H + 2G, D), then attend → (N, H · D)."""
        ...


@dataclass(slots=True)
class Ragged:
    """A pass of any number of tokens for each row, read where the row's slot ends."""

    spans: Sequence[Span]
    turns: Tensor
    masks: list[Tensor | None]  # per row, (R · n, T): -inf where a key must not be seen; None: all
    adapted: Adapted = ()
    elsewhere: dict[torch.device, Ragged] = field(default_factory=dict)  # the same, on others

    @classmethod
    def of(cls, spans: Sequence[Span], rotary: Rotary, group: int, dtype: torch.dtype) -> Ragged:
        """`group` query heads share a key-value head; scores are added to in `dtype`."""
        turns = [
            rotary.table(slot.length + num, slot.stretch)[slot.length : slot.length + num]
            for slot, num in spans
        ]
        masks = [_mask(slot.length, num, group, dtype, rotary.device) for slot, num in spans]
        ends = itertools.accumulate(num for _, num in spans)
        adapted = [
            (slot.adapter, slice(end - num, end))
            for end, (slot, num) in zip(ends, spans, strict=True)
            if slot.adapter
        ]
        return cls(spans, turns[0] if len(turns) == 1 else torch.cat(turns), masks, adapted)

    def to(self, device: torch.device | str, **_how: object) -> Ragged:
        """The same for layers on `device`, moved there once. accelerate's hooks ask for it."""
        device = torch.device(device)
        if device == self.turns.device:
            return self
        if device not in self.elsewhere:
            masks = [None if mask is None else mask.to(device) for mask in self.masks]
            self.elsewhere[device] = replace(self, turns=self.turns.to(device), masks=masks)
        return self.elsewhere[device]

    def look(self, qkv: Tensor, layer: int) -> Tensor:
        """See `Pass`."""
        if len(self.spans) == 1:
            return self._look(qkv, layer, 0)
        parts = torch.split(qkv, [num for _, num in self.spans])
        return torch.cat([self._look(part, layer, row) for row, part in enumerate(parts)])

    def _look(self, qkv: Tensor, layer: int, row: int) -> Tensor:
        slot, num = self.spans[row]
        cache, end = slot.layers[layer], slot.length + num
        cache[:, slot.length : end] = _entries(qkv, cache)
        return _attend(qkv, cache[:, :end], self.masks[row])


@dataclass(slots=True)
class Fixed:
    """A pass of one token for each slot, written to its place in tensors of a fixed shape.

    A row looks over the first `window` tokens of its slot, as many as there are room for; a mask
    hides what lies behind its place. That must be finite all the same: a weight of 0 times
    infinity is no number.
    """

    slots: Sequence[Slot]
    places: Tensor  # (rows,): the position of each token, less than `window`
    turns: Tensor
    mask: Tensor  # (rows, window): -inf behind the row's place
    adapted: Adapted = ()

    @classmethod
    def of(
        cls,
        slots: Sequence[Slot],
        places: Tensor,
        tables: Sequence[Tensor],
        window: int,
        dtype: torch.dtype,
    ) -> Fixed:
        """`tables` hold the rotations (positions, D / 2) of each row; scores are in `dtype`."""
        rows = zip(tables, torch.split(places, 1), strict=True)
        turns = torch.cat([table.index_select(0, place) for table, place in rows])
        hidden = torch.arange(window, device=places.device) > places.unsqueeze(1)
        mask = torch.zeros(hidden.shape, dtype=dtype, device=places.device)
        return cls(slots, places, turns, mask.masked_fill_(hidden, -torch.inf))

    def look(self, qkv: Tensor, layer: int) -> Tensor:
        """See `Pass`."""
        parts = (torch.split(each, 1) for each in (qkv, self.places, self.mask))
        looked = []
        for slot, part, place, mask in zip(self.slots, *parts, strict=True):
            cache, window = slot.layers[layer], min(mask.shape[1], slot.capacity)
            cache.index_copy_(1, place, _entries(part, cache))
            looked.append(_attend(part, cache[:, :window], mask[:, :window]))
        return torch.cat(looked)


def _mask(
    length: int, num: int, group: int, dtype: torch.dtype, device: torch.device
) -> Tensor | None:
    """What to add to the scores of `num` new tokens against `length + num` keys: 0 or -inf.

    One block of rows per query head of a group. As numbers rather than booleans, because those
    would be turned into numbers again in every layer.
    """
    if num == 1:
        return None
    mask = torch.full((num, length + num), -torch.inf, dtype=dtype, device=device)
    return mask.triu_(length + 1).repeat(group, 1)


def _entries(qkv: Tensor, cache: Tensor) -> Tensor:
    """The keys and values in (n, H + 2G, D), as the cache (2G, capacity, entry) holds them."""
    fresh = qkv[:, -len(cache) :].transpose(0, 1)
    return to_int8(fresh) if cache.dtype == torch.int8 else fresh.to(cache.dtype)


def _attend(qkv: Tensor, held: Tensor, mask: Tensor | None) -> Tensor:
    """The queries in (n, H + 2G, D) over held keys and values (2G, T, entry) → (n, H · D).

    Keys and values are never expanded: the query heads of a group share them.
    """
    num, head_dim = len(qkv), qkv.shape[2]
    if held.dtype == torch.int8:
        held = from_int8(held, qkv.dtype)
    keys, values = held.unsqueeze(0).chunk(2, dim=1)  # (1, G, T, D) each
    queries = qkv[:, : -len(held)].to(held.dtype)  # (n, H, D)
    # The R query heads of a group stand one after the other in the query axis: (1, G, R · n, D).
    if num > 1:
        queries = queries.transpose(0, 1)
    grouped = queries.reshape(1, keys.shape[1], -1, head_dim)
    looked = F.scaled_dot_product_attention(grouped, keys, values, attn_mask=mask).to(qkv.dtype)
    if num > 1:
        looked = looked.reshape(-1, num, head_dim).transpose(0, 1)
    return looked.reshape(num, -1)
