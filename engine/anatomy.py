"""What a Llama is made of: parameters by part, and what its keys and values cost.

Computed from the config alone. Architecture: Touvron et al. 2023 (LLaMA); grouped-query attention,
where several query heads share a key-value head: Ainslie et al. 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.config import LlamaConfig

PartName = Literal["embedding", "attention", "feed_forward", "norms", "output"]
CACHE_BYTES_PER_VALUE = 2  # keys and values in 16 bit


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of weights over all layers."""

    name: PartName
    num_parameters: int


def parts(config: LlamaConfig) -> list[Part]:
    """Where the parameters are. They add up to `config.num_parameters`.

    A model with one table for input and output has it under `embedding` and no `output`.
    """
    hidden, layers, ffn = config.hidden_size, config.num_hidden_layers, config.intermediate_size
    query = config.num_attention_heads * config.head_dim
    key_value = config.num_key_value_heads * config.head_dim
    attention = 2 * hidden * (query + key_value)  # q and o; k and v
    if config.attention_bias:
        attention += query + 2 * key_value + hidden
    feed_forward = 3 * hidden * ffn + (2 * ffn + hidden if config.mlp_bias else 0)
    table = config.vocab_size * hidden
    found = [
        Part("embedding", table),
        Part("attention", layers * attention),
        Part("feed_forward", layers * feed_forward),
        Part("norms", (2 * layers + 1) * hidden),
    ]
    if not config.tie_word_embeddings:
        found.append(Part("output", table))
    return found


def group_size(config: LlamaConfig) -> int:
    """Query heads that share a key-value head; 1 is multi-head attention."""
    return config.num_attention_heads // config.num_key_value_heads


def cache_bytes(config: LlamaConfig, num_tokens: int, *, multi_head: bool = False) -> int:
    """Bytes of keys and values of `num_tokens`; `multi_head`: if no heads were shared."""
    shared = 1 if not multi_head else group_size(config)
    return num_tokens * shared * config.kv_bytes_per_token(CACHE_BYTES_PER_VALUE)
