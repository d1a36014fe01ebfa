"""What is tried when a device or a precision computes garbage, and what is said about it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from engine import loading, matrices, quantize
from engine.checkpoint import open_checkpoint
from engine.config import parse_config
from engine.errors import CheckpointMissing, DeviceOutOfMemory
from engine.llama import Llama
from engine.loading import choose_precision, first_layer_error, load_model
from engine.shapes import shape
from engine.weights import load_llama
from tests.engine.checkpoints import BASE, make_checkpoint

CPU, MPS = torch.device("cpu"), torch.device("mps")


def test_what_auto_means() -> None:
    small, large = parse_config(BASE), shape("smollm2-135m")
    assert choose_precision(small, CPU) == "fp32"
    assert choose_precision(large, CPU) == "int8"
    assert choose_precision(large, torch.device("cuda")) == "bf16"
    assert choose_precision(large, MPS) == "fp16"


def test_stored_int8_stays_int8(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(make_checkpoint(tmp_path, int8=True))
    model, note = load_model(checkpoint, CPU)
    assert model.precision == "int8" and note == ""


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8", "int4"])
def test_the_first_layer_is_that_of_the_reference(
    precision: quantize.Precision, tmp_path: Path
) -> None:
    checkpoint = open_checkpoint(make_checkpoint(tmp_path, hidden_size=64, head_dim=16))
    model = load_llama(checkpoint, precision, CPU)
    limit = {"fp32": 1e-4, "bf16": 0.05, "int8": 0.1, "int4": loading._LAYER_TOLERANCE}
    assert first_layer_error(model, checkpoint) < limit[precision]


def test_a_layer_that_computes_garbage_is_far_from_the_reference(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(make_checkpoint(tmp_path))
    model = load_llama(checkpoint, "fp32", CPU)
    down = model.blocks[0].feed_forward.down
    assert isinstance(down.matrix, matrices.Dense)
    down.matrix.weight = down.matrix.weight.flip(0)
    assert first_layer_error(model, checkpoint) > loading._LAYER_TOLERANCE
    down.matrix.weight = down.matrix.weight * float("nan")
    assert first_layer_error(model, checkpoint) == float("inf")


@pytest.mark.parametrize("fault", ["an operation is absent", "wrong logits", "a wrong layer"])
def test_a_gpu_that_fails_is_replaced_by_the_cpu(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU is played by the CPU; what the driver would do wrong is put in its place."""
    checkpoint = open_checkpoint(make_checkpoint(tmp_path))
    tried: list[tuple[str, str]] = []

    def load(
        checkpoint: Any, precision: quantize.Precision, device: torch.device, **rest: Any
    ) -> Llama:
        tried.append((device.type, precision))
        if device.type == "mps" and fault == "an operation is absent":
            raise NotImplementedError("aten::complex is not implemented for the MPS device")
        return load_llama(checkpoint, precision, CPU)

    def is_gpu() -> bool:
        return tried[-1][0] == "mps"

    real = loading.self_test
    monkeypatch.setattr(loading, "load_llama", load)
    if fault == "wrong logits":
        monkeypatch.setattr(loading, "self_test", lambda m: 9.0 if is_gpu() else real(m))
    if fault == "a wrong layer":
        monkeypatch.setattr(loading, "first_layer_error", lambda *_: 1.0 if is_gpu() else 0.0)
    model, note = load_model(checkpoint, MPS)
    assert tried == [("mps", "fp16"), ("mps", "fp32"), ("cpu", "fp32")]
    assert model.precision == "fp32"
    assert note.startswith("fp16 failed its self-test on Apple GPU; fp32 on CPU")


def test_a_gpu_without_kernels_for_four_bits_gets_eight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = open_checkpoint(make_checkpoint(tmp_path))

    def load(
        checkpoint: Any, precision: quantize.Precision, device: torch.device, **rest: Any
    ) -> Llama:
        if precision == "int4":
            raise RuntimeError("_weight_int4pack_mm needs compute capability 8.0")
        return load_llama(checkpoint, precision, CPU)

    monkeypatch.setattr(loading, "load_llama", load)
    monkeypatch.setattr(loading, "first_layer_error", lambda *_: 0.0)
    model, note = load_model(checkpoint, MPS, "int4")
    assert model.precision == "int8"
    assert note.startswith("int4 failed its self-test on Apple GPU; int8 on")


def test_faults_of_the_files_are_not_taken_for_faults_of_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = open_checkpoint(make_checkpoint(tmp_path))

    def missing(*_given: object, **_rest: object) -> Llama:
        raise CheckpointMissing("The weights lack a tensor.")

    monkeypatch.setattr(loading, "load_llama", missing)
    with pytest.raises(CheckpointMissing):
        load_model(checkpoint, CPU)


def test_no_memory_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = open_checkpoint(make_checkpoint(tmp_path))
    tried: list[str] = []

    def full(_checkpoint: object, precision: str, *_given: object, **_rest: object) -> Llama:
        tried.append(precision)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(loading, "load_llama", full)
    with pytest.raises(DeviceOutOfMemory, match="int8 or int4"):
        load_model(checkpoint, CPU, "bf16")
    assert tried == ["bf16"]
