"""Tiny Llama checkpoints with random weights, written to disk for tests."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

BASE: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 288,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "bos_token_id": 256,
    "eos_token_id": 260,
    "torch_dtype": "float32",
}

# Wide enough for the own kernels.
WIDE: dict[str, Any] = {"hidden_size": 128, "intermediate_size": 192, "head_dim": 32}

# Shapes of each generation, tiny: what differs is heads, ties, rotary scaling, biases, head size.
GENERATIONS: dict[str, dict[str, Any]] = {
    "llama-1 (MHA, 1e-6)": {"num_key_value_heads": 4, "rms_norm_eps": 1e-6},
    "llama-2 70B (GQA)": {"num_attention_heads": 8, "num_key_value_heads": 1},
    "code-llama (theta 1e6)": {"num_key_value_heads": 4, "rope_theta": 1e6},
    "vicuna 16k (linear)": {"rope_scaling": {"type": "linear", "factor": 4.0}},
    "long child (dynamic, short)": {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
    "long child (dynamic, past its length)": {
        "rope_scaling": {"type": "dynamic", "factor": 4.0},
        "max_position_embeddings": 16,
    },
    "yarn": {
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 64,
        },
        "head_dim": 16,
    },
    "yarn, untruncated ramp, own factor": {
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 8.0,
            "original_max_position_embeddings": 32,
            "beta_fast": 16.0,
            "beta_slow": 2.0,
            "attention_factor": 1.3,
            "truncate": False,
        },
        "head_dim": 16,
    },
    "llama-3 (GQA, theta 5e5)": {"rope_theta": 500000.0},
    "llama-3.1 (llama3 scaling)": {
        "rope_theta": 500000.0,
        "head_dim": 16,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
    "llama-3.2 (tied, new spelling)": {
        "tie_word_embeddings": True,
        "head_dim": 16,
        "rope_theta": None,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
    "biases": {"attention_bias": True, "mlp_bias": True},
}

SPECIALS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)

LLAMA3_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}"
    "<|end_header_id|>\n\n{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)


def weights_of(config: dict[str, Any], seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights, large enough that the next token is a clear choice."""
    generator = torch.Generator().manual_seed(seed)
    hidden, ffn = config["hidden_size"], config["intermediate_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    dim = config.get("head_dim") or hidden // heads

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * shape[-1] ** -0.5

    tensors = {
        "model.embed_tokens.weight": torch.randn(config["vocab_size"], hidden, generator=generator),
        "model.norm.weight": 1 + 0.1 * torch.randn(hidden, generator=generator),
    }
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = 2 * random(config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        for name, rows, width in (
            ("self_attn.q_proj", heads * dim, hidden),
            ("self_attn.k_proj", kv_heads * dim, hidden),
            ("self_attn.v_proj", kv_heads * dim, hidden),
            ("self_attn.o_proj", hidden, heads * dim),
            ("mlp.gate_proj", ffn, hidden),
            ("mlp.up_proj", ffn, hidden),
            ("mlp.down_proj", hidden, ffn),
        ):
            tensors[f"{prefix}.{name}.weight"] = 2 * random(rows, width)
            kind = "attention_bias" if "attn" in name else "mlp_bias"
            if config.get(kind):
                tensors[f"{prefix}.{name}.bias"] = 0.3 * random(rows)
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{prefix}.{name}.weight"] = 1 + 0.1 * random(hidden)
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def make_checkpoint(
    folder: Path, *, num_shards: int = 1, int8: bool = False, seed: int = 0, **changes: Any
) -> Path:
    """Write config, weights and a byte tokenizer to `folder`; `changes` go into the config."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {**BASE, **changes}
    tensors = weights_of(config, seed)
    if int8:
        tensors = to_int8(tensors)
        config["quantization_config"] = {
            "quant_method": "compressed-tensors",
            "format": "int-quantized",
            "quantization_status": "compressed",
            "ignore": ["lm_head"],
            "config_groups": {
                "group_0": {
                    "targets": ["Linear"],
                    "input_activations": None,
                    "weights": {
                        "num_bits": 8,
                        "type": "int",
                        "symmetric": True,
                        "strategy": "channel",
                        "dynamic": False,
                    },
                }
            },
        }
    (folder / "config.json").write_text(json.dumps(config))
    save_weights(folder, tensors, num_shards)
    save_tokenizer(folder)
    return folder


def save_weights(folder: Path, tensors: dict[str, torch.Tensor], num_shards: int = 1) -> None:
    """One `model.safetensors`, or `num_shards` files with an index."""
    if num_shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names = list(tensors)
    weight_map = {}
    for shard in range(num_shards):
        file = f"model-{shard + 1:05d}-of-{num_shards:05d}.safetensors"
        part = {name: tensors[name] for name in names[shard::num_shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(part, file))
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def to_int8(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Every projection as int8 weight and weight_scale (rows, 1), as compressed-tensors writes."""
    stored = {}
    for name, tensor in tensors.items():
        if "_proj.weight" not in name:
            stored[name] = tensor
            continue
        scale = tensor.abs().amax(dim=1, keepdim=True) / 127
        stored[name] = (tensor / scale).round().clamp(-128, 127).to(torch.int8)
        stored[f"{name}_scale"] = scale
    return stored


def save_tokenizer(folder: Path) -> None:
    """One token per byte, and the control tokens of Llama 3 from id 256 on."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({text: id for id, text in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIALS))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": "<|begin_of_text|>",
                "eos_token": "<|eot_id|>",
                "chat_template": LLAMA3_TEMPLATE,
            }
        )
    )
