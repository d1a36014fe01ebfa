"""The published Llamas, written down from their releases: shapes and what their caches take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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
