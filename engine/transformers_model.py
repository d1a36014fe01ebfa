"""Decoders that are not Llama-shaped, on the modules of transformers, behind the same scheduler.

Their keys and values lie in our slots: each layer of the cache that transformers sees is a view of
one. So prefixes are kept, branched and counted as for a Llama. Rows are computed one by one,
weights stay in 16 or 32 bit, and code that a folder brings is never run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.config import refuse_code
from engine.device import device_name, is_out_of_memory
from engine.errors import CheckpointBroken, CheckpointError, DeviceOutOfMemory, ModelUnsupported
from engine.folder import refuse_pickles, weight_specs
from engine.json_values import (
    MAX_CONFIG_BYTES,
    MAX_TOKENIZER_BYTES,
    read_json,
    refuse_huge,
)
from engine.kv_cache import CacheShape, Kept, Slot

_ATTENTION = {"full_attention", "sliding_attention"}
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_FLOAT32_PARAMETERS = 500_000_000  # up to here a CPU computes in float32
_TOLERANCE = 0.15  # of cached decode against one full pass, in 16 bit


def is_foreign(folder: Path) -> bool:
    """Whether `folder` holds a decoder of another family that transformers has code of its own for.

    Reads `config.json` only; transformers is imported for other model types than Llama's.
    """
    config = folder / "config.json"
    if not config.is_file() or config.stat().st_size > MAX_CONFIG_BYTES:
        return False
    kind = read_json(config).get("model_type", "llama")
    if not isinstance(kind, str) or kind == "llama":
        return False
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


class ForeignFolder:
    """An opened folder: the config of transformers, and what identifies its weights."""

    def __init__(self, folder: Path) -> None:
        """Read headers. Raises `CheckpointError`."""
        self.folder = folder
        refuse_pickles(folder)
        self.raw = read_json(folder / "config.json")
        refuse_code(self.raw)
        if self.raw.get("quantization_config"):
            raise ModelUnsupported(
                "The weights are stored quantized, which Corral reads for Llama models only: get "
                "this model's original weights."
            )
        from transformers import AutoConfig

        try:
            self.config = AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            text = self.config.get_text_config(decoder=True)
            self.shape = _shape(text)
        except CheckpointError:
            raise
        except Exception as error:  # whatever a family's own config makes of wrong values
            raise CheckpointBroken(
                f"config.json of {folder.name} cannot be used: {error}. Download it again."
            ) from error
        self.vocab_size = int(text.vocab_size)
        specs, headers = weight_specs(folder)
        self.num_parameters = sum(torch.Size(spec.shape).numel() for spec in specs.values())
        digest = hashlib.sha256(headers)
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            if (folder / name).is_file():
                refuse_huge(folder / name, MAX_TOKENIZER_BYTES)
                digest.update((folder / name).read_bytes())
        self.fingerprint = digest.hexdigest()[:32]

    @property
    def architecture(self) -> str:
        """The name of the model's class."""
        return str((self.raw.get("architectures") or [self.raw["model_type"]])[0])

    def load(
        self, device: torch.device, precision: str, *, kept: Kept = "auto"
    ) -> tuple[TransformersModel, str]:
        """Load the weights; see `engine.opening.Load`."""
        chosen, note = self._precision(device, precision)
        if kept != "auto":
            note = f"{note} {self.architecture} keeps keys and values as it computes them.".strip()
        from transformers import AutoModelForCausalLM

        try:
            module: Any = AutoModelForCausalLM.from_pretrained(
                self.folder,
                config=self.config,
                dtype=_DTYPES[chosen],
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
            )
            model = TransformersModel(module.to(device).eval(), self, chosen, device)
            error = model.self_test()
        except (RuntimeError, ValueError, OSError, MemoryError, KeyError) as failure:
            if is_out_of_memory(failure):
                raise DeviceOutOfMemory(
                    f"{self.folder.name} does not fit the memory of {device_name(device)}: choose "
                    "a smaller model."
                ) from failure
            raise ModelUnsupported(
                f"{self.folder.name} ({self.architecture}) could not be loaded: {failure}"
            ) from failure
        if error > _TOLERANCE:
            raise ModelUnsupported(
                f"{self.architecture} keeps more between steps than keys and values, so Corral "
                "cannot run it. Choose another model."
            )
        return model, note

    def _precision(self, device: torch.device, wanted: str) -> tuple[str, str]:
        if wanted in _DTYPES:
            return wanted, ""
        small = device.type == "cpu" and self.num_parameters <= _FLOAT32_PARAMETERS
        usual = "fp32" if small else ("fp16" if device.type == "mps" else "bf16")
        refused = f"{self.architecture} is not quantized by Corral; {usual} is used."
        return usual, "" if wanted == "auto" else refused


def _shape(text: Any) -> tuple[int, int, int, int]:
    """Layers, key-value heads, head dimension and context. Raises `ModelUnsupported`."""
    kinds = set(getattr(text, "layer_types", None) or ())
    if kinds - _ATTENTION or getattr(text, "num_kv_shared_layers", None):
        raise ModelUnsupported(
            f"This model ({text.model_type}) has layers without keys and values of their own, "
            "which Corral cannot run. Choose another model."
        )
    heads = int(text.num_attention_heads)
    kv_heads = int(getattr(text, "num_key_value_heads", None) or heads)
    head_dim = int(getattr(text, "head_dim", None) or text.hidden_size // heads)
    context = int(getattr(text, "max_position_embeddings", 2048))
    return int(text.num_hidden_layers), kv_heads, head_dim, context


class TransformersModel:
    """A module of transformers as `engine.opening.LoadedModel`. One compute thread owns it."""

    def __init__(
        self, module: Any, opened: ForeignFolder, precision: str, device: torch.device
    ) -> None:
        self._module, self.precision, self.device = module, precision, device
        self._vocab_size = opened.vocab_size
        layers, kv_heads, head_dim, context = opened.shape
        self.cache_shape = CacheShape(
            layers, kv_heads, head_dim, _DTYPES[precision], device, context
        )

    @property
    def steady_width(self) -> int:
        """See `engine.model.Model`."""
        return 1

    def stretch(self, num_tokens: int) -> int:
        """Nothing depends on the length of the sequence."""
        return 0

    def give_up(self) -> bool:
        """It holds nothing beside its weights."""
        return False

    def make_room(self, slot: Slot, num_tokens: int) -> None:
        """Let `slot` hold `num_tokens`. Raises `DeviceOutOfMemory`."""
        slot.reserve(num_tokens)

    @torch.inference_mode()
    def forward(
        self, ids: Sequence[int], spans: Sequence[tuple[Slot, int]], *, every: bool = False
    ) -> Tensor:
        """See `engine.llama.Llama.forward`; one span after the other."""
        logits, at = [], 0
        for slot, num in spans:
            part = list(ids[at : at + num])
            logits.append(self._read(slot, part, every=every))
            slot.ids.extend(part)
            at += num
        return torch.cat(logits)

    def _read(self, slot: Slot, ids: list[int], *, every: bool) -> Tensor:
        positions = torch.arange(slot.length, slot.length + len(ids), device=self.device)
        out = self._module(
            input_ids=torch.tensor([ids], device=self.device),
            position_ids=positions.unsqueeze(0),
            past_key_values=slot_cache(slot),
            use_cache=True,
            logits_to_keep=0 if every else 1,
        )
        logits: Tensor = out.logits[0].float()  # (n or 1, V)
        return logits

    def self_test(self, num_tokens: int = 20) -> float:
        """Greatest difference of logits between cached decode and one full pass, relative."""
        ids = [(7919 * (at + 1)) % self._vocab_size for at in range(num_tokens)]
        whole, parts = Slot(self.cache_shape), Slot(self.cache_shape)
        self.make_room(whole, num_tokens)
        self.make_room(parts, num_tokens)
        full = self.forward(ids, [(whole, num_tokens)], every=True)
        rows = [self.forward(ids[:10], [(parts, 10)])]
        rows += [self.forward([token], [(parts, 1)]) for token in ids[10:]]
        difference = (torch.cat(rows) - full[9:]).abs().max() / full.abs().max().clamp_min(1e-6)
        return float(difference) if bool(torch.isfinite(difference)) else float("inf")

    def unload(self) -> None:
        """Let go of all weights."""
        self._module = None


def slot_cache(slot: Slot) -> Any:
    """A cache of transformers whose layers are the slot's own buffers."""
    from transformers import cache_utils

    base: Any = cache_utils.DynamicLayer

    class SlotLayer(base):  # type: ignore[misc]  # transformers has no types for it
        """Keys and values of one layer: written in place, read as far as they go."""

        def __init__(self, buffer: Tensor) -> None:
            super().__init__()
            self.buffer = buffer  # (2G, capacity, D)
            self.is_initialized = True
            self.dtype, self.device = buffer.dtype, buffer.device

        def get_seq_length(self) -> int:
            return slot.length

        def update(
            self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
        ) -> tuple[Tensor, Tensor]:
            heads, num = key_states.shape[1], key_states.shape[2]
            end = slot.length + num
            self.buffer[:heads, slot.length : end] = key_states[0]
            self.buffer[heads:, slot.length : end] = value_states[0]
            return self.buffer[None, :heads, :end], self.buffer[None, heads:, :end]

    return cache_utils.Cache(layers=[SlotLayer(buffer) for buffer in slot.layers])
