"""A checkpoint → a model that was seen to compute right, in the precision that suits the device.

Before the first answer two things are compared: a cached decode with one full pass on a fixed
prompt, and, on a GPU, the first layer with the same layer on the CPU in float32. Drivers and wheels
have computed garbage in silence (pytorch#123151 on MPS). What fails is replaced by a plainer
precision, then by the CPU, and the sentence that says so stands in `EngineInfo.note`. So does what
quantizing costs, where it is more than it should (`engine/quality.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch

from engine.checkpoint import Checkpoint
from engine.config import LlamaConfig
from engine.device import device_name, is_out_of_memory
from engine.dispatch import Dispatch
from engine.errors import CheckpointBroken, DeviceOutOfMemory, EngineError
from engine.graphs import PATIENCE, Graphs, difference
from engine.kernels.products import own_library
from engine.kernels.step import Step, can_step
from engine.kv_cache import Kept, Slot
from engine.llama import Llama
from engine.memory import lean
from engine.placement import NOWHERE, Offloading, Placement
from engine.quality import Quality, QualityCheck
from engine.quantize import INT4_GROUPS, Precision
from engine.recording import Recorder, recorder_for
from engine.tuning import tune
from engine.weights import first_layer_of, load_llama

log = logging.getLogger(__name__)

# From this size on a float checkpoint is quantized to int8 on a CPU: below it the weights are read
# fast enough as they are, and float32 is exact.
_INT8_PARAMETERS = 100_000_000

# Greatest difference of logits, relative to the largest, between decode and a full pass.
_TOLERANCE = {"fp32": 1e-3, "bf16": 0.15, "fp16": 0.03, "int8": 0.15, "int4": 0.15}
_TOLERANCE["int4-128"] = _TOLERANCE["int4"]
# What keys and values may differ by where a number is rounded up in one pass and down in another.
_INT8_STEP = 0.02
# Mean difference of the first layer's output from that of the CPU, relative to its spread. Four
# bits move it by a tenth; what garbage does begins at one.
_LAYER_TOLERANCE = 0.3


@lean()
def load_model(
    checkpoint: Checkpoint,
    device: torch.device,
    precision: str = "auto",
    *,
    kept: Kept = "auto",
    check: QualityCheck | None = None,
    offloading: Offloading = NOWHERE,
) -> tuple[Llama, str]:
    """The model in the first way that passes its tests, and a note if there is more to say.

    `kept` is how keys and values are. `check` measures what quantizing costs. `offloading` says
    what may hold layers that the device has no room for. Raises `CheckpointError`, and
    `DeviceOutOfMemory` if there is no room for the weights.
    """
    note, loader = "", _Loader(checkpoint, kept, offloading)
    for place, candidate in _ways(checkpoint.config, device, precision):
        model = loader.tried(place, candidate)
        if model is None:
            note = note or f"{candidate} failed its self-test on {device_name(place)}"
            continue
        if model.dispatch is None:
            attach_step(model)
            attach_graphs(model, recorder_for(place))
            model.tuned = tune(model)
        log.info("%s: %s", checkpoint.name, model.kernels)
        quality = model.quality = check.of(model, checkpoint) if check else None
        log.info("%s: %s", checkpoint.name, quality or "no quality to measure")
        if quality and not quality.passes and precision == "auto" and place.type == "cpu":
            note = f"{quality} on this model"
            model.unload()
            continue
        used = f"{note}; {candidate} on {device_name(place)} is used." if note else ""
        return model, used or _warning(quality)
    raise CheckpointBroken(
        f"{checkpoint.name} computes different numbers for the same text twice, or none at all: "
        "its weights are damaged. Download it again."
    )


def _warning(quality: Quality | None) -> str:
    """What the owner should know of a precision that was asked for and loses too much."""
    if quality is None or quality.passes:
        return ""
    return f"{quality} on this model: its answers may be worse. Choose int8 or bf16."


def choose_precision(config: LlamaConfig, device: torch.device, wanted: str = "auto") -> Precision:
    """The precision that is `wanted`, or what `auto` means here.

    On a CPU that is what is stored, int8 for large models, float32 for small ones; on CUDA
    bfloat16, on MPS float16.
    """
    if wanted != "auto":
        return cast(Precision, wanted)
    if device.type != "cpu":
        return "bf16" if device.type == "cuda" else "fp16"
    if config.quantized:
        return config.quantized
    return "int8" if config.num_parameters >= _INT8_PARAMETERS else "fp32"


def _ways(
    config: LlamaConfig, device: torch.device, precision: str
) -> Iterator[tuple[torch.device, Precision]]:
    """Where and in which precision to try, the wanted way first, each once."""
    wanted = choose_precision(config, device, precision)
    yield device, wanted
    if wanted in INT4_GROUPS and device.type != "cpu":  # not every GPU has kernels for 4 bits
        yield device, "int8"
    if precision == "auto" and wanted == "int8" and not config.quantized:
        yield device, "bf16"
    if wanted != "fp32":
        yield device, "fp32"
    if device.type != "cpu":
        cpu = torch.device("cpu")
        yield cpu, choose_precision(config, cpu)


@dataclass(frozen=True, slots=True)
class _Loader:
    """What stays the same from one try to the next."""

    checkpoint: Checkpoint
    kept: Kept
    offloading: Offloading

    def tried(self, device: torch.device, precision: Precision) -> Llama | None:
        """The model, or None if it fails a test or the device cannot run it."""
        try:
            model = self._loaded(device, precision)
            error = self_test(model)
            if (
                device.type != "cpu"
                and first_layer_error(model, self.checkpoint) > _LAYER_TOLERANCE
            ):
                error = float("inf")
        except EngineError:
            raise
        except (RuntimeError, MemoryError) as failure:
            if is_out_of_memory(failure):
                raise DeviceOutOfMemory(
                    f"{self.checkpoint.name} does not fit the memory of {device_name(device)}: "
                    "choose a smaller model, or the precision int8 or int4."
                ) from failure
            log.warning("%s on %s failed: %s", precision, device, failure)
            return None
        if error <= _TOLERANCE[precision]:
            return model
        log.warning("%s on %s failed its self-test: error %.3g", precision, device, error)
        model.unload()
        return None

    def _loaded(self, device: torch.device, precision: Precision) -> Llama:
        """The model on `device`, or spread over several places where that has no room for it."""
        placement = self._placement(device, precision)
        if placement is None or placement.is_whole:
            return load_llama(self.checkpoint, precision, device, kept=self.kept)
        dispatch, main = Dispatch(placement, self.offloading.folder), torch.device(placement.main)
        try:
            model = load_llama(self.checkpoint, precision, main, kept=self.kept, dispatch=dispatch)
        except BaseException:
            dispatch.close()
            raise
        model.spread = placement.told(self.offloading.seconds(placement))
        return model

    def _placement(self, device: torch.device, precision: Precision) -> Placement | None:
        """Where each part goes; None where nothing but `device` may hold any, or none has room."""
        offloading, placement = self.offloading, None
        if offloading.mode != "never":
            placement = offloading.plan(self.checkpoint.config, precision, device, kept=self.kept)
        if placement is None and offloading.most_bytes:
            raise DeviceOutOfMemory(
                f"{self.checkpoint.name} does not fit {offloading.most_bytes / 1e6:.0f} MB of "
                f"{device_name(device)} and whatever else it may use: allow more with "
                "--device-megabytes, or the disk with --offload disk."
            )
        return placement


def attach_step(model: Llama) -> bool:
    """Let `model` decode by the own kernel if there is one and it computes the same → whether."""
    if not can_step(model) or (library := own_library()) is None:
        return False
    model.step = Step(model, library)
    if self_test(model) > _TOLERANCE[model.precision]:
        log.warning("the own kernel failed its self-test and is not used")
        model.step = None
    return model.step is not None


def attach_graphs(model: Llama, recorder: Recorder | None) -> bool:
    """Let `model` decode by recorded steps, if these compute the same and are faster → whether.

    Without a recorder it stays as it is.
    """
    if recorder is None:
        return False
    tolerance = _TOLERANCE[model.precision]
    if model.cache_shape.dtype == torch.int8:
        tolerance = max(tolerance, _INT8_STEP)
    model.graphs = Graphs(model, recorder, tolerance)
    num_tokens = min(2 * PATIENCE, model.cache_shape.context_length)
    slot = Slot(model.cache_shape)
    model.make_room(slot, num_tokens)
    for token in _spread_ids(model.config, num_tokens):
        model.forward([token], [(slot, 1)])
    return model.graphs.serves


def self_test(model: Llama, num_tokens: int = 20) -> float:
    """Greatest difference between logits of cached decode and of one full pass, relative.

    Infinite if any number is not finite. The ids are fixed and spread over the vocabulary.
    """
    num_tokens = min(num_tokens, model.cache_shape.context_length - 1)
    ids = _spread_ids(model.config, num_tokens)
    whole, parts = Slot(model.cache_shape), Slot(model.cache_shape)
    model.make_room(whole, num_tokens)
    own_step, model.step = model.step, None  # it is compared with the pass of torch
    full = model.forward(ids, [(whole, num_tokens)], every=True)
    model.step = own_step
    whole.release()  # of a small model two such slots are a tenth of its weights
    model.make_room(parts, num_tokens)
    half = max(1, num_tokens // 2)
    rows = [model.forward(ids[:half], [(parts, half)])]
    for token in ids[half:]:
        rows.append(model.forward([token], [(parts, 1)]))
    decoded, expected = torch.cat(rows), full[half - 1 :]
    return difference(decoded, expected)


def first_layer_error(model: Llama, checkpoint: Checkpoint, num_tokens: int = 16) -> float:
    """How far the first layer is from the same layer on the CPU in float32, relative.

    Both read the model's own embeddings. Infinite if any number is not finite.
    """
    ids = torch.tensor(_spread_ids(model.config, num_tokens), device=model.device)
    x = model.embedding.rows(ids)
    ours = model.first_layer(x).float().cpu() - x.float().cpu()
    exact = first_layer_of(checkpoint).first_layer(x.float().cpu()) - x.float().cpu()
    if not torch.isfinite(ours).all():
        return float("inf")
    return float((ours - exact).abs().mean() / exact.std().clamp_min(1e-12))


def _spread_ids(config: LlamaConfig, num_tokens: int) -> list[int]:
    return [(7919 * (position + 1)) % config.vocab_size for position in range(num_tokens)]
