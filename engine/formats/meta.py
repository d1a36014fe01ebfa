"""Meta's own downloads: `params.json`, `consolidated.NN.pth`, each file a slice of every tensor.

The files are pickles, opened as `engine/formats/pickled.py` does. Which way a tensor was sliced is
that of meta-llama/llama `llama/model.py` (1, 2: embeddings by columns) and meta-llama/llama-models
`models/llama3/model.py` (3: by rows).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.config import LlamaConfig, parse_config
from engine.errors import CheckpointBroken, CheckpointMissing, CheckpointUnsafe
from engine.formats.pickled import read_pickled, sample_of
from engine.json_values import read_json

PARAMS = "params.json"
_FILES = "consolidated.*.pth"
_NAMES = {
    "tok_embeddings": "model.embed_tokens",
    "norm": "model.norm",
    "output": "lm_head",
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w3": "mlp.up_proj",
    "feed_forward.w2": "mlp.down_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_BY_COLUMNS = ("attention.wo", "feed_forward.w2")
_LAYER = re.compile(r"layers\.(\d+)\.(.+)\.weight")
_COMPUTED = "rope.freqs"  # old files carry the table; we compute it


@dataclass(frozen=True)
class SlicedTensor:
    """One tensor, lying in as many slices as there are files."""

    slices: tuple[Tensor, ...]
    dim: int | None  # along which they are joined; None: every file holds the whole

    @property
    def shape(self) -> tuple[int, ...]:
        shape = list(self.slices[0].shape)
        if self.dim is not None:
            shape[self.dim] = sum(part.shape[self.dim] for part in self.slices)
        return tuple(shape)

    @property
    def num_bytes(self) -> int:
        parts = self.slices[:1] if self.dim is None else self.slices
        return sum(part.nbytes for part in parts)

    def read(self) -> Tensor:
        """The whole tensor, in memory of its own."""
        if self.dim is None or len(self.slices) == 1:
            return self.slices[0].clone()
        return torch.cat(self.slices, dim=self.dim)


def is_meta(folder: Path) -> bool:
    """Whether `folder` is laid out as Meta's downloads are."""
    return (folder / PARAMS).is_file() and next(folder.glob(_FILES), None) is not None


def read_meta(
    folder: Path, *, allow_pickle: bool
) -> tuple[LlamaConfig, dict[str, Any], dict[str, SlicedTensor], bytes]:
    """Config, its keys as a `config.json` would have them, tensors, and bytes for a fingerprint.

    Raises `CheckpointUnsafe` unless `allow_pickle`, `CheckpointBroken` for what does not fit.
    """
    files = sorted(folder.glob(_FILES))
    if not allow_pickle:
        raise CheckpointUnsafe(
            f"{files[0].name} in {folder} is a Python pickle, as Meta's own downloads are; a "
            "forged one could attack this machine. If this folder came from Meta, say so with "
            "--allow-pickle; else get the same model in safetensors."
        )
    params = read_json(folder / PARAMS)
    shards = [read_pickled(file) for file in files]
    _check_same_names(shards, files)
    dim = params.get("dim")
    tensors = {
        _hugging_face_name(name): SlicedTensor(
            tuple(shard[name] for shard in shards), _dim_of(name, shards, dim)
        )
        for name in shards[0]
        if name != _COMPUTED
    }
    raw = _raw_config(params, tensors)
    # Hub repositories keep Meta's files in a folder of that name.
    raw["_name_or_path"] = folder.parent.name if folder.name == "original" else folder.name
    try:
        config = parse_config(raw)
    except CheckpointBroken as error:
        raise CheckpointBroken(str(error).replace("config.json", PARAMS)) from error
    digest = (folder / PARAMS).read_bytes()
    digest += b"".join(sample_of(tensor.slices[0]) for tensor in tensors.values())
    return config, raw, tensors, digest


def _check_same_names(shards: Sequence[Mapping[str, Tensor]], files: list[Path]) -> None:
    for shard, file in zip(shards, files, strict=True):
        if shard.keys() - {_COMPUTED} != shards[0].keys() - {_COMPUTED}:
            raise CheckpointBroken(
                f"{file.name} and {files[0].name} do not belong to one model: download both again."
            )
    numbers = [int(re.sub(r"\D", "", file.stem) or -1) for file in files]
    if numbers != list(range(len(files))):
        raise CheckpointMissing(
            f"Of consolidated.*.pth not all files are there (found {numbers}): download the rest."
        )


def _dim_of(name: str, shards: Sequence[Mapping[str, Tensor]], dim: object) -> int | None:
    """Along which dimension the slices of `name` are joined, None if each file has it whole."""
    first = shards[0][name]
    if first.dim() < 2 or len(shards) == 1:
        return None
    if name == "tok_embeddings.weight":
        return 0 if first.shape[1] == dim else 1
    return 1 if any(part in name for part in _BY_COLUMNS) else 0


def _hugging_face_name(name: str) -> str:
    if match := _LAYER.fullmatch(name):
        inner = _NAMES.get(match[2], match[2])
        return f"model.layers.{match[1]}.{inner}.weight"
    stem, _, kind = name.rpartition(".")
    return f"{_NAMES.get(stem, stem)}.{kind}"


def _raw_config(params: Mapping[str, Any], tensors: Mapping[str, SlicedTensor]) -> dict[str, Any]:
    """What a `config.json` of this model would say.

    Sizes are those of the tensors: `vocab_size` is -1 in the files of Llama 2, and the size of the
    feed-forward layer stands there as a rule.
    """
    embedding = tensors.get("model.embed_tokens.weight")
    gate = tensors.get("model.layers.0.mlp.gate_proj.weight")
    if embedding is None or gate is None:
        raise CheckpointBroken("consolidated.00.pth lacks the embeddings or the first layer.")
    raw: dict[str, Any] = {
        "model_type": "llama",
        "vocab_size": embedding.shape[0],
        "hidden_size": params.get("dim"),
        "intermediate_size": gate.shape[0],
        "num_hidden_layers": params.get("n_layers"),
        "num_attention_heads": params.get("n_heads"),
        "num_key_value_heads": params.get("n_kv_heads"),
        "head_dim": params.get("head_dim"),
        "rms_norm_eps": params.get("norm_eps", 1e-5),
        "rope_theta": params.get("rope_theta"),
        "max_position_embeddings": _context_length(params),
        "tie_word_embeddings": "lm_head.weight" not in tensors,
        "dtype": str(embedding.slices[0].dtype).removeprefix("torch."),
    }
    if params.get("use_scaled_rope"):
        # Not in the file before 3.2: 8 for the 3.1 models, 32 for the two small ones of 3.2
        # (meta-llama/llama-models `sku_list.py`).
        small = isinstance(params.get("dim"), int) and params["dim"] <= 3072
        raw["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": params.get("rope_scaling_factor") or (32.0 if small else 8.0),
            "low_freq_factor": 1.0,
            "high_freq_factor": params.get("rope_high_freq_factor") or 4.0,
            "original_max_position_embeddings": 8192,
        }
    return {key: value for key, value in raw.items() if value is not None}


def _context_length(params: Mapping[str, Any]) -> int:
    """The context is not in the file; each generation is known by what is.

    1: norm_eps 1e-6, or the 65B's 80 layers without grouped heads; Code Llama: theta 1e6; 3: 5e5.
    """
    if params.get("use_scaled_rope"):
        return 131072
    theta = params.get("rope_theta") or 10000.0
    if theta == 500000.0:
        return 8192
    if theta == 1000000.0:
        return 16384
    ungrouped = params.get("n_layers") == 80 and not params.get("n_kv_heads")
    return 2048 if params.get("norm_eps") == 1e-6 or ungrouped else 4096
