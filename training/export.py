"""From training weights to the folder that is shipped: int8 in the `compressed-tensors` layout.

Every linear layer becomes an int8 `weight` (rows, columns) with one `weight_scale` (rows, 1) per
output channel: weight ~ int8 * scale. The names and the `quantization_config` are those that
compressed-tensors 0.x writes for "int-quantized" checkpoints
(https://github.com/vllm-project/compressed-tensors), so that transformers and others load the
folder. The embedding and the norms stay in bfloat16: the output matrix is tied to the embedding and
not stored a second time, and compressed-tensors 0.20 loses the scale of a tied int8 embedding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from shutil import copyfile

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from training.model import Llama, Shape
from training.tokenizer import BEGIN, END, END_OF_TURN, PAD

EMBEDDING = "model.embed_tokens.weight"


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Int8 (R, C) and float scales (R, 1), the largest of each row at 127."""
    scale = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-8) / 127
    scale = scale.to(torch.bfloat16).float()  # what is stored, so rounding fits it
    return (weight / scale).round().clamp(-127, 127).to(torch.int8), scale


def shipped_tensors(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every tensor of the file, by its final name."""
    tensors: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if weight.dim() == 2 and name != EMBEDDING:
            whole, scale = quantize_rows(weight.float())
            tensors[name] = whole.contiguous()
            tensors[f"{name}_scale"] = scale.to(torch.bfloat16).contiguous()
        else:
            tensors[name] = weight.to(torch.bfloat16).contiguous()
    return tensors


def float_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The float weights that a shipped file stands for."""
    weights: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith("_scale"):
            continue
        scale = tensors.get(f"{name}_scale")
        weights[name] = tensor.float() if scale is None else tensor.float() * scale.float()
    return weights


def _scheme(targets: list[str]) -> dict[str, object]:
    weights = {
        "num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False,
        "group_size": None, "block_structure": None, "actorder": None, "observer": "minmax",
        "observer_kwargs": {},
    }  # fmt: skip
    return {
        "targets": targets, "weights": weights, "input_activations": None,
        "output_activations": None, "format": "int-quantized",
    }  # fmt: skip


def quantization_config() -> dict[str, object]:
    """What `config.json` says about the weights."""
    return {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": _scheme(["Linear"])},
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
        "global_compression_ratio": None,
    }


def model_config(shape: Shape, tokenizer: Tokenizer) -> dict[str, object]:
    """A `config.json` that LlamaForCausalLM reads."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **shape.config(),
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "rope_scaling": None,
        "tie_word_embeddings": True,
        "initializer_range": 0.02,
        "use_cache": True,
        "torch_dtype": "bfloat16",
        "bos_token_id": tokenizer.token_to_id(BEGIN),
        "eos_token_id": tokenizer.token_to_id(END_OF_TURN),
        "pad_token_id": tokenizer.token_to_id(PAD),
        "quantization_config": quantization_config(),
    }


def generation_config(tokenizer: Tokenizer) -> dict[str, object]:
    """The sampling that suits a small model: cool, and narrow."""
    return {
        "bos_token_id": tokenizer.token_to_id(BEGIN),
        "eos_token_id": [tokenizer.token_to_id(END_OF_TURN), tokenizer.token_to_id(END)],
        "pad_token_id": tokenizer.token_to_id(PAD),
        "do_sample": True,
        "temperature": 0.3,
        "top_p": 0.9,
    }


def export(weights: Mapping[str, Tensor], shape: Shape, tokenizer_folder: Path, out: Path) -> None:
    """Write the folder; an existing model card in it stays."""
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    save_file(shipped_tensors(weights), out / "model.safetensors", metadata={"format": "pt"})
    for name, content in (
        ("config.json", model_config(shape, tokenizer)),
        ("generation_config.json", generation_config(tokenizer)),
    ):
        (out / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (out / "model.safetensors").chmod(0o644)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        copyfile(tokenizer_folder / name, out / name)


@torch.no_grad()
def blended(new: Mapping[str, Tensor], old: Mapping[str, Tensor], keep: float) -> dict[str, Tensor]:
    """Weights between those of two trainings of which one began with the other's.

    A short training for new abilities costs some of the old ones; on the straight line between both
    lie weights that have most of either (Wortsman et al. 2022, "Robust fine-tuning of zero-shot
    models", arXiv 2109.01903).
    """
    return {name: torch.lerp(weight, old[name], keep) for name, weight in new.items()}


def load_export(folder: Path) -> Llama:
    """The shipped model as a float model, for checks and for continuing its training."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    shape = Shape(**{name: config[name] for name in Shape.__dataclass_fields__})
    model = Llama(shape)
    model.load_state_dict(float_tensors(load_file(folder / "model.safetensors")), strict=True)
    return model.eval()


@torch.no_grad()
def export_error(weights: Mapping[str, Tensor], shape: Shape, folder: Path) -> float:
    """The largest change of any logit by the export, relative to the spread of the logits."""
    model = Llama(shape)
    model.load_state_dict(dict(weights))
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, shape.vocab_size, (4, 64), generator=generator)
    before, after = model.eval()(ids), load_export(folder)(ids)
    return float((before - after).abs().max() / before.std())
