"""Random LoRA adapters in peft's layout, and the same changes added to the weights by hand."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

RANK = 4
TARGETS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.down_proj")


def write_adapter(
    base: Path, folder: Path, *, targets: tuple[str, ...] = TARGETS, seed: int = 7, **config: Any
) -> Path:
    """A random adapter for `base`; `config` replaces keys of `adapter_config.json`."""
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    ranks = config.get("rank_pattern", {})
    for name, weight in load_file(base / "model.safetensors").items():
        module = name.removesuffix(".weight")
        if not module.endswith(targets):
            continue
        rank = next((r for key, r in ranks.items() if module.endswith(key)), RANK)
        prefix = f"base_model.model.{module}"
        down = torch.randn(rank, weight.shape[1], generator=generator) * 0.3
        up = torch.randn(weight.shape[0], rank, generator=generator) * 0.3
        tensors[f"{prefix}.lora_A.weight"], tensors[f"{prefix}.lora_B.weight"] = down, up
    given = {
        "peft_type": "LORA",
        "base_model_name_or_path": str(base),
        "r": RANK,
        "lora_alpha": 8,
        "target_modules": [target.rpartition(".")[2] for target in targets],
        "bias": "none",
        **config,
    }
    (folder / "adapter_config.json").write_text(json.dumps(given))
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def merge(base: Path, adapter: Path, out: Path, scaling: Any) -> Path:
    """The same by hand: `scaling(module)` times B·A added to the folder's own weights."""
    shutil.copytree(base, out)
    weights = load_file(base / "model.safetensors")
    parts = load_file(adapter / "adapter_model.safetensors")
    for name in list(weights):
        prefix = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{prefix}.lora_A.weight" in parts:
            delta = parts[f"{prefix}.lora_B.weight"] @ parts[f"{prefix}.lora_A.weight"]
            weights[name] = weights[name] + scaling(name) * delta
    save_file(weights, out / "model.safetensors")
    return out
