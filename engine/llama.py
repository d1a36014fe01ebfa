"""The Llama forward pass, in reading order: norm, attention, feed-forward, block, model.

Rows of different length share one pass without padding: their tokens lie one after the other, and
only attention looks at each row by itself, over the keys and values in that row's slot
(`engine/attention.py`).

Letters in shapes: N tokens of all rows together, n tokens of one row, T tokens it then holds,
C hidden size, F feed-forward size, V vocabulary, H query heads, G key-value heads, R = H / G query
heads per key-value head, D head dimension.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.attention import Fixed, Pass, Ragged, Span
from engine.config import LlamaConfig
from engine.kernels.step import MAX_TOKENS, Step
from engine.kv_cache import Kept, Slot, cache_shape
from engine.matrices import Dense
from engine.memory import give_back
from engine.plans import Matrix
from engine.quantize import Precision, activation_dtype
from engine.rotary import Rotary, rotate

if TYPE_CHECKING:
    from engine.dispatch import Dispatch
    from engine.graphs import Graphs
    from engine.low_rank import Adapted, LowRank


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
    """Grouped-query attention; how the rows look over their slots is the pass's own matter."""

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
        return self.out(step.look(qkv, layer), step.adapted)  # (N, H · D) → (N, C)


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
        self.tuned = ""  # which kernels multiply, and why: measured at loading
        self.spread = ""  # where its parts lie and how slow that is, if they are in several places
        self.quality: object = None  # what quantizing costs, if it was measured: `Quality`
        self.step: Step | None = None  # an own kernel for passes of few tokens
        self.graphs: Graphs | None = None  # steps of writing rows, recorded and replayed
        self.adapters: set[str] = set()  # fingerprints of those that rows may compute with
        self.cache_shape = shape = cache_shape(config, precision, device, kept)
        narrow = shape.dtype == torch.int8  # which attention sees as floats
        self.score_dtype = activation_dtype(precision, device) if narrow else shape.dtype

    @property
    def kernels(self) -> str:
        """Which kernels compute, and why: measured at loading, or seen since."""
        return self.tuned if self.graphs is None else self.graphs.told

    @property
    def steady_width(self) -> int:
        """See `Model`: the own kernel sums each token's products in an order of their own."""
        return MAX_TOKENS if self.step is not None else 1

    def stretch(self, num_tokens: int) -> int:
        """What `Slot.stretch` must be for a slot to serve a sequence of `num_tokens`."""
        return self.rotary.stretch(num_tokens)

    def give_up(self) -> bool:
        """See `Model`."""
        return self.graphs is not None and self.graphs.give_up()

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
        elif self.graphs is not None and len(ids) == len(spans) and plain:
            logits = self.graphs(ids, [slot for slot, _ in spans])
        else:
            logits = self.read(ids, spans, every=every)
        _lengthen(ids, spans)
        return logits

    def read(self, ids: Sequence[int], spans: Sequence[Span], *, every: bool = False) -> Tensor:
        """As `forward`, one kernel of torch after the other; does not lengthen the slots."""
        assert self.adapters.issuperset(slot.adapter for slot, _ in spans if slot.adapter)
        x = self._through(torch.tensor(ids, device=self.device), self._ragged(spans))
        if not every and len(ids) > len(spans):
            ends = itertools.accumulate(num for _, num in spans)
            x = x[[end - 1 for end in ends]]  # (rows, C)
        return self.stages.read_out(x).float().to(self.device)

    def read_fixed(self, ids: Tensor, step: Fixed) -> Tensor:
        """Read a token (rows,) into each slot of `step` → logits (rows, V), float32."""
        return self.stages.read_out(self._through(ids, step)).float()

    def _through(self, ids: Tensor, step: Pass) -> Tensor:
        """All layers, ids (N,) → what the head gets (N, C)."""
        x = self.stages.look_up(ids)
        for layer, block in enumerate(self.stages.layers):
            x = block(x, step, layer)
        return x

    def _ragged(self, spans: Sequence[Span]) -> Ragged:
        group = self.config.num_attention_heads // self.config.num_key_value_heads
        return Ragged.of(spans, self.rotary, group, self.score_dtype)

    @torch.inference_mode()
    def first_layer(self, x: Tensor) -> Tensor:
        """What the first layer makes of x (n, C) at the beginning of a sequence: for self-tests."""
        slot = Slot(self.cache_shape)
        self.make_room(slot, len(x))
        return self.stages.layers[0](x.clone(), self._ragged([(slot, len(x))]), 0)

    def unload(self) -> None:
        """Let go of all weights; the model cannot be used afterwards."""
        self.step = self.graphs = None
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
