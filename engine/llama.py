"""The Llama forward pass, in reading order: norm, attention, feed-forward, block, model.

Rows of different length share one pass without padding: their tokens lie one after the other, and
only attention looks at each row by itself, over the keys and values in that row's slot.

Letters in shapes: N tokens of all rows together, n tokens of one row, T tokens it then holds,
C hidden size, F feed-forward size, V vocabulary, H query heads, G key-value heads, R = H / G query
heads per key-value head, D head dimension.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.config import LlamaConfig
from engine.kernels.step import MAX_TOKENS, Step
from engine.kv_cache import Kept, Slot, cache_shape, from_int8, to_int8
from engine.matrices import Dense, Matrix
from engine.memory import give_back
from engine.quantize import Precision, activation_dtype
from engine.rotary import Rotary, rotate

if TYPE_CHECKING:
    from engine.dispatch import Dispatch
    from engine.low_rank import Adapted, LowRank

# One row's part of a pass: its slot, and how many of the tokens are for it.
Span = tuple[Slot, int]


@dataclass(slots=True)
class Pass:
    """What all layers need to know about one forward pass."""

    spans: Sequence[Span]
    turns: Tensor  # (N, D / 2) complex: the rotation of each token
    masks: list[Tensor | None]  # per row, (R · n, T): -inf where a key must not be seen; None: all
    adapted: Adapted = ()  # which of the tokens compute with an adapter
    elsewhere: dict[torch.device, Pass] = field(default_factory=dict)  # the same, on other devices

    def to(self, device: torch.device | str, **_how: object) -> Pass:
        """The same for layers on `device`, moved there once. accelerate's hooks ask for it."""
        device = torch.device(device)
        if device == self.turns.device:
            return self
        if device not in self.elsewhere:
            masks = [None if mask is None else mask.to(device) for mask in self.masks]
            self.elsewhere[device] = replace(self, turns=self.turns.to(device), masks=masks)
        return self.elsewhere[device]


class Norm:
    """RMSNorm: x / rms(x) · weight, the mean taken in float32."""

    def __init__(self, weight: Tensor, eps: float) -> None:
        self.weight, self.eps = weight, eps  # (C,)

    def __call__(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)  # (N, C)


class Linear:
    """A matrix, a bias where the config asks for one, and what adapters add to their rows."""

    def __init__(self, matrix: Matrix, bias: Tensor | None) -> None:
        self.matrix, self.bias = matrix, bias
        self.changes: dict[str, LowRank] = {}  # by the adapter's fingerprint

    def __call__(self, x: Tensor, adapted: Adapted = ()) -> Tensor:
        y = self.matrix(x)
        if self.bias is not None:
            y += self.bias
        for adapter, rows in adapted:
            if change := self.changes.get(adapter):
                change.add_to(y[rows], x[rows])
        return y


class Attention:
    """Grouped-query attention over the row's slot; keys and values are never expanded."""

    def __init__(self, config: LlamaConfig, qkv: Linear, out: Linear) -> None:
        self.num_heads, self.num_kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = config.head_dim
        self.qkv, self.out = qkv, out

    def __call__(self, x: Tensor, step: Pass, layer: int) -> Tensor:
        heads, kv_heads = self.num_heads, self.num_kv_heads
        qkv = self.qkv(x, step.adapted).view(
            -1, heads + 2 * kv_heads, self.head_dim
        )  # (N, H + 2G, D)
        rotate(qkv[:, : heads + kv_heads], step.turns)
        if len(step.spans) == 1:
            return self.out(self._look(qkv, step, layer, 0), step.adapted)
        parts = torch.split(qkv, [num for _, num in step.spans])
        looked = [self._look(part, step, layer, row) for row, part in enumerate(parts)]
        return self.out(torch.cat(looked), step.adapted)

    def _look(self, qkv: Tensor, step: Pass, layer: int, row: int) -> Tensor:
        """Write the row's keys and values to its slot, then attend: → (n, H · D)."""
        slot, num = step.spans[row]
        heads, kv_heads, head_dim = self.num_heads, self.num_kv_heads, self.head_dim
        start, end = slot.length, slot.length + num
        cache, fresh = slot.layers[layer], qkv[:, heads:].transpose(0, 1)  # (2G, capacity, entry)
        if cache.dtype == torch.int8:
            cache[:, start:end] = to_int8(fresh)
            held = from_int8(cache[:, :end], qkv.dtype)
        else:
            cache[:, start:end] = fresh
            held = cache[:, :end]
        keys, values = held[:kv_heads], held[kv_heads:]  # (G, T, D)
        queries = qkv[:, :heads].to(held.dtype)  # (n, H, D)
        # The R query heads of a group stand one after the other in the query axis: (1, G, R·n, D).
        if num == 1:
            grouped = queries.view(1, kv_heads, -1, head_dim)
        else:
            grouped = queries.transpose(0, 1).reshape(1, kv_heads, -1, head_dim)
        mask = step.masks[row]
        looked = F.scaled_dot_product_attention(
            grouped, keys.unsqueeze(0), values.unsqueeze(0), attn_mask=mask
        )
        looked = looked.to(qkv.dtype)
        if num == 1:
            return looked.reshape(1, heads * head_dim)
        return looked.reshape(heads, num, head_dim).transpose(0, 1).reshape(num, -1)


class FeedForward:
    """SwiGLU: down(silu(gate(x)) · up(x)), gate and up as one matrix."""

    def __init__(self, gate_up: Linear, down: Linear) -> None:
        self.gate_up, self.down = gate_up, down

    def __call__(self, x: Tensor, adapted: Adapted) -> Tensor:
        gate, up = self.gate_up(x, adapted).chunk(2, dim=-1)  # (N, F) each
        return self.down(F.silu(gate).mul_(up), adapted)  # (N, C)


class Block:
    """One layer: x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(
        self, norm1: Norm, attention: Attention, norm2: Norm, feed_forward: FeedForward
    ) -> None:
        self.norm1, self.attention = norm1, attention
        self.norm2, self.feed_forward = norm2, feed_forward

    def __call__(self, x: Tensor, step: Pass, layer: int) -> Tensor:
        x += self.attention(self.norm1(x), step, layer)
        x += self.feed_forward(self.norm2(x), step.adapted)
        return x

    def linears(self) -> tuple[Linear, ...]:
        """All four, in the order of computing."""
        attention, feed_forward = self.attention, self.feed_forward
        return attention.qkv, attention.out, feed_forward.gate_up, feed_forward.down


@dataclass(frozen=True, slots=True)
class Stages:
    """The way of a pass through the model; hooks may stand around each (`engine/dispatch.py`)."""

    look_up: Callable[[Tensor], Tensor]  # ids (N,) → (N, C)
    layers: Sequence[Callable[[Tensor, Pass, int], Tensor]]  # (N, C) → (N, C)
    read_out: Callable[[Tensor], Tensor]  # (N, C) → (N, V)


class Llama:
    """The whole model. Not safe for two threads at once: one compute thread owns it."""

    def __init__(
        self,
        config: LlamaConfig,
        embedding: Matrix,
        blocks: Sequence[Block],
        norm: Norm,
        head: Matrix,
        rotary: Rotary,
        *,
        precision: Precision,
        device: torch.device,
        kept: Kept = "auto",
    ) -> None:
        self.config, self.precision, self.device = config, precision, device
        self.embedding, self.blocks, self.norm, self.head = embedding, blocks, norm, head
        self.stages = Stages(embedding.rows, blocks, lambda x: head(norm(x)))
        self.rotary = rotary
        self.dispatch: Dispatch | None = None  # where parts lie that are not on `device`
        self.kernels = ""  # which kernels multiply, and why: measured at loading
        self.spread = ""  # where its parts lie and how slow that is, if they are in several places
        self.quality: object = None  # what quantizing costs, if it was measured: `Quality`
        self.step: Step | None = None  # an own kernel for passes of few tokens
        self.adapters: set[str] = set()  # fingerprints of those that rows may compute with
        self.cache_shape = cache_shape(config, precision, device, kept)

    @property
    def steady_width(self) -> int:
        """See `Model`: the own kernel sums each token's products in an order of their own."""
        return MAX_TOKENS if self.step is not None else 1

    def stretch(self, num_tokens: int) -> int:
        """What `Slot.stretch` must be for a slot to serve a sequence of `num_tokens`."""
        return self.rotary.stretch(num_tokens)

    def make_room(self, slot: Slot, num_tokens: int) -> None:
        """Let `slot` hold `num_tokens` in total. Raises `DeviceOutOfMemory`.

        Where the rotary scaling depends on the length, this may empty the slot: what is to be read
        next are always the tokens from `slot.length` on.
        """
        if (stretch := self.stretch(num_tokens)) != slot.stretch:
            slot.trim(0)
            slot.stretch = stretch
        slot.reserve(num_tokens)

    @torch.inference_mode()
    def forward(self, ids: Sequence[int], spans: Sequence[Span], *, every: bool = False) -> Tensor:
        """Read `ids`, the tokens of all `spans` one after the other → logits, float32.

        The logits are those after the last token of each span (len(spans), V); `every` gives them
        after each token (N, V). Slots must have room (`make_room`); their lengths grow only
        when the pass is over, so a pass that failed may be tried again.
        """
        plain = not any(slot.adapter for slot, _ in spans)
        if self.step is not None and len(ids) <= MAX_TOKENS and plain:
            logits = self.step(ids, spans, every=every)
            _lengthen(ids, spans)
            return logits
        step = self._prepare(spans)
        x = self.stages.look_up(torch.tensor(ids, device=self.device))  # (N, C)
        for layer, block in enumerate(self.stages.layers):
            x = block(x, step, layer)
        if not every and len(ids) > len(spans):
            ends = itertools.accumulate(num for _, num in spans)
            x = x[[end - 1 for end in ends]]  # (rows, C)
        logits = self.stages.read_out(x).float().to(self.device)
        _lengthen(ids, spans)
        return logits

    def _prepare(self, spans: Sequence[Span]) -> Pass:
        turns = [
            self.rotary.table(slot.length + num, slot.stretch)[slot.length : slot.length + num]
            for slot, num in spans
        ]
        return Pass(
            spans,
            turns[0] if len(turns) == 1 else torch.cat(turns),
            [self._mask(slot.length, num) for slot, num in spans],
            self._adapted(spans),
        )

    def _adapted(self, spans: Sequence[Span]) -> Adapted:
        ends = itertools.accumulate(num for _, num in spans)
        found = [
            (slot.adapter, slice(end - num, end))
            for end, (slot, num) in zip(ends, spans, strict=True)
            if slot.adapter
        ]
        assert self.adapters.issuperset(adapter for adapter, _ in found)
        return found

    def _mask(self, length: int, num: int) -> Tensor | None:
        """What to add to the scores of `num` new tokens against `length + num` keys: 0 or -inf.

        One block of rows per query head of a group. As numbers rather than booleans, because
        those would be turned into numbers again in every layer.
        """
        if num == 1:
            return None
        shape, dtype = (num, length + num), self.cache_shape.dtype
        if dtype == torch.int8:  # which attention sees as floats
            dtype = activation_dtype(self.precision, self.device)
        mask = torch.full(shape, -torch.inf, dtype=dtype, device=self.device).triu_(length + 1)
        return mask.repeat(self.config.num_attention_heads // self.config.num_key_value_heads, 1)

    @torch.inference_mode()
    def first_layer(self, x: Tensor) -> Tensor:
        """What the first layer makes of x (n, C) at the beginning of a sequence: for self-tests."""
        slot = Slot(self.cache_shape)
        self.make_room(slot, len(x))
        return self.stages.layers[0](x.clone(), self._prepare([(slot, len(x))]), 0)

    def unload(self) -> None:
        """Let go of all weights; the model cannot be used afterwards."""
        self.step = None
        empty = Dense(torch.empty(0, 0))
        self.blocks, self.embedding, self.head = (), empty, empty
        self.stages = Stages(empty.rows, (), empty)
        if self.dispatch is not None:
            self.dispatch.close()
            self.dispatch = None
        give_back()

    @property
    def weight_bytes(self) -> int:
        """Bytes of all matrices as they lie in memory."""
        matrices = {id(matrix): matrix for matrix in self.matrices()}
        return sum(matrix.num_bytes for matrix in matrices.values())

    def matrices(self) -> Iterator[Matrix]:
        """All matrices; one that serves twice comes twice."""
        yield self.embedding
        yield self.head
        for block in self.blocks:
            yield from (linear.matrix for linear in block.linears())


def _lengthen(ids: Sequence[int], spans: Sequence[Span]) -> None:
    """The keys and values of `ids` are in the slots now."""
    at = 0
    for slot, num in spans:
        slot.ids.extend(ids[at : at + num])
        at += num
