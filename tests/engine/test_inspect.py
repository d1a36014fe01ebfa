"""`python -m engine inspect` tells the truth for every public Llama's architecture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from engine.config import parse_config
from engine.inspect import describe


@dataclass(frozen=True)
class Row:
    """A published architecture. `kib`: keys and values a token leaves in 16 bit, in KiB."""

    name: str
    layers: int
    dim: int
    heads: int
    kv_heads: int
    ffn: int
    vocab: int
    context: int
    theta: float
    factor: float  # of llama3 scaling, 0 without
    tied: bool
    kib: int
    kib_if_mha: int


# From the params.json and config.json of each release; the cache is 2 x layers x KV heads x head
# dim x 2 bytes, worked out by hand and not by our code.
ROWS = (
    Row("LLaMA-1 7B", 32, 4096, 32, 32, 11008, 32000, 2048, 1e4, 0, False, 512, 512),
    Row("LLaMA-1 13B", 40, 5120, 40, 40, 13824, 32000, 2048, 1e4, 0, False, 800, 800),
    Row("LLaMA-1 33B", 60, 6656, 52, 52, 17920, 32000, 2048, 1e4, 0, False, 1560, 1560),
    Row("LLaMA-1 65B", 80, 8192, 64, 64, 22016, 32000, 2048, 1e4, 0, False, 2560, 2560),
    Row("Llama-2 7B", 32, 4096, 32, 32, 11008, 32000, 4096, 1e4, 0, False, 512, 512),
    Row("Llama-2 13B", 40, 5120, 40, 40, 13824, 32000, 4096, 1e4, 0, False, 800, 800),
    Row("Llama-2 34B", 48, 8192, 64, 8, 22016, 32000, 4096, 1e4, 0, False, 192, 1536),
    Row("Llama-2 70B", 80, 8192, 64, 8, 28672, 32000, 4096, 1e4, 0, False, 320, 2560),
    Row("Code Llama 7B", 32, 4096, 32, 32, 11008, 32016, 16384, 1e6, 0, False, 512, 512),
    Row("Code Llama 13B", 40, 5120, 40, 40, 13824, 32016, 16384, 1e6, 0, False, 800, 800),
    Row("Code Llama 34B", 48, 8192, 64, 8, 22016, 32000, 16384, 1e6, 0, False, 192, 1536),
    Row("Code Llama 70B", 80, 8192, 64, 8, 28672, 32016, 16384, 1e6, 0, False, 320, 2560),
    Row("Llama-3 8B", 32, 4096, 32, 8, 14336, 128256, 8192, 5e5, 0, False, 128, 512),
    Row("Llama-3 70B", 80, 8192, 64, 8, 28672, 128256, 8192, 5e5, 0, False, 320, 2560),
    Row("Llama-3.1 8B", 32, 4096, 32, 8, 14336, 128256, 131072, 5e5, 8, False, 128, 512),
    Row("Llama-3.1 70B", 80, 8192, 64, 8, 28672, 128256, 131072, 5e5, 8, False, 320, 2560),
    Row("Llama-3.3 70B", 80, 8192, 64, 8, 28672, 128256, 131072, 5e5, 8, False, 320, 2560),
    Row("Llama-3.1 405B", 126, 16384, 128, 8, 53248, 128256, 131072, 5e5, 8, False, 504, 8064),
    Row("Llama-3.2 1B", 16, 2048, 32, 8, 8192, 128256, 131072, 5e5, 32, True, 32, 128),
    Row("Llama-3.2 3B", 28, 3072, 24, 8, 8192, 128256, 131072, 5e5, 32, True, 112, 336),
)


def config_of(row: Row) -> dict[str, Any]:
    """The `config.json` of a row."""
    config: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": row.vocab,
        "hidden_size": row.dim,
        "intermediate_size": row.ffn,
        "num_hidden_layers": row.layers,
        "num_attention_heads": row.heads,
        "num_key_value_heads": row.kv_heads,
        "hidden_act": "silu",
        "max_position_embeddings": row.context,
        "rms_norm_eps": 1e-5,
        "rope_theta": row.theta,
        "tie_word_embeddings": row.tied,
        "torch_dtype": "bfloat16",
    }
    if row.factor:
        config["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": row.factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
    return config


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_is_described_as_it_is(row: Row) -> None:
    text = describe(parse_config(config_of(row)), name=row.name, device="cpu")
    assert f"{row.layers} layers of {row.dim}, feed-forward {row.ffn}" in text
    assert f"vocabulary {row.vocab:,} ({'one table' if row.tied else 'two tables'}" in text
    heads = f"{row.heads} query heads over {row.kv_heads} key-value heads of"
    assert f"{heads} {row.dim // row.heads}:" in text
    assert f"context {row.context:,} tokens, rotary theta {row.theta:g}" in text
    assert (f"llama3 scaling × {row.factor:g}" in text) is bool(row.factor)
    assert f"KV cache in 16 bit: {in_binary(row.kib)} a token" in text
    multi_head = f"With multi-head attention it would be {in_binary(row.kib_if_mha)} a token"
    assert (multi_head in text) is (row.kv_heads != row.heads)
    kind = "grouped-query" if row.kv_heads != row.heads else "multi-head"
    assert f"{kind} attention (" in text


def in_binary(kib: int) -> str:
    return f"{kib} KiB" if kib < 1024 else f"{kib / 1024:.4g} MiB"
