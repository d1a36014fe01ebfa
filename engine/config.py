"""`config.json` of a checkpoint → `LlamaConfig`. Reads values; builds and loads nothing.

Keys keep the names they have in `config.json`. What decides the forward pass is read and checked;
what could make another program run code is refused; the rest is left alone, because this dictionary
is never handed to a library that would act on it. Rotary scaling is read in its old spelling
(`rope_theta` and `rope_scaling`) and in the one of transformers 5 (`rope_parameters`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from engine.errors import CheckpointBroken, CheckpointUnsafe, ModelUnsupported
from engine.json_values import flag, integer, number, read_json, short

RopeType = Literal["default", "linear", "dynamic", "yarn", "llama3", "factors"]
_FROM_CONFIG = ("default", "linear", "dynamic", "yarn", "llama3")

# Underscored keys of old transformers versions that name where a file came from, and nothing else.
# Every other underscored key is refused: CVE-2026-4372 ran code through one of them.
_INERT = frozenset({"_name_or_path", "_commit_hash"})

# Switches of other decoders that change the forward pass; a Llama has them off (or not at all).
_FOREIGN = (
    "sliding_window", "attn_logit_softcapping", "final_logit_softcapping", "num_local_experts",
    "embedding_multiplier", "residual_multiplier", "logits_scaling", "attention_multiplier",
    "layer_types", "no_rope_layers", "block_configs", "vision_config",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position parameters. `factor` and what follows matter to the scaled types only."""

    rope_type: RopeType = "default"
    rope_theta: float = 10000.0
    factor: float = 1.0
    original_max_position_embeddings: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float = 0.0
    mscale_all_dim: float = 0.0
    truncate: bool = True
    factors: tuple[float, ...] = ()  # "factors": what each pair's angle is divided by (GGUF)


@dataclass(frozen=True, slots=True)
class LlamaConfig:
    """Everything the forward pass needs to know. Immutable, checked, free of torch."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float
    max_position_embeddings: int
    tie_word_embeddings: bool
    attention_bias: bool
    mlp_bias: bool
    rope: Rope
    dtype: str
    quantized: Literal["", "int8", "int4"]  # how the files hold most weights, if not as floats

    @property
    def context_length(self) -> int:
        """Tokens the model was made for, by the rule that vLLM uses (`_get_and_verify_max_len`).

        linear and dynamic scaling stretch `max_position_embeddings`; yarn stretches the original
        length; llama3 configs already name the stretched one.
        """
        rope = self.rope
        if rope.rope_type in ("linear", "dynamic"):
            return int(self.max_position_embeddings * rope.factor)
        if rope.rope_type == "yarn":
            return int(rope.original_max_position_embeddings * rope.factor)
        return self.max_position_embeddings

    @property
    def num_parameters(self) -> int:
        """Weights of the whole model, counted once where input and output embeddings are tied."""
        hidden, heads, kv_heads = (
            self.hidden_size,
            self.num_attention_heads,
            self.num_key_value_heads,
        )
        attention = 2 * hidden * heads * self.head_dim + 2 * hidden * kv_heads * self.head_dim
        if self.attention_bias:
            attention += (heads + 2 * kv_heads) * self.head_dim + hidden
        feed_forward = 3 * hidden * self.intermediate_size
        if self.mlp_bias:
            feed_forward += 2 * self.intermediate_size + hidden
        embeddings = self.vocab_size * hidden * (1 if self.tie_word_embeddings else 2)
        return (
            embeddings + self.num_hidden_layers * (attention + feed_forward + 2 * hidden) + hidden
        )

    def kv_bytes_per_token(self, bytes_per_value: int) -> int:
        """Bytes of keys and values that one token leaves in the KV cache."""
        return (
            2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim * bytes_per_value
        )


def load_config(folder: Path) -> tuple[LlamaConfig, dict[str, Any]]:
    """Read `folder/config.json`: the checked config and the dictionary as it stands in the file."""
    raw = read_json(folder / "config.json")
    return parse_config(raw), raw


def parse_config(raw: Mapping[str, Any]) -> LlamaConfig:
    """Check `raw` and keep what a Llama needs.

    Raises `CheckpointUnsafe` for keys that could run code elsewhere, `ModelUnsupported` for another
    architecture, `CheckpointBroken` for values that make no sense.
    """
    refuse_code(raw)
    _refuse_other_architectures(raw)
    hidden_size = integer(raw, "hidden_size", 1, 1 << 17)
    num_heads = integer(raw, "num_attention_heads", 1, 1 << 12)
    num_kv_heads = integer(raw, "num_key_value_heads", 1, 1 << 12, default=num_heads)
    head_dim = integer(raw, "head_dim", 2, 1 << 12, default=hidden_size // num_heads)
    if num_heads % num_kv_heads:
        raise CheckpointBroken(
            f"config.json has {num_heads} attention heads, which its {num_kv_heads} key-value "
            "heads do not divide."
        )
    if head_dim % 2:
        raise CheckpointBroken(f"config.json has a head_dim of {head_dim}; it must be even.")
    max_positions = integer(raw, "max_position_embeddings", 1, 1 << 26, default=2048)
    _check_token_ids(raw)
    return LlamaConfig(
        vocab_size=integer(raw, "vocab_size", 1, 1 << 22),
        hidden_size=hidden_size,
        intermediate_size=integer(raw, "intermediate_size", 1, 1 << 20),
        num_hidden_layers=integer(raw, "num_hidden_layers", 1, 1 << 10),
        num_attention_heads=num_heads,
        num_key_value_heads=num_kv_heads,
        head_dim=head_dim,
        rms_norm_eps=number(raw, "rms_norm_eps", 1e-12, 1.0, default=1e-6),
        max_position_embeddings=max_positions,
        tie_word_embeddings=flag(raw, "tie_word_embeddings"),
        attention_bias=flag(raw, "attention_bias"),
        mlp_bias=flag(raw, "mlp_bias"),
        rope=_rope(raw, max_positions),
        dtype=str(raw.get("dtype") or raw.get("torch_dtype") or "float32").removeprefix("torch."),
        quantized="int8" if _quantized(raw.get("quantization_config")) else "",
    )


def refuse_code(raw: Mapping[str, Any]) -> None:
    """Raise `CheckpointUnsafe` if a key, at any depth, is one through which libraries ran code."""
    pending: list[object] = [raw]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending.extend(value)
        if not isinstance(value, Mapping):
            continue
        for key, inner in value.items():
            pending.append(inner)
            name = str(key)
            hidden = name.startswith("_") and name not in _INERT
            switch = name in ("auto_map", "trust_remote_code") or "attn_implementation" in name
            if hidden or switch:
                raise CheckpointUnsafe(
                    f'config.json has the key "{name}", through which a model can bring code. '
                    "Corral loads weights only: use a copy of this model without that key."
                )


def _refuse_other_architectures(raw: Mapping[str, Any]) -> None:
    model_type = raw.get("model_type", "llama")
    architectures = raw.get("architectures") or ["LlamaForCausalLM"]
    if model_type != "llama" or architectures not in (["LlamaForCausalLM"], ["LLaMAForCausalLM"]):
        name = architectures[0] if isinstance(architectures, list) else architectures
        raise ModelUnsupported(
            f"This is a {str(name)[:60]} model (type {short(model_type)}). Corral runs "
            "LlamaForCausalLM: choose a Llama, Code Llama, Llama Guard or one of their children."
        )
    for key in _FOREIGN:
        if raw.get(key):
            raise ModelUnsupported(f"config.json sets {short(key)}, which no Llama has.")
    activation = raw.get("hidden_act", "silu")
    if activation not in ("silu", "swish"):
        raise ModelUnsupported(
            f"config.json asks for hidden_act {short(activation)}; Llama uses 'silu'."
        )


def _rope(raw: Mapping[str, Any], max_positions: int) -> Rope:
    scaling = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    if not isinstance(scaling, Mapping):
        raise CheckpointBroken("config.json has rotary parameters that are not an object.")
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind not in _FROM_CONFIG:
        raise ModelUnsupported(
            f"Rotary scaling {short(kind)} is not known; known are {', '.join(_FROM_CONFIG)}."
        )
    if number(scaling, "partial_rotary_factor", 0.0, 1.0, default=1.0) != 1.0:
        raise ModelUnsupported("config.json rotates a part of each head only, which no Llama does.")
    theta = number(raw, "rope_theta", 1.0, 1e15, default=10000.0)
    original = integer(
        scaling, "original_max_position_embeddings", 1, 1 << 26, default=max_positions
    )
    attention_factor = scaling.get("attention_factor")
    if kind == "llama3":
        for key in ("low_freq_factor", "high_freq_factor"):
            number(scaling, key, 1e-6, 1e6)
        if scaling["low_freq_factor"] == scaling["high_freq_factor"]:
            raise CheckpointBroken("config.json has a low_freq_factor equal to its high one.")
    return Rope(
        rope_type=cast(RopeType, kind),
        rope_theta=number(scaling, "rope_theta", 1.0, 1e15, default=theta),
        factor=1.0 if kind == "default" else number(scaling, "factor", 1.0, 1e6),
        original_max_position_embeddings=original,
        low_freq_factor=number(scaling, "low_freq_factor", 1e-6, 1e6, default=1.0),
        high_freq_factor=number(scaling, "high_freq_factor", 1e-6, 1e6, default=4.0),
        beta_fast=number(scaling, "beta_fast", 1e-6, 1e6, default=32.0),
        beta_slow=number(scaling, "beta_slow", 1e-6, 1e6, default=1.0),
        attention_factor=(
            None if attention_factor is None else number(scaling, "attention_factor", 1e-6, 1e6)
        ),
        mscale=number(scaling, "mscale", 0.0, 1e6, default=0.0),
        mscale_all_dim=number(scaling, "mscale_all_dim", 0.0, 1e6, default=0.0),
        truncate=flag(scaling, "truncate", default=True),
    )


def _quantized(value: object) -> bool:
    """Whether the files hold int8 weights that we can read; refuses every other quantization."""
    if not value:
        return False
    if not isinstance(value, Mapping) or value.get("quant_method") != "compressed-tensors":
        method = value.get("quant_method", "unnamed") if isinstance(value, Mapping) else "unnamed"
        raise ModelUnsupported(
            f"The weights are stored in the quantization {short(method)}. Use the original "
            "weights; Corral quantizes them itself when it loads them."
        )
    groups = value.get("config_groups")
    if value.get("format") not in ("int-quantized", "naive-quantized") or not isinstance(
        groups, Mapping
    ):
        raise ModelUnsupported(
            "The weights are stored in the compressed-tensors format "
            f"{short(value.get('format'))}; 'int-quantized' is the one that can be read."
        )
    for group in groups.values():
        weights = group.get("weights") if isinstance(group, Mapping) else None
        if not isinstance(weights, Mapping) or (
            weights.get("num_bits") != 8
            or weights.get("type", "int") != "int"
            or weights.get("symmetric", True) is not True
        ):
            raise ModelUnsupported(
                "The weights are quantized in another way than symmetric 8-bit integers. Use the "
                "original weights; Corral quantizes them itself when it loads them."
            )
    return True


def _check_token_ids(raw: Mapping[str, Any]) -> None:
    """What `engine/chat_format.py` reads of them: one id, or a list."""
    for given in (raw.get("bos_token_id"), raw.get("eos_token_id")):
        for value in given if isinstance(given, list) else [given]:
            if value is not None and (type(value) is not int or not 0 <= value < 1 << 22):
                raise CheckpointBroken(f"config.json has the token id {short(value)}.")
