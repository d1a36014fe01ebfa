"""config.json: both spellings, refusals, and values that make no sense."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.config import load_config, parse_config
from engine.errors import CheckpointBroken, CheckpointMissing, CheckpointUnsafe, ModelUnsupported
from tests.engine.checkpoints import BASE

LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}

# layers, hidden, heads, key-value heads, feed-forward, vocabulary, tied; millions of parameters
# and KiB of KV per token in bfloat16 as the models' cards and papers state them.
KNOWN = {
    "Llama-2 7B": (32, 4096, 32, 32, 11008, 32000, False, 6738, 512),
    "Llama-2 70B": (80, 8192, 64, 8, 28672, 32000, False, 68977, 320),
    "Llama-3 8B": (32, 4096, 32, 8, 14336, 128256, False, 8030, 128),
    "Llama-3.2 1B": (16, 2048, 32, 8, 8192, 128256, True, 1236, 32),
    "Llama-3.2 3B": (28, 3072, 24, 8, 8192, 128256, True, 3213, 112),
}


def config(**changes: Any) -> dict[str, Any]:
    return {**BASE, **changes}


@pytest.mark.parametrize("name", KNOWN)
def test_sizes_of_known_models(name: str) -> None:
    layers, hidden, heads, kv_heads, ffn, vocab, tied, millions, kib = KNOWN[name]
    known = parse_config(
        config(
            num_hidden_layers=layers,
            hidden_size=hidden,
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            intermediate_size=ffn,
            vocab_size=vocab,
            tie_word_embeddings=tied,
        )
    )
    assert round(known.num_parameters / 1e6) == millions
    assert known.kv_bytes_per_token(2) == kib * 1024


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
        {"rope_theta": 5e5, "rope_scaling": {"type": "llama3", **LLAMA3}},
        {
            "rope_theta": None,
            "rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3},
        },
    ],
)
def test_every_spelling_of_rotary_scaling_means_the_same(changes: dict[str, Any]) -> None:
    rope = parse_config(config(**changes)).rope
    assert (rope.rope_type, rope.rope_theta, rope.factor) == ("llama3", 5e5, 8.0)
    assert rope.original_max_position_embeddings == 8192


@pytest.mark.parametrize(
    ("scaling", "length"),
    [
        (None, 4096),
        ({"type": "linear", "factor": 4.0}, 16384),
        ({"type": "dynamic", "factor": 2.0}, 8192),
        ({"type": "yarn", "factor": 16.0, "original_max_position_embeddings": 2048}, 32768),
        ({"rope_type": "llama3", **LLAMA3}, 4096),
    ],
)
def test_the_context_follows_the_scaling(scaling: dict[str, Any] | None, length: int) -> None:
    made = parse_config(config(max_position_embeddings=4096, rope_scaling=scaling))
    assert made.context_length == length


def test_old_configs_leave_values_out() -> None:
    raw = config()
    for key in ("num_key_value_heads", "rope_theta", "tie_word_embeddings", "rms_norm_eps"):
        del raw[key]
    made = parse_config(raw)
    assert made.num_key_value_heads == 4
    assert made.head_dim == 8
    assert made.rope.rope_theta == 10000.0
    assert made.rms_norm_eps == 1e-6
    assert not made.tie_word_embeddings


@pytest.mark.parametrize(
    "changes",
    [
        {"auto_map": {"AutoModelForCausalLM": "evil.Model"}},
        {"trust_remote_code": True},
        {"_attn_implementation": "eager"},
        {"_attn_implementation_internal": "somebody/kernel"},
        {"attn_implementation": "somebody/kernel"},
        {"experts_attn_implementation_x": "somebody/kernel"},
        {"__class__": "os.system"},
        {"text_config": {"nested": [{"auto_map": {}}]}},
    ],
)
def test_keys_that_bring_code_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(CheckpointUnsafe, match="code"):
        parse_config(config(**changes))


def test_where_a_file_came_from_is_no_code() -> None:
    assert parse_config(config(_name_or_path="meta-llama/Llama-2-7b-chat-hf")).vocab_size == 288


@pytest.mark.parametrize(
    "changes",
    [
        {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral"},
        {"architectures": ["LlamaForSequenceClassification"]},
        {"model_type": "gemma"},
        {"hidden_act": "gelu"},
        {"sliding_window": 4096},
        {"rope_scaling": {"type": "longrope", "factor": 4.0}},
        {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
        {"quantization_config": {"quant_method": "gptq", "bits": 4}},
        {"quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized"}},
    ],
)
def test_other_models_are_named_as_such(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelUnsupported):
        parse_config(config(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": None},
        {"hidden_size": -32},
        {"hidden_size": 1 << 60},
        {"hidden_size": "32"},
        {"hidden_size": True},
        {"hidden_size": 32.0},
        {"num_hidden_layers": 10**9},
        {"num_key_value_heads": 3},
        {"num_key_value_heads": 0},
        {"head_dim": 7},
        {"rms_norm_eps": float("nan")},
        {"rms_norm_eps": "1e-5"},
        {"rope_theta": float("inf")},
        {"rope_scaling": "llama3"},
        {"rope_scaling": {"type": "linear"}},
        {"rope_scaling": {"type": "linear", "factor": 0}},
        {"rope_scaling": {**LLAMA3, "rope_type": "llama3", "low_freq_factor": 4.0}},
        {"tie_word_embeddings": "yes"},
        {"eos_token_id": -1},
        {"eos_token_id": ["</s>"]},
    ],
)
def test_values_that_make_no_sense_are_named(changes: dict[str, Any]) -> None:
    with pytest.raises(CheckpointBroken, match=r"config\.json"):
        parse_config(config(**changes))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b"1"])
def test_unreadable_files_are_broken(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointBroken):
        load_config(tmp_path)


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMissing, match=r"config\.json"):
        load_config(tmp_path)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"x": "y" * (5 << 20)}))
    with pytest.raises(CheckpointBroken, match="more than any real one"):
        load_config(tmp_path)
