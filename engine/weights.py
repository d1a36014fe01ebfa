"""Tensors of a checkpoint → the model, a layer at a time.

One matrix is read after the other, so that the peak stays near the final size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from engine.config import LlamaConfig
from engine.kv_cache import Kept
from engine.llama import Attention, Block, FeedForward, Llama, Norm
from engine.matrices import Dense
from engine.memory import give_back
from engine.plans import Matrix
from engine.quantize import Precision
from engine.rotary import Rotary
from engine.tensors import TensorReader, Weights

if TYPE_CHECKING:
    from engine.dispatch import Dispatch

P = TypeVar("P", Matrix, Block, Norm)


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
    dispatch: Dispatch | None = None,
) -> Llama:
    """Build the model from `checkpoint`, one matrix after the other.

    Every tensor of the config must be there with its shape, and no other: raises
    `CheckpointMissing` or `CheckpointBroken` naming it.
    `dispatch` takes each part to its place, where they do not all lie on `device`.
    """
    config = checkpoint.config
    source = TensorReader(checkpoint, precision, device)

    def made(name: str, make: Callable[[], P]) -> P:
        """A part of the model, on its device or wherever `dispatch` takes it."""
        source.device = dispatch.device(name) if dispatch else device
        part = make()
        if dispatch:
            dispatch.settle(name, part)
        give_back()
        return part

    def table(name: str) -> Matrix:
        return source.matrix([(name, config.vocab_size)], config.hidden_size, embedding=True)

    embedding = made("embedding", lambda: table("model.embed_tokens"))
    blocks = []
    for layer in range(config.num_hidden_layers):
        load = partial(_load_block, source, config, f"model.layers.{layer}")
        blocks.append(made(f"layers.{layer}", load))
    norm = made("norm", partial(_last_norm, source, config))
    if config.tie_word_embeddings:
        head = embedding
        source.used.add("lm_head.weight")  # some files repeat the table under this name
    else:
        head = made("head", lambda: table("lm_head"))
    source.refuse_rest()
    rotary = Rotary(config, device)
    model = Llama(
        config, embedding, blocks, norm, head, rotary, precision=precision, device=device, kept=kept
    )
    if dispatch:
        dispatch.attach(model)
    return model


def _last_norm(source: TensorReader, config: LlamaConfig) -> Norm:
    return Norm(source.vector("model.norm.weight", config.hidden_size), config.rms_norm_eps)


def first_layer_of(checkpoint: Weights) -> Llama:
    """The first layer alone, on the CPU in float32; it has neither embeddings nor a head."""
    cpu, config = torch.device("cpu"), replace(checkpoint.config, num_hidden_layers=1)
    source, nothing = TensorReader(checkpoint, "fp32", cpu), Dense(torch.empty(0, 0))
    block = _load_block(source, config, "model.layers.0")
    rotary = Rotary(config, cpu)
    return Llama(
        config, nothing, [block], block.norm1, nothing, rotary, precision="fp32", device=cpu
    )


@torch.inference_mode()
def read_by_layers(
    checkpoint: Weights,
    ids: Sequence[int],
    precision: Precision,
    device: torch.device,
    watch: Callable[[int], None] = lambda _num: None,
) -> tuple[Tensor, Matrix]:
    """What the head gets after each of `ids` (n, C), and the head itself.

    One layer is in memory at a time, and neither table of embeddings beside one. `watch` hears how
    many layers are done; what it raises passes through.
    """
    config, nothing = checkpoint.config, Dense(torch.empty(0, 0))
    source, rotary = TensorReader(checkpoint, precision, device), Rotary(config, device)
    hidden, vocab = config.hidden_size, config.vocab_size
    embedded = "model.embed_tokens"
    x = source.matrix([(embedded, vocab)], hidden, embedding=True).rows(
        torch.tensor(ids, device=device)
    )
    one = replace(config, num_hidden_layers=1)
    for layer in range(config.num_hidden_layers):
        give_back()
        watch(layer)
        block = _load_block(source, config, f"model.layers.{layer}")
        model = Llama(
            one, nothing, [block], block.norm1, nothing, rotary, precision=precision, device=device
        )
        x = model.first_layer(x)
        del block, model
    give_back()
    norm = _last_norm(source, config)
    head = embedded if config.tie_word_embeddings else "lm_head"
    return norm(x), source.matrix([(head, vocab)], hidden, embedding=True)


def _load_block(source: TensorReader, config: LlamaConfig, prefix: str) -> Block:
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
