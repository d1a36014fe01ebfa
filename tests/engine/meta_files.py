"""A tiny Llama folder → the files that Meta would have published it as."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from engine.rotary import interleave

NAMES = {
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
}
OUTER = {"model.embed_tokens": "tok_embeddings", "model.norm": "norm", "lm_head": "output"}


def write_meta(
    folder: Path, out: Path, num_shards: int = 1, *, embedding_dim: int = 1, **params: Any
) -> Path:
    """Write `folder` to `out`; `embedding_dim` 1 slices the embeddings as Llama 1 and 2 did."""
    out.mkdir(parents=True, exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    given = {
        "dim": config["hidden_size"],
        "n_layers": config["num_hidden_layers"],
        "n_heads": config["num_attention_heads"],
        "n_kv_heads": config["num_key_value_heads"],
        "norm_eps": config["rms_norm_eps"],
        "rope_theta": config["rope_theta"],
        "vocab_size": -1,
        "multiple_of": 8,
        **params,
    }
    (out / "params.json").write_text(json.dumps(given))
    shards: list[dict[str, Tensor]] = [{} for _ in range(num_shards)]
    for name, tensor in load_file(folder / "model.safetensors").items():
        new, whole, dim = _as_meta(config, name, tensor, embedding_dim)
        parts = [whole] * num_shards if whole.dim() == 1 else whole.chunk(num_shards, dim)
        for shard, part in zip(shards, parts, strict=True):
            shard[new] = part.clone()
    for number, shard in enumerate(shards):
        shard["rope.freqs"] = torch.ones(config["hidden_size"] // config["num_attention_heads"])
        torch.save(shard, out / f"consolidated.{number:02d}.pth")
    return out


def _as_meta(
    config: dict[str, Any], name: str, tensor: Tensor, embedding_dim: int
) -> tuple[str, Tensor, int]:
    stem = name.removesuffix(".weight")
    if stem in OUTER:
        return f"{OUTER[stem]}.weight", tensor, embedding_dim if "embed" in stem else 0
    _, _, layer, inner = stem.split(".", 3)
    heads = {"self_attn.q_proj": "num_attention_heads", "self_attn.k_proj": "num_key_value_heads"}
    if inner in heads:
        tensor = interleave(tensor, config[heads[inner]])
    by_columns = inner in ("self_attn.o_proj", "mlp.down_proj")
    return f"layers.{layer}.{NAMES[inner]}.weight", tensor, int(by_columns)
