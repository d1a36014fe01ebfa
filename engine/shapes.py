"""The shapes of public Llamas, for benches without weights and for telling what fits a machine.

From the `config.json` or `params.json` of each release.
"""

from __future__ import annotations

from engine.config import LlamaConfig, Rope
from engine.errors import ModelUnsupported

# layers, hidden, heads, key-value heads, feed-forward, vocabulary, context, tied
_SIZES: dict[str, tuple[int, int, int, int, int, int, int, bool]] = {
    "smollm2-135m": (30, 576, 9, 3, 1536, 49152, 8192, True),
    "smollm2-360m": (32, 960, 15, 5, 2560, 49152, 8192, True),
    "smollm2-1.7b": (24, 2048, 32, 32, 8192, 49152, 8192, True),
    "tinyllama-1.1b": (22, 2048, 32, 4, 5632, 32000, 2048, False),
    "llama-1-7b": (32, 4096, 32, 32, 11008, 32000, 2048, False),
    "llama-1-13b": (40, 5120, 40, 40, 13824, 32000, 2048, False),
    "llama-1-33b": (60, 6656, 52, 52, 17920, 32000, 2048, False),
    "llama-1-65b": (80, 8192, 64, 64, 22016, 32000, 2048, False),
    "llama-2-7b": (32, 4096, 32, 32, 11008, 32000, 4096, False),
    "llama-2-13b": (40, 5120, 40, 40, 13824, 32000, 4096, False),
    "llama-2-34b": (48, 8192, 64, 8, 22016, 32000, 4096, False),
    "llama-2-70b": (80, 8192, 64, 8, 28672, 32000, 4096, False),
    "code-llama-7b": (32, 4096, 32, 32, 11008, 32016, 16384, False),
    "code-llama-13b": (40, 5120, 40, 40, 13824, 32016, 16384, False),
    "code-llama-34b": (48, 8192, 64, 8, 22016, 32000, 16384, False),
    "llama-3-8b": (32, 4096, 32, 8, 14336, 128256, 8192, False),
    "llama-3-70b": (80, 8192, 64, 8, 28672, 128256, 8192, False),
    "llama-3.1-8b": (32, 4096, 32, 8, 14336, 128256, 131072, False),
    "llama-3.1-70b": (80, 8192, 64, 8, 28672, 128256, 131072, False),
    "llama-3.1-405b": (126, 16384, 128, 8, 53248, 128256, 131072, False),
    "llama-3.2-1b": (16, 2048, 32, 8, 8192, 128256, 131072, True),
    "llama-3.2-3b": (28, 3072, 24, 8, 8192, 128256, 131072, True),
    "llama-guard-3-1b": (16, 2048, 32, 8, 8192, 128256, 131072, False),
}

# How a name begins: rotary theta, and the factor of llama3 scaling (0: none). Others have 10,000.
_ROTARY: dict[str, tuple[float, int]] = {
    "smollm2-1.7b": (130_000.0, 0),
    "smollm2-": (100_000.0, 0),
    "code-llama-": (1_000_000.0, 0),
    "llama-3-": (500_000.0, 0),
    "llama-3.1-": (500_000.0, 8),
    "llama-3.2-": (500_000.0, 32),
    "llama-guard-3-1b": (500_000.0, 32),
}

SHAPES = tuple(_SIZES)


def shape(name: str) -> LlamaConfig:
    """The config of the shape called `name`. Raises `ModelUnsupported` with the known names."""
    if name not in _SIZES:
        raise ModelUnsupported(f"There is no shape {name!r}. Known are: {', '.join(SHAPES)}.")
    layers, hidden, heads, kv_heads, ffn, vocab, context, tied = _SIZES[name]
    return LlamaConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=ffn,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=hidden // heads,
        rms_norm_eps=1e-5,
        max_position_embeddings=context,
        tie_word_embeddings=tied,
        attention_bias=False,
        mlp_bias=False,
        rope=_rope(name, context),
        dtype="bfloat16",
        quantized="",
    )


def _rope(name: str, context: int) -> Rope:
    starts = (start for start in _ROTARY if name.startswith(start))
    theta, factor = _ROTARY.get(next(starts, ""), (10_000.0, 0))
    if factor:
        return Rope("llama3", theta, factor, original_max_position_embeddings=8192)
    return Rope(rope_theta=theta, original_max_position_embeddings=context)
