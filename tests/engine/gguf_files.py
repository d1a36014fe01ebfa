"""A tiny Llama folder → the GGUF file that llama.cpp's converter would make of it."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import load_file

from engine.rotary import interleave

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def write_gguf(
    folder: Path,
    path: Path,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    *,
    rope_factors: list[float] | None = None,
    **metadata: Any,
) -> Path:
    """Write `folder` as `path`, matrices stored as `kind`; `metadata` replaces or adds keys."""
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    if config.get("head_dim"):
        writer.add_key_length(config["head_dim"])
    add_byte_level(writer, folder)
    for key, value in metadata.items():
        writer.add_key_value(key, value, gguf.GGUFValueType.get_type(value))
    for name, tensor in load_file(folder / "model.safetensors").items():
        add_tensor(writer, config, name, tensor.float(), kind)
    if rope_factors is not None:
        writer.add_tensor("rope_freqs.weight", np.array(rope_factors, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_byte_level(writer: gguf.GGUFWriter, folder: Path) -> None:
    file = json.loads((folder / "tokenizer.json").read_text())
    vocab = {**file["model"]["vocab"]}
    controls = {token["content"]: token["id"] for token in file["added_tokens"]}
    names = {id: text for text, id in {**vocab, **controls}.items()}
    tokens = [names.get(id, f"[PAD{id}]") for id in range(max(names) + 1)]
    kind = gguf.TokenType
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types([kind.CONTROL if t in controls else kind.NORMAL for t in tokens])
    merges = [m if isinstance(m, str) else " ".join(m) for m in file["model"]["merges"]]
    if merges:  # the writer cannot write an empty list
        writer.add_token_merges(merges)
    about = json.loads((folder / "tokenizer_config.json").read_text())
    writer.add_bos_token_id(controls[about["bos_token"]])
    writer.add_eos_token_id(controls[about["eos_token"]])
    if "chat_template" in about:
        writer.add_chat_template(about["chat_template"])


def add_tensor(
    writer: gguf.GGUFWriter,
    config: dict[str, Any],
    name: str,
    tensor: torch.Tensor,
    kind: gguf.GGMLQuantizationType,
) -> None:
    stem = name.removesuffix(".weight")
    if stem in OUTER:
        new = f"{OUTER[stem]}.weight"
    else:
        _, _, layer, inner = stem.split(".", 3)
        new = f"blk.{layer}.{NAMES[inner]}.weight"
        heads = {
            "self_attn.q_proj": "num_attention_heads",
            "self_attn.k_proj": "num_key_value_heads",
        }
        if inner in heads:
            tensor = interleave(tensor, config[heads[inner]])
    plain = gguf.GGMLQuantizationType.F32
    stored = kind if tensor.dim() == 2 else plain
    writer.add_tensor(new, gguf.quants.quantize(tensor.numpy(), stored), raw_dtype=stored)
