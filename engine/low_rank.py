"""LoRA adapters beside the weights: y = W·x + scaling · B·(A·x), chosen row by row.

An adapter that is merged (`engine/adapter.py`) costs nothing, but the model must be loaded anew for
each. Here the weights stay as they are, in whatever precision, and every row of a pass adds the
change of its own adapter, or none: several answer over one model at once (the idea of S-LoRA, arXiv
2311.03285). What an adapter replaces whole, or changes outside of the layers, is merged only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from engine.adapter import Adapter, Change
from engine.errors import CheckpointBroken, ModelUnsupported
from engine.quantize import activation_dtype
from engine.rotary import interleave

if TYPE_CHECKING:
    from engine.llama import Linear, Llama

_NAME = re.compile(r"model\.layers\.(\d{1,4})\.(\w+\.\w+)\.weight")

# Rows of a pass that one adapter is for.
Adapted = Sequence[tuple[str, slice]]


class LowRank:
    """What one adapter adds to one product, whose columns may be of several stacked matrices."""

    def __init__(self) -> None:
        self._parts: list[tuple[slice, Tensor, Tensor]] = []

    def add_part(self, columns: slice, down: Tensor, up: Tensor) -> None:
        """Change `columns` of the product by up (n, r) · down (r, K)."""
        self._parts.append((columns, down, up))

    def add_to(self, y: Tensor, x: Tensor) -> None:
        """Add the change of x (M, K) to y (M, N), in place."""
        for columns, down, up in self._parts:
            y[:, columns] += (x @ down.T) @ up.T


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the product of one matrix of the files stands in the model."""

    linear: Linear
    columns: slice
    width: int
    device: torch.device  # that computes it
    heads: int = 0  # of queries and keys, whose rows lie in neighbouring pairs


def is_switchable(adapter: Adapter) -> bool:
    """Whether all it changes are matrices inside of layers, as `attach` wants."""
    inside = all(name.startswith("model.layers.") for name in adapter.changes)
    return inside and not adapter.replaced


def attach(model: Llama, adapter: Adapter) -> None:
    """Let rows of `model` compute with `adapter`, by its fingerprint. Compute thread only.

    Raises `ModelUnsupported` for what can be merged only, `CheckpointBroken` if the adapter belongs
    to another model; then nothing is attached.
    """
    if adapter.fingerprint in model.adapters:
        return
    if not is_switchable(adapter):
        outside = {name for name in adapter.changes if not name.startswith("model.layers.")}
        raise ModelUnsupported(
            f"The adapter {adapter.folder.name} changes {min(outside | adapter.replaced.keys())}, "
            "which cannot be switched while the model runs: choose it with --adapter, which merges "
            "it at the start."
        )
    read = []
    for name, change in adapter.changes.items():
        place = _place(model, adapter, name)
        read.append((place, *_matrices(adapter, place, change, model)))
    for place, down, up in read:
        kept = place.linear.changes.setdefault(adapter.fingerprint, LowRank())
        kept.add_part(place.columns, down, up)
    model.adapters.add(adapter.fingerprint)


def detach(model: Llama, fingerprint: str) -> None:
    """Let go of the adapter's weights. No row may compute with it. Compute thread only."""
    for block in model.blocks:
        for linear in block.linears():
            linear.changes.pop(fingerprint, None)
    model.adapters.discard(fingerprint)


def _place(model: Llama, adapter: Adapter, name: str) -> _Place:
    match = _NAME.fullmatch(name)
    layer = int(match[1]) if match else len(model.blocks)
    places = _places(model, layer) if layer < len(model.blocks) else {}
    if match is None or match[2] not in places:
        raise CheckpointBroken(
            f"The adapter {adapter.folder.name} changes {name}, which this model does not have: "
            "it belongs to another model."
        )
    return places[match[2]]


def _places(model: Llama, layer: int) -> dict[str, _Place]:
    config, block = model.config, model.blocks[layer]
    device = model.cache_shape.devices[layer]
    hidden, ffn = config.hidden_size, config.intermediate_size
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    query, key = heads * config.head_dim, kv_heads * config.head_dim
    qkv, gate_up = block.attention.qkv, block.feed_forward.gate_up
    return {
        "self_attn.q_proj": _Place(qkv, slice(0, query), hidden, device, heads),
        "self_attn.k_proj": _Place(qkv, slice(query, query + key), hidden, device, kv_heads),
        "self_attn.v_proj": _Place(qkv, slice(query + key, query + 2 * key), hidden, device),
        "self_attn.o_proj": _Place(block.attention.out, slice(0, hidden), query, device),
        "mlp.gate_proj": _Place(gate_up, slice(0, ffn), hidden, device),
        "mlp.up_proj": _Place(gate_up, slice(ffn, 2 * ffn), hidden, device),
        "mlp.down_proj": _Place(block.feed_forward.down, slice(0, hidden), ffn, device),
    }


def _matrices(
    adapter: Adapter, place: _Place, change: Change, model: Llama
) -> tuple[Tensor, Tensor]:
    """A (r, K), and B (n, r) times the scaling, as the model's activations are held."""
    num_rows = place.columns.stop - place.columns.start
    if change.transposed or (change.up.shape[0], change.down.shape[1]) != (num_rows, place.width):
        raise CheckpointBroken(
            f"The adapter {adapter.folder.name} has other sizes than this model: it belongs to "
            "another one."
        )
    dtype = activation_dtype(model.precision, model.device)
    up = change.up.read().to(torch.float32) * change.scaling
    up = interleave(up, place.heads) if place.heads else up
    return change.down.read().to(place.device, dtype), up.to(place.device, dtype)
