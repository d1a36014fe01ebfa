"""Tensors of a checkpoint → the model: names, shapes, what is stacked, reordered and quantized.

Loading is strict: a tensor that is missing, has another shape or has no place is an error that
names it. One matrix is read after the other, so that the peak stays near the final size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from engine.config import LlamaConfig
from engine.errors import CheckpointBroken
from engine.kv_cache import Kept
from engine.llama import Attention, Block, FeedForward, Linear, Llama, Norm
from engine.matrices import Dense, Matrix, make_matrix
from engine.memory import give_back
from engine.quantize import (
    INT4_GROUPS,
    Grouped,
    Precision,
    Scaled,
    activation_dtype,
    shape_of,
)
from engine.rotary import Rotary

# A matrix as it is read: floats, int8 with scales, or 4-bit groups.
Weight = Tensor | Scaled | Grouped


class Weights(Protocol):
    """Where a model's tensors come from: an opened checkpoint, or random numbers in a bench."""

    @property
    def name(self) -> str:
        """What to call it in messages."""
        ...

    @property
    def config(self) -> LlamaConfig:
        """The architecture."""
        ...

    @property
    def tensors(self) -> Mapping[str, object]:
        """The tensors there are, by name."""
        ...

    @property
    def paired(self) -> bool:
        """Whether query and key rows lie in neighbouring pairs already."""
        ...

    def read(self, name: str) -> Tensor:
        """One tensor, on the CPU. Raises `CheckpointError`."""
        ...

    def read_grouped(self, name: str) -> Grouped | None:
        """One matrix as the 4-bit groups that it is stored in, None if it is stored otherwise."""
        ...


def tensor_shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor of a model of this shape, as Hugging Face files name them."""
    hidden, ffn = config.hidden_size, config.intermediate_size
    query = config.num_attention_heads * config.head_dim
    key = config.num_key_value_heads * config.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config.vocab_size, hidden),
        "model.norm.weight": (hidden,),
    }
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, hidden)
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}"
        for name, rows, width, biased in (
            ("self_attn.q_proj", query, hidden, config.attention_bias),
            ("self_attn.k_proj", key, hidden, config.attention_bias),
            ("self_attn.v_proj", key, hidden, config.attention_bias),
            ("self_attn.o_proj", hidden, query, config.attention_bias),
            ("mlp.gate_proj", ffn, hidden, config.mlp_bias),
            ("mlp.up_proj", ffn, hidden, config.mlp_bias),
            ("mlp.down_proj", hidden, ffn, config.mlp_bias),
        ):
            shapes[f"{prefix}.{name}.weight"] = (rows, width)
            if biased:
                shapes[f"{prefix}.{name}.bias"] = (rows,)
        shapes[f"{prefix}.input_layernorm.weight"] = (hidden,)
        shapes[f"{prefix}.post_attention_layernorm.weight"] = (hidden,)
    return shapes


def load_llama(
    checkpoint: Weights,
    precision: Precision,
    device: torch.device,
    *,
    kept: Kept = "auto",
    progress: Callable[[float], None] = lambda _part: None,
) -> Llama:
    """Build the model from `checkpoint`, one matrix after the other.

    Every tensor of the config must be there with its shape, and no other: raises
    `CheckpointMissing` or `CheckpointBroken` naming it. `progress` hears the part done, 0 to 1.
    """
    config = checkpoint.config
    source = _Source(checkpoint, precision, device)
    rotary = Rotary(config, device)
    hidden, vocab = config.hidden_size, config.vocab_size
    embedding = source.matrix([("model.embed_tokens", vocab)], hidden, embedding=True)
    blocks = []
    for layer in range(config.num_hidden_layers):
        blocks.append(_load_block(source, config, f"model.layers.{layer}"))
        give_back()
        progress((layer + 1) / (config.num_hidden_layers + 1))
    norm = Norm(source.vector("model.norm.weight", hidden), config.rms_norm_eps)
    if config.tie_word_embeddings:
        head = embedding
        source.used.add("lm_head.weight")  # some files repeat the table under this name
    else:
        head = source.matrix([("lm_head", vocab)], hidden, embedding=True)
    source.refuse_rest()
    progress(1.0)
    return Llama(
        config, embedding, blocks, norm, head, rotary, precision=precision, device=device, kept=kept
    )


def first_layer_of(checkpoint: Weights) -> Llama:
    """The first layer alone, on the CPU in float32; it has neither embeddings nor a head."""
    cpu, config = torch.device("cpu"), replace(checkpoint.config, num_hidden_layers=1)
    source, nothing = _Source(checkpoint, "fp32", cpu), Dense(torch.empty(0, 0))
    block = _load_block(source, config, "model.layers.0")
    rotary = Rotary(config, cpu)
    return Llama(
        config, nothing, [block], block.norm1, nothing, rotary, precision="fp32", device=cpu
    )


@torch.inference_mode()
def read_by_layers(
    checkpoint: Weights, ids: Sequence[int], precision: Precision, device: torch.device
) -> Tensor:
    """Logits (n, V) after each of `ids`, float32, with one layer in memory at a time."""
    config, nothing = checkpoint.config, Dense(torch.empty(0, 0))
    source, rotary = _Source(checkpoint, precision, device), Rotary(config, device)
    hidden, vocab = config.hidden_size, config.vocab_size
    table = source.matrix([("model.embed_tokens", vocab)], hidden, embedding=True)
    x = table.rows(torch.tensor(ids, device=device))
    one = replace(config, num_hidden_layers=1)
    for layer in range(config.num_hidden_layers):
        block = _load_block(source, config, f"model.layers.{layer}")
        model = Llama(
            one, nothing, [block], block.norm1, nothing, rotary, precision=precision, device=device
        )
        x = model.first_layer(x)
    norm = Norm(source.vector("model.norm.weight", hidden), config.rms_norm_eps)
    if not config.tie_word_embeddings:
        table = source.matrix([("lm_head", vocab)], hidden, embedding=True)
    logits = table(norm(x)).float()
    give_back()
    return logits


def _load_block(source: _Source, config: LlamaConfig, prefix: str) -> Block:
    hidden, ffn, dim = config.hidden_size, config.intermediate_size, config.head_dim
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    attention, feed_forward = f"{prefix}.self_attn", f"{prefix}.mlp"
    qkv = source.linear(
        [
            (f"{attention}.q_proj", heads * dim),
            (f"{attention}.k_proj", kv_heads * dim),
            (f"{attention}.v_proj", kv_heads * dim),
        ],
        hidden,
        bias=config.attention_bias,
        rotary_heads=[heads, kv_heads, 0],
    )
    out = source.linear([(f"{attention}.o_proj", hidden)], heads * dim, bias=config.attention_bias)
    gate_up = source.linear(
        [(f"{feed_forward}.gate_proj", ffn), (f"{feed_forward}.up_proj", ffn)],
        hidden,
        bias=config.mlp_bias,
    )
    down = source.linear([(f"{feed_forward}.down_proj", hidden)], ffn, bias=config.mlp_bias)
    eps = config.rms_norm_eps
    return Block(
        Norm(source.vector(f"{prefix}.input_layernorm.weight", hidden), eps),
        Attention(config, qkv, out),
        Norm(source.vector(f"{prefix}.post_attention_layernorm.weight", hidden), eps),
        FeedForward(gate_up, down),
    )


class _Source:
    """Reads tensors by name, checks shapes, remembers what was read."""

    def __init__(self, checkpoint: Weights, precision: Precision, device: torch.device) -> None:
        self.checkpoint, self.precision, self.device = checkpoint, precision, device
        self.used: set[str] = set()

    def _read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        tensor = self.checkpoint.read(name)
        if tensor.shape != shape:
            raise CheckpointBroken(
                f"{name} has the shape {tuple(tensor.shape)}; config.json asks for {shape}."
            )
        self.used.add(name)
        return tensor

    def vector(self, name: str, size: int) -> Tensor:
        """A norm's weight or a bias, in the dtype of the activations."""
        tensor = self._read(name, (size,))
        if not tensor.is_floating_point():
            raise CheckpointBroken(f"{name} holds no floating-point numbers.")
        return tensor.to(device=self.device, dtype=activation_dtype(self.precision, self.device))

    def _weight(self, name: str, shape: tuple[int, int], *, wide: bool) -> Weight:
        if self.precision in INT4_GROUPS and not wide:
            grouped = self.checkpoint.read_grouped(f"{name}.weight")
            if grouped is not None and shape_of(grouped) == shape:
                self.used.add(f"{name}.weight")
                return grouped
        tensor = self._read(f"{name}.weight", shape)
        scale_name = f"{name}.weight_scale"
        if tensor.dtype == torch.int8 and scale_name in self.checkpoint.tensors:
            scale = self.checkpoint.read(scale_name)
            self.used.add(scale_name)
            fits = scale.numel() in (1, shape[0]) or (
                scale.dim() == 2 and scale.shape[0] == shape[0] and shape[1] % scale.shape[1] == 0
            )
            if not fits or not scale.is_floating_point():
                raise CheckpointBroken(f"{scale_name} does not fit {name}.weight.")
            return Scaled(tensor, scale)
        if not tensor.is_floating_point():
            raise CheckpointBroken(f"{name}.weight holds {tensor.dtype} without a scale.")
        return tensor

    def matrix(
        self,
        parts: Sequence[tuple[str, int]],
        width: int,
        *,
        rotary_heads: Sequence[int] = (),
        embedding: bool = False,
    ) -> Matrix:
        """The weights called `parts` (name, rows), stacked and quantized."""
        weights = [self._weight(name, (rows, width), wide=embedding) for name, rows in parts]
        heads_of = self._heads_to_reorder(rotary_heads, len(parts))
        stacked = _stack(list(map(_reorder, weights, heads_of)))
        return make_matrix(stacked, self.precision, self.device, embedding=embedding)

    def _heads_to_reorder(self, rotary_heads: Sequence[int], num_parts: int) -> Sequence[int]:
        """Heads of each part whose rows must become neighbouring pairs, 0 for the others."""
        return [0] * num_parts if self.checkpoint.paired or not rotary_heads else rotary_heads

    def linear(
        self,
        parts: Sequence[tuple[str, int]],
        width: int,
        *,
        bias: bool,
        rotary_heads: Sequence[int] = (),
    ) -> Linear:
        """A matrix with its bias, if the config asks for one."""
        matrix = self.matrix(parts, width, rotary_heads=rotary_heads)
        if not bias:
            return Linear(matrix, None)
        biases = [self.vector(f"{name}.bias", rows) for name, rows in parts]
        heads_of = self._heads_to_reorder(rotary_heads, len(biases))
        return Linear(
            matrix,
            torch.cat(
                [
                    interleave(each, heads) if heads else each
                    for each, heads in zip(biases, heads_of, strict=True)
                ]
            ),
        )

    def refuse_rest(self) -> None:
        """Raise `CheckpointBroken` if the files hold a tensor that no part of the model took."""
        rest = {
            name
            for name in self.checkpoint.tensors.keys() - self.used
            if not name.endswith("rotary_emb.inv_freq")  # old files carry the table; we compute it
        }
        if rest:
            raise CheckpointBroken(
                f"The weights hold {len(rest)} tensor(s) that config.json has no place for, "
                f"such as {min(rest)}: config and weights are of two different models."
            )


def _reorder(weight: Weight, heads: int) -> Weight:
    if not heads:
        return weight
    if isinstance(weight, Tensor):
        return interleave(weight, heads)
    if isinstance(weight, Grouped):
        parts = (weight.values, weight.scale, weight.zero)
        return Grouped(*(interleave(part, heads) for part in parts))
    scale = weight.scale
    return Scaled(
        interleave(weight.weight, heads),
        interleave(scale, heads) if scale.numel() > 1 else scale,
    )


def _stack(weights: Sequence[Weight]) -> Weight:
    if len(weights) == 1:
        return weights[0]
    scaled = [weight for weight in weights if isinstance(weight, Scaled)]
    if len(scaled) == len(weights) and all(
        weight.scale.dim() < 2 or weight.scale.shape[1] == 1 for weight in scaled
    ):
        rows = [weight.per_row() for weight in scaled]
        return Scaled(torch.cat([row[0] for row in rows]), torch.cat([row[1] for row in rows]))
    grouped = [weight for weight in weights if isinstance(weight, Grouped)]
    if len(grouped) == len(weights):
        return Grouped(
            torch.cat([weight.values for weight in grouped]),
            torch.cat([weight.scale for weight in grouped]),
            torch.cat([weight.zero for weight in grouped]),
        )
    return torch.cat(
        [weight if isinstance(weight, Tensor) else weight.expand() for weight in weights]
    )


def interleave(weight: Tensor, num_heads: int) -> Tensor:
    """Rows (heads · D, ...) from two halves per head to neighbouring pairs."""
    halves = weight.view(num_heads, 2, -1, *weight.shape[1:])
    return halves.transpose(1, 2).reshape(weight.shape)
