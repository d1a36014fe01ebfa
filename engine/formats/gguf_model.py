"""What a GGUF file says about its model: architecture, tensor names, tokenizer and chat template.

Keys are those of ggml-org/ggml `docs/gguf.md`, tensor names those of gguf-py's `constants.py`.
Query and key rows already lie in neighbouring pairs there, as this engine wants them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from engine.config import LlamaConfig, parse_config
from engine.errors import CheckpointBroken, CheckpointError, ModelUnsupported
from engine.formats.gguf import GgufFile, GgufTensor

_OUTER = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_INNER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
ROPE_FACTORS = "rope_freqs.weight"
_FOUR_BIT = {"Q4_0", "Q4_1", "Q4_K"}
_PLAIN = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def tensors_by_name(file: GgufFile) -> dict[str, GgufTensor]:
    """The tensors under their Hugging Face names; an unknown one keeps its own."""
    named = {}
    for name, tensor in file.tensors.items():
        if name != ROPE_FACTORS:
            named[_hugging_face_name(name)] = tensor
    return named


def _hugging_face_name(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    if stem in _OUTER:
        return f"{_OUTER[stem]}.{kind}"
    parts = stem.split(".")
    if len(parts) == 3 and parts[0] == "blk" and parts[2] in _INNER:
        return f"model.layers.{parts[1]}.{_INNER[parts[2]]}.{kind}"
    return name


def config_of(file: GgufFile) -> tuple[LlamaConfig, dict[str, Any]]:
    """The checked config, and the keys of a `config.json` that say the same.

    Raises `ModelUnsupported` for another architecture, `CheckpointBroken` for impossible values.
    """
    architecture = file.metadata.get("general.architecture")
    if architecture != "llama" or file.metadata.get("llama.expert_count"):
        kind = "a mixture of experts" if architecture == "llama" else repr(architecture)
        raise ModelUnsupported(
            f"{file.path.name} holds a model of the kind {kind}. Of GGUF files Corral runs Llama "
            "models; get this model's safetensors, or choose a Llama."
        )
    raw = _raw_config(file)
    try:
        config = parse_config(raw)
    except CheckpointError as error:
        # The checks are those of config.json, whose keys `raw` has.
        message = str(error).replace("config.json", f"the header of {file.path.name}")
        raise type(error)(message) from error
    if ROPE_FACTORS in file.tensors:
        config = _with_rope_factors(config, file)
    stored = {tensor.kind.name for tensor in file.tensors.values() if len(tensor.shape) == 2}
    if stored - _PLAIN.keys():
        config = replace(config, quantized="int4" if stored & _FOUR_BIT else "int8")
    return config, raw


def _raw_config(file: GgufFile) -> dict[str, Any]:
    metadata = file.metadata

    def of(key: str) -> Any:
        return metadata.get(f"llama.{key}")

    embedding = file.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise CheckpointBroken(
            f"{file.path.name} holds no table of embeddings: it is a vocabulary or damaged. "
            "Choose a file with weights."
        )
    heads = of("attention.head_count")
    kinds: dict[str, int] = {}
    for tensor in file.tensors.values():
        kinds[tensor.kind.name] = kinds.get(tensor.kind.name, 0) + tensor.num_bytes
    most = max(kinds, key=kinds.__getitem__)
    raw = {
        "model_type": "llama",
        "_name_or_path": str(metadata.get("general.name", "")),
        "vocab_size": embedding.shape[0],
        "hidden_size": of("embedding_length"),
        "intermediate_size": of("feed_forward_length"),
        "num_hidden_layers": of("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": of("attention.head_count_kv"),
        "head_dim": of("attention.key_length") or of("rope.dimension_count"),
        "rms_norm_eps": of("attention.layer_norm_rms_epsilon"),
        "max_position_embeddings": of("context_length"),
        "rope_theta": of("rope.freq_base"),
        "rope_scaling": _scaling(metadata),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "attention_bias": "blk.0.attn_q.bias" in file.tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in file.tensors,
        "bos_token_id": metadata.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": _end_ids(metadata),
        "dtype": _PLAIN.get(most, most),
    }
    return {key: value for key, value in raw.items() if value is not None}


def _end_ids(metadata: Mapping[str, Any]) -> list[int] | None:
    names = ("eos_token_id", "eot_token_id", "eom_token_id")
    ids = [metadata.get(f"tokenizer.ggml.{name}") for name in names]
    return [id for id in ids if type(id) is int] or None


def _scaling(metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    kind = metadata.get("llama.rope.scaling.type", "none")
    if kind == "none":
        return None
    return {
        "rope_type": kind,
        "factor": metadata.get("llama.rope.scaling.factor"),
        "original_max_position_embeddings": metadata.get(
            "llama.rope.scaling.original_context_length"
        ),
        "attention_factor": metadata.get("llama.rope.scaling.attn_factor"),
    }


def _with_rope_factors(config: LlamaConfig, file: GgufFile) -> LlamaConfig:
    """Llama 3.1 and later: the file says by what each pair's angle is divided."""
    factors = file.tensors[ROPE_FACTORS].read().float().flatten()
    if len(factors) != config.head_dim // 2 or not bool(
        (factors > 0).all() & (factors < 1e6).all()
    ):
        raise CheckpointBroken(f"{ROPE_FACTORS} in {file.path.name} makes no sense.")
    values: list[float] = factors.tolist()
    scaled = replace(config.rope, rope_type="factors", factor=max(values), factors=tuple(values))
    return replace(config, rope=scaled)


def template_of(file: GgufFile) -> str:
    """The chat template, "" without one."""
    template = file.metadata.get("tokenizer.chat_template", "")
    return template if isinstance(template, str) else ""
