"""LoRA adapters: `adapter_config.json` and `adapter_model.safetensors`, as peft writes them.

Merged, a rank-r change B·A is added to each named matrix as it is loaded, in float32 and before
anything is quantized: the model costs what it costs alone. `engine/low_rank.py` computes with the
same change beside a model that is loaded already. Scaling and patterns are those of
peft 0.18 `tuners/lora/layer.py` (`update_layer`) and `utils/other.py` (`get_pattern_key`).
torchtune and LLaMA-Factory write the same layout; xtuner converts to it.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from engine.errors import CheckpointBroken, ModelUnsupported
from engine.folder import StoredTensor, adapter_weights, has_pickled_weights
from engine.json_values import read_json, short
from engine.rotary import interleave

CONFIG = "adapter_config.json"
_PREFIX = "base_model.model."
_PART = re.compile(
    r"(?P<module>.+?)\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B)"
    r"(?:\.default)?(?:\.weight)?"
)
# What would change the result, and what peft's own value for "not used" is.
_UNSUPPORTED: dict[str, tuple[object, ...]] = {
    "use_dora": (False, None),
    "bias": ("none", None),
    "fan_in_fan_out": (False, None),
    "lora_bias": (False, None),
    "megatron_config": (None,),
    "layer_replication": (None,),
    "trainable_token_indices": (None,),
    "target_parameters": (None, []),
    "alora_invocation_tokens": (None,),
    "use_qalora": (False, None),
    "arrow_config": (None,),
}
# These start from a changed base model, so the adapter alone does not say what was trained.
_CHANGED_BASE = ("pissa", "olora", "corda", "loftq")


@dataclass(frozen=True)
class Change:
    """What is added to one matrix: `scaling` · B (N, r) · A (r, K)."""

    down: StoredTensor
    up: StoredTensor
    scaling: float
    transposed: bool = False  # embeddings: the table is (V, C), the change Aᵀ · Bᵀ

    def delta(self) -> Tensor:
        """(N, K) in float32."""
        product: Tensor = self.up.read().float() @ self.down.read().float()
        return (product.T if self.transposed else product) * self.scaling


@dataclass(frozen=True)
class Adapter:
    """An opened adapter: changes and replacements by the names of the base model's tensors."""

    folder: Path
    base: str  # the name or folder of the model it was trained on, as it says
    changes: Mapping[str, Change]
    replaced: Mapping[str, StoredTensor]  # modules_to_save: whole tensors
    fingerprint: str

    def over(self, base: str) -> str:
        """The fingerprint of the model `base` with this adapter."""
        return hashlib.sha256((base + self.fingerprint).encode()).hexdigest()[:32]


def is_adapter(folder: Path) -> bool:
    """Whether `folder` holds an adapter and no model."""
    if not (folder / CONFIG).is_file():
        return False
    whole = (path for path in folder.glob("*.safetensors") if "adapter" not in path.name)
    return next(whole, None) is None and not has_pickled_weights(folder)


def open_adapter(folder: Path, *, allow_pickle: bool = False) -> Adapter:
    """Read the config and the header in `folder`.

    Raises `CheckpointMissing`, `CheckpointBroken`, `CheckpointUnsafe` for a pickled one that was
    not allowed, `ModelUnsupported` for another kind of adapter.
    """
    config = read_json(folder / CONFIG)
    _refuse_others(config)
    tensors, identity = adapter_weights(folder, allow_pickle=allow_pickle)
    changes, replaced = _sorted(config, tensors)
    if not changes and not replaced:
        raise CheckpointBroken(
            f"The adapter in {folder} changes nothing: it holds no LoRA weights."
        )
    digest = hashlib.sha256(identity + (folder / CONFIG).read_bytes())
    base = str(config.get("base_model_name_or_path") or "")
    return Adapter(folder, base, changes, replaced, digest.hexdigest()[:32])


def _refuse_others(config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type", "LORA")
    if kind != "LORA":
        raise ModelUnsupported(
            f"This is an adapter of the kind {short(kind)}; Corral merges LoRA adapters. Merge it "
            "into its model with the program that made it, and load the result."
        )
    for key, unused in _UNSUPPORTED.items():
        if config.get(key) not in unused:
            raise ModelUnsupported(
                f"The adapter uses {key} = {short(config[key])}, which Corral cannot merge. Merge "
                "it into its model with the program that made it, and load the result."
            )
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGED_BASE):
        raise ModelUnsupported(
            f"The adapter began as {short(start)}, which changes the model under it. Merge it with "
            "the program that made it, and load the result."
        )


def _sorted(
    config: Mapping[str, Any], specs: Mapping[str, StoredTensor]
) -> tuple[dict[str, Change], dict[str, StoredTensor]]:
    pairs: dict[str, dict[str, StoredTensor]] = {}
    replaced: dict[str, StoredTensor] = {}
    for name, spec in specs.items():
        name = name.removeprefix(_PREFIX)
        match = _PART.fullmatch(name)
        if match:
            pairs.setdefault(match["module"], {})[match["part"]] = spec
        elif "lora_" in name:
            raise ModelUnsupported(f"The adapter holds {name}, which Corral cannot merge.")
        else:
            name = name.replace(".modules_to_save.default", "").replace(".modules_to_save", "")
            replaced[name.replace(".original_module", "")] = spec
    changes = {f"{name}.weight": _change(config, name, parts) for name, parts in pairs.items()}
    return changes, replaced


def _change(config: Mapping[str, Any], module: str, parts: Mapping[str, StoredTensor]) -> Change:
    embedding = "lora_embedding_A" in parts
    kind = "lora_embedding_" if embedding else "lora_"
    down, up = parts.get(f"{kind}A"), parts.get(f"{kind}B")
    if down is None or up is None or len(parts) != 2:
        raise CheckpointBroken(f"The adapter has only one half of its change to {module}.")
    rank = _positive(_by_pattern(config, "rank_pattern", module, "r"), module)
    alpha = _positive(_by_pattern(config, "alpha_pattern", module, "lora_alpha"), module)
    if len(down.shape) != 2 or len(up.shape) != 2 or not down.shape[0] == up.shape[1] == rank:
        raise CheckpointBroken(f"The adapter's change to {module} is not of the rank {rank:g}.")
    scaling = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    return Change(down, up, scaling, transposed=embedding)


def _by_pattern(config: Mapping[str, Any], patterns: str, module: str, usual: str) -> object:
    """The value of the first pattern that ends the module's name, else the usual one."""
    given = config.get(patterns) or {}
    if not isinstance(given, Mapping):
        raise CheckpointBroken(f"{patterns} in {CONFIG} is no object.")
    for pattern, value in given.items():
        # To peft these are regular expressions; a hostile one could run for hours, so only plain
        # names are taken, which is what trainers write.
        plain = pattern.removeprefix("^").removesuffix("$").replace("\\.", ".")
        if not re.fullmatch(r"[\w.]+", plain):
            raise ModelUnsupported(f"The adapter's {patterns} has the pattern {short(pattern)}.")
        if f".{module}".endswith(f".{plain}"):
            return value
    return config.get(usual)


def _positive(value: object, module: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        raise CheckpointBroken(f"{CONFIG} gives {module} the rank or alpha {short(value)}.")
    return float(value)


@dataclass(frozen=True)
class Changed:
    """A tensor of the base model with an adapter's change."""

    base: StoredTensor
    name: str
    change: Change
    heads: int  # of query and key rows that lie in neighbouring pairs, else 0

    @property
    def num_bytes(self) -> int:
        return self.base.num_bytes

    @property
    def shape(self) -> tuple[int, ...]:
        return self.base.shape

    def read(self) -> Tensor:
        """The merged matrix in float32."""
        weight, delta = self.base.read(), self.change.delta()
        if weight.shape != delta.shape:
            raise CheckpointBroken(
                f"The adapter changes {self.name} with the shape {tuple(delta.shape)}; the model "
                f"has {tuple(weight.shape)}: the adapter belongs to another model."
            )
        return weight.float() + (interleave(delta, self.heads) if self.heads else delta)
