"""The truth about a model's size: weights, keys and values, and what of it fits this machine.

Works on configs alone, so that it can be said before anything is loaded. The numbers are those of
this engine: which matrices become int8 or int4, which stay wider, what a token leaves in the cache.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from engine.checkpoint import open_checkpoint
from engine.config import LlamaConfig
from engine.device import choose_device, free_bytes, total_bytes
from engine.extension import extended
from engine.quantize import INT4_GROUP, KERNEL_WIDTH, Precision, activation_dtype, cache_dtype
from engine.shapes import SHAPES, shape

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8", "int4")

CPU = torch.device("cpu")

# Left to the system and to what a pass needs beside weights and cache.
_SPARE = 0.85


@dataclass(frozen=True, slots=True)
class Fit:
    """A model in one precision on one device. Bytes; `max_context` 0: the weights do not fit."""

    precision: Precision
    weight_bytes: int
    kv_bytes_per_token: int
    max_context: int


def weight_bytes(config: LlamaConfig, precision: Precision, device: torch.device = CPU) -> int:
    """Bytes of all weights as this engine holds them in `precision`."""
    hidden, layers = config.hidden_size, config.num_hidden_layers
    query = config.num_attention_heads * config.head_dim
    qkv = query + 2 * config.num_key_value_heads * config.head_dim
    ffn = config.intermediate_size
    wide = activation_dtype(precision, device).itemsize
    matrices = ((qkv, hidden), (hidden, query), (2 * ffn, hidden), (hidden, ffn))
    inner = sum(_matrix_bytes(rows, width, precision) for rows, width in matrices)
    table = _matrix_bytes(config.vocab_size, hidden, "int8" if precision == "int4" else precision)
    biases = (qkv + hidden) * config.attention_bias + (2 * ffn + hidden) * config.mlp_bias
    vectors = layers * (2 * hidden + biases) + hidden
    return layers * inner + table * (1 if config.tie_word_embeddings else 2) + vectors * wide


def _matrix_bytes(rows: int, width: int, precision: Precision) -> int:
    if precision == "int4" and rows % KERNEL_WIDTH == 0 and width % KERNEL_WIDTH == 0:
        return rows * width // 2 + rows * (width // INT4_GROUP) * 4
    if precision in ("int8", "int4"):
        return rows * width + 4 * rows
    return rows * width * (4 if precision == "fp32" else 2)


def fit(config: LlamaConfig, precision: Precision, free: int, device: torch.device = CPU) -> Fit:
    """How much context `free` bytes leave beside the weights in `precision`."""
    weights = weight_bytes(config, precision, device)
    token = config.kv_bytes_per_token(cache_dtype(config, precision, device).itemsize)
    room = int(free * _SPARE) - weights
    return Fit(precision, weights, token, max(0, min(config.context_length, room // token)))


def describe(config: LlamaConfig, *, name: str = "", device: str = "auto") -> str:
    """The architecture and its costs, as lines of text."""
    chosen = choose_device(device)
    free = free_bytes(chosen)
    lines = [*_architecture(config, name), "", *_cache(config), "", *_fits(config, chosen, free)]
    return "\n".join(lines)


def describe_checkpoint(
    path: Path,
    *,
    device: str = "auto",
    adapter: Path | None = None,
    allow_pickle: bool = False,
    extension: str = "",
) -> str:
    """`describe` for a model on the disk; see `open_model`. Raises any `CheckpointError`."""
    checkpoint = open_checkpoint(path, adapter=adapter, allow_pickle=allow_pickle)
    checkpoint = replace(checkpoint, config=extended(checkpoint.config, extension))
    stored = f"Stored as {_size(checkpoint.weight_bytes)} ({_stored_as(checkpoint.config)})."
    text = describe(checkpoint.config, name=checkpoint.name, device=device)
    return f"{text}\n{stored}"


def describe_known(*, device: str = "auto") -> str:
    """Which of the public Llamas fit this machine, and with how much context."""
    chosen = choose_device(device)
    free = free_bytes(chosen)
    lines = [f"{_size(free)} of {_size(total_bytes(chosen))} free on {chosen.type}.", ""]
    lines.append(f"{'':16}" + "".join(f"{precision:>18}" for precision in PRECISIONS))
    for name in SHAPES:
        config = shape(name)
        cells = []
        for precision in PRECISIONS:
            found = fit(config, precision, free, chosen)
            context = f"{_count(found.max_context)} tokens" if found.max_context else "no"
            cells.append(f"{context:>18}")
        lines.append(f"{name:16}" + "".join(cells))
    return "\n".join(lines)


def _stored_as(config: LlamaConfig) -> str:
    return config.quantized or config.dtype


def _architecture(config: LlamaConfig, name: str) -> list[str]:
    rope = config.rope
    scaling = "" if rope.rope_type == "default" else f", {rope.rope_type} scaling × {rope.factor:g}"
    tied = "one table for input and output" if config.tie_word_embeddings else "two tables"
    return [
        f"{name or 'Llama'}: {config.num_parameters:,} parameters",
        f"{config.num_hidden_layers} layers of {config.hidden_size}, "
        f"feed-forward {config.intermediate_size}, vocabulary {config.vocab_size:,} ({tied})",
        f"{config.num_attention_heads} query heads over {config.num_key_value_heads} key-value "
        f"heads of {config.head_dim}: {_kind(config)}",
        f"context {config.context_length:,} tokens, rotary theta {rope.rope_theta:g}{scaling}",
    ]


def _kind(config: LlamaConfig) -> str:
    group = config.num_attention_heads // config.num_key_value_heads
    if group == 1:
        return "multi-head attention (every query head has its own keys and values)"
    return f"grouped-query attention ({group} query heads share keys and values)"


def _cache(config: LlamaConfig) -> list[str]:
    token = config.kv_bytes_per_token(2)
    group = config.num_attention_heads // config.num_key_value_heads
    lines = [
        f"KV cache in 16 bit: {_size(token)} a token, "
        f"{_size(token * config.context_length)} for the whole context"
    ]
    if group > 1:
        lines.append(
            f"With multi-head attention it would be {_size(token * group)} a token, "
            f"{_size(token * group * config.context_length)} for the whole context"
        )
    return lines


def _fits(config: LlamaConfig, device: torch.device, free: int) -> list[str]:
    lines = [f"On {device.type}, {_size(free)} free:"]
    for precision in PRECISIONS:
        found = fit(config, precision, free, device)
        context = f"{found.max_context:,} tokens" if found.max_context else "does not fit"
        lines.append(f"  {precision:5} weights {_size(found.weight_bytes):>9}   {context}")
    return lines


def _size(num_bytes: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if num_bytes >= unit:
            return f"{num_bytes / unit:.4g} {name}"
    return f"{num_bytes} B"


def _count(num_tokens: int) -> str:
    return f"{num_tokens // 1024}k" if num_tokens >= 10_000 else str(num_tokens)
