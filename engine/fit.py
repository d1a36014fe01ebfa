"""Memory, said before anything is loaded: weights, keys and values, and what a pass takes beside.

Works on configs alone. The numbers are those of this engine: which matrices become int8 or int4,
in which order they are read, what a token leaves in the cache. `benchmarks/fit.py` measures how far
they are from the peak of a real process.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from engine.config import LlamaConfig
from engine.kv_cache import CacheShape, Kept, cache_shape
from engine.plans import KERNEL_WIDTH
from engine.quantize import (
    BLOCK_VALUES,
    INT4_GROUPS,
    Precision,
    activation_dtype,
    int4_group,
)

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8", "int4", "int4-128")

CPU = torch.device("cpu")

# The rest is left to the system and to what a pass needs beside weights and cache.
SPARE = 0.85
CHUNK = 512  # tokens of a prompt that are read at once: the scheduler's default
# What torch's libraries pack for the product of a chunk: measured with `benchmarks/fit.py`.
_PACKED_BYTES = 32 << 20
# Weights are quantized a block at a time; what is held for one, in float32 copies of it: itself,
# its absolutes and quotients; for int4 also both candidates with their errors.
_BLOCK_COPIES = {"int8": 4, "int4": 8, "int4-128": 8}


@dataclass(frozen=True, slots=True)
class Fit:
    """A model in one precision on one device. Bytes; `max_context` 0: the weights do not fit."""

    precision: Precision
    weight_bytes: int
    kv_bytes_per_token: int
    max_context: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What a model takes beside an empty process, in bytes."""

    weight_bytes: int
    cache_bytes: int  # keys and values of all users at that context
    activation_bytes: int  # of the widest pass
    loading_bytes: int  # the peak while the weights are read

    @property
    def peak_bytes(self) -> int:
        """The most that is taken at once, loading and answering."""
        answering = self.weight_bytes + self.cache_bytes + self.activation_bytes
        return max(self.loading_bytes, answering)


def weight_bytes(config: LlamaConfig, precision: Precision, device: torch.device = CPU) -> int:
    """Bytes of all weights as this engine holds them in `precision`."""
    return sum(part_bytes(config, precision, device).values())


def part_bytes(
    config: LlamaConfig, precision: Precision, device: torch.device = CPU
) -> dict[str, int]:
    """Bytes of each part: `embedding`, `layers.0` ..., `norm`, and `head` where it is not tied."""
    hidden, ffn = config.hidden_size, config.intermediate_size
    wide = activation_dtype(precision, device).itemsize
    qkv = (config.num_attention_heads + 2 * config.num_key_value_heads) * config.head_dim
    vectors = 2 * hidden + (qkv + hidden) * config.attention_bias
    vectors += (2 * ffn + hidden) * config.mlp_bias
    layer = sum(_matrix_bytes(*each, False, precision, device) for each in _of_layer(config))
    table = _matrix_bytes(config.vocab_size, hidden, True, precision, device)
    parts = {"embedding": table}
    for number in range(config.num_hidden_layers):
        parts[f"layers.{number}"] = layer + vectors * wide
    parts["norm"] = hidden * wide
    return parts if config.tie_word_embeddings else {**parts, "head": table}


def _matrices(config: LlamaConfig) -> Iterator[tuple[int, int, bool]]:
    """Rows, columns, and whether it is a table of embeddings, in the order of loading."""
    yield config.vocab_size, config.hidden_size, True
    for _ in range(config.num_hidden_layers):
        for rows, width in _of_layer(config):
            yield rows, width, False
    if not config.tie_word_embeddings:
        yield config.vocab_size, config.hidden_size, True


def _of_layer(config: LlamaConfig) -> Iterator[tuple[int, int]]:
    """Rows and columns of a layer's matrices."""
    hidden, ffn = config.hidden_size, config.intermediate_size
    query = config.num_attention_heads * config.head_dim
    yield query + 2 * config.num_key_value_heads * config.head_dim, hidden
    yield hidden, query
    yield 2 * ffn, hidden
    yield hidden, ffn


def _matrix_bytes(
    rows: int, width: int, table: bool, precision: Precision, device: torch.device = CPU
) -> int:
    if precision in INT4_GROUPS and not table and _packs(rows, width):
        of_a_group = 2 if device.type == "cpu" else 4  # a GPU's kernels want its offset too
        return rows * width // 2 + rows * (width // int4_group(precision, width)) * of_a_group
    if precision == "int8" or precision in INT4_GROUPS:
        return rows * width + 4 * rows
    return rows * width * (4 if precision == "fp32" else 2)


def _packs(rows: int, width: int) -> bool:
    return rows % KERNEL_WIDTH == 0 and width % KERNEL_WIDTH == 0


def fit(config: LlamaConfig, precision: Precision, free: int, device: torch.device = CPU) -> Fit:
    """How much context `free` bytes leave beside the weights in `precision`."""
    weights = weight_bytes(config, precision, device)
    token = cache_shape(config, precision, device).token_bytes
    room = int(free * SPARE) - weights
    return Fit(precision, weights, token, max(0, min(config.context_length, room // token)))


def predict(
    config: LlamaConfig,
    precision: Precision,
    *,
    context: int,
    users: int = 1,
    device: torch.device = CPU,
    kept: Kept = "auto",
) -> Memory:
    """What loading and then `users` conversations of `context` tokens each will take at most."""
    weights = weight_bytes(config, precision, device)
    shape = cache_shape(config, precision, device, kept)
    slot = shape.bucket(context) * shape.token_bytes
    return Memory(
        weights,
        users * slot,
        activation_bytes(config, precision, min(context, CHUNK), context, shape),
        _loading_bytes(config, precision, device),
    )


def _loading_bytes(config: LlamaConfig, precision: Precision, device: torch.device) -> int:
    """The most that is held while matrix after matrix is read: the finished ones, and one's making.

    A stacked matrix is read in parts and joined, so what was read is held twice for a moment.
    """
    stored = _stored_bytes(config)
    kept = peak = 0
    for rows, width, table in _matrices(config):
        final = _matrix_bytes(rows, width, table, precision, device)
        num = rows * width
        making = num * stored * (1 if table else 2)
        packs = device.type == "cpu" and _packs(rows, width)
        if precision in INT4_GROUPS and not table and packs:
            making += num + num // 2  # one value a byte, then half of them in their new order
        making += 4 * min(num, BLOCK_VALUES) * _BLOCK_COPIES.get(precision, 0)
        same = not table and precision not in _BLOCK_COPIES and final == num * stored
        peak = max(peak, kept + making + (0 if same or final == making else final))
        kept += final
    if precision in _BLOCK_COPIES and not config.quantized:
        peak = max(peak, kept + checking_bytes(config))
    return max(peak, kept)


def checking_bytes(config: LlamaConfig) -> int:
    """What measuring a quantized model takes beside it: see `engine/quality.py`.

    The widest part in bfloat16: a table of embeddings, or a layer with what its largest matrix is
    stacked from.
    """
    stored = _stored_bytes(config)
    numbers = [(rows * width, table) for rows, width, table in _matrices(config)]
    layer = [num for num, table in numbers if not table][:4]
    table = numbers[0][0] * (2 if stored == 2 else stored + 2)
    return max(table, 2 * sum(layer) + 2 * stored * max(layer))


def _stored_bytes(config: LlamaConfig) -> int:
    """Of a weight in the files."""
    return {"float32": 4, "float64": 8}.get(config.dtype, 1 if config.quantized else 2)


def activation_bytes(
    config: LlamaConfig, precision: Precision, num: int, context: int, shape: CacheShape
) -> int:
    """The widest moment of a pass over `num` tokens with `context` keys behind them."""
    wide = activation_dtype(precision, shape.device).itemsize
    hidden, ffn = config.hidden_size, config.intermediate_size
    qkv = (config.num_attention_heads + 2 * config.num_key_value_heads) * config.head_dim
    group = config.num_attention_heads // config.num_key_value_heads
    narrow = shape.dtype == torch.int8
    mask = (group + 1) * num * context * (wide if narrow else shape.dtype.itemsize)
    if narrow:  # the floats of one layer, and for a moment what they are made from
        mask += 2 * context * (2 * config.num_key_value_heads * config.head_dim) * wide
    # x, its norm, then the wider of the two halves of a layer: gate and up with their product, or
    # query, key and value with what attention makes of them.
    halves = max(3 * ffn, 2 * qkv)
    if precision in _BLOCK_COPIES:  # the product is there twice more: as summed, and scaled
        halves += 4 * ffn
    turns = 2 * max(2048, context) * (config.head_dim // 2) * 8
    # Of quantized weights the own kernels pack nothing, a dense product more than this; which of
    # them is taken is measured when the model is loaded, so it is said in the middle.
    packed = _PACKED_BYTES // 2 if precision in _BLOCK_COPIES else _PACKED_BYTES
    return num * (2 * hidden + halves) * wide + mask + turns + packed
