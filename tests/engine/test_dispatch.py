"""A model in several places computes what it computes in one, and accelerate moves what was said.

The CPU plays the device here: weights on the disk are brought to it by the hooks that would bring
them to a GPU. GPUs are simulated: tensors that know their device and never meet those of others.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.utils.offload import OffloadedWeightsLoader
from torch import Tensor

from engine import loading, placement
from engine.bandwidth import DISK, MEMORY
from engine.checkpoint import open_checkpoint
from engine.dispatch import Dispatch, Part
from engine.errors import DeviceOutOfMemory
from engine.fit import part_bytes
from engine.llama import Llama
from engine.placement import Offloading, Placement
from engine.plans import Plan
from engine.quantize import Precision
from engine.weights import load_llama
from tests.engine.answers import greedy_reply
from tests.engine.checkpoints import make_checkpoint
from tests.engine.passes import PROMPT, read, write
from tests.engine.simulated_gpus import SimulatedGpus, device_of
from tests.engine.tapes import TapeRecorder

CPU = torch.device("cpu")
SHAPE = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4}

Where = Callable[[str], str]
WAYS: dict[str, Where] = {
    "every second layer": lambda part: DISK if part in ("layers.1", "layers.3") else MEMORY,
    "from the second layer on": lambda part: MEMORY if part in ("embedding", "layers.0") else DISK,
    "everything": lambda _part: DISK,
}


def placed(folder: Path, precision: Precision, where: Where, main: str = MEMORY) -> Placement:
    sizes = part_bytes(open_checkpoint(folder).config, precision, torch.device(main))
    return Placement(main, {part: where(part) for part in sizes}, sizes)


def dispatched(folder: Path, precision: Precision, where: Where, weights: Path) -> Llama:
    dispatch = Dispatch(placed(folder, precision, where), weights)
    return load_llama(open_checkpoint(folder), precision, CPU, dispatch=dispatch)


def plain(folder: Path, precision: Precision) -> Llama:
    """The model in one place, multiplying as weights that are moved do: by torch alone."""
    model = load_llama(open_checkpoint(folder), precision, CPU)
    for matrix in model.matrices():
        matrix.stored, matrix.plan = None, Plan()
    return model


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return tmp_path / "weights"


@pytest.mark.parametrize(
    ("precision", "tied"),
    [("fp32", False), ("fp32", True), ("bf16", True), ("int8", False), ("int4", False)],
)
def test_layers_on_the_disk_compute_the_same(
    precision: Precision, tied: bool, tmp_path: Path, weights: Path
) -> None:
    folder = make_checkpoint(
        tmp_path / "m", **SHAPE, tie_word_embeddings=tied, attention_bias=True, mlp_bias=True
    )
    alone = plain(folder, precision)
    expected, _ = read(alone, PROMPT)
    for where in WAYS.values():
        model = dispatched(folder, precision, where, weights)
        for matrix in model.matrices():
            matrix.stored, matrix.plan = None, Plan()
        logits, _ = read(model, PROMPT)
        assert torch.equal(logits, expected)
        assert torch.equal(read(model, PROMPT, chunk=7)[0], read(alone, PROMPT, chunk=7)[0])
        assert write(model, PROMPT, 8) == write(alone, PROMPT, 8)
        model.unload()
    assert list(weights.iterdir()) == []


def test_beside_the_own_kernels_it_computes_nearly_the_same(tmp_path: Path, weights: Path) -> None:
    folder = make_checkpoint(tmp_path / "m", **SHAPE)
    expected, _ = read(load_llama(open_checkpoint(folder), "fp32", CPU), PROMPT)
    model = dispatched(folder, "fp32", WAYS["every second layer"], weights)
    torch.testing.assert_close(read(model, PROMPT)[0], expected, rtol=0, atol=2e-5)
    model.unload()


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Bytes that accelerate fetches from where weights were left, by part."""
    found: Counter[str] = Counter()
    real = OffloadedWeightsLoader.__getitem__

    def get(self: OffloadedWeightsLoader, key: str) -> Tensor:
        value: Tensor = real(self, key)
        found[key.rpartition(".")[0]] += value.nbytes
        return value

    monkeypatch.setattr(OffloadedWeightsLoader, "__getitem__", get)
    return found


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8", "int4"])
def test_a_pass_brings_the_bytes_that_were_said(
    precision: Precision, tmp_path: Path, weights: Path, fetched: Counter[str]
) -> None:
    folder = make_checkpoint(tmp_path / "m", **SHAPE)
    model = dispatched(folder, precision, WAYS["from the second layer on"], weights)
    said = placed(folder, precision, WAYS["from the second layer on"])
    for num in (1, len(PROMPT)):  # a token or a chunk: every part comes once
        fetched.clear()
        read(model, PROMPT[:num])
        assert set(fetched) == {part for part in said.places if said.is_brought(part)}
        # Scales of rows are held twice, as the kernels want them and in float32.
        assert sum(fetched.values()) == pytest.approx(said.brought_bytes(DISK), rel=0.08)
    model.unload()


def test_between_passes_nothing_of_a_brought_layer_is_held(tmp_path: Path, weights: Path) -> None:
    folder = make_checkpoint(tmp_path / "m", **SHAPE)
    model = dispatched(folder, "fp32", WAYS["every second layer"], weights)
    read(model, PROMPT)
    held = [
        sum(linear.matrix.weight.nbytes for linear in block.linears())  # type: ignore[attr-defined]
        for block in model.blocks
    ]
    assert held[1] == held[3] == 0 < held[0] == held[2]
    for number, part in enumerate(model.stages.layers):
        assert isinstance(part, Part)
        devices = {parameter.device.type for parameter in part.parameters()}
        assert devices == ({"meta"} if number % 2 else {"cpu"})
    model.unload()


def test_a_pass_that_fails_may_be_tried_again(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_checkpoint(tmp_path / "m", **SHAPE)
    model = dispatched(folder, "fp32", WAYS["everything"], weights)
    expected, _ = read(model, PROMPT)
    real = OffloadedWeightsLoader.__getitem__

    def fail(self: OffloadedWeightsLoader, key: str) -> Tensor:
        if key.startswith("layers.2"):
            raise torch.OutOfMemoryError("CUDA out of memory")
        value: Tensor = real(self, key)
        return value

    with monkeypatch.context() as patch, pytest.raises(torch.OutOfMemoryError):
        patch.setattr(OffloadedWeightsLoader, "__getitem__", fail)
        read(model, PROMPT)
    assert torch.equal(read(model, PROMPT)[0], expected)
    model.unload()


def test_what_a_process_that_was_killed_left_is_removed(tmp_path: Path, weights: Path) -> None:
    folder = make_checkpoint(tmp_path / "m", **SHAPE)
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    (weights / f"layers-{ended.pid}-abc").mkdir(parents=True)
    (weights / f"layers-{os.getpid()}-abc").mkdir()
    model = dispatched(folder, "fp32", WAYS["everything"], weights)
    names = {path.name.rpartition("-")[0] for path in weights.iterdir()}
    assert names == {f"layers-{os.getpid()}"} and len(list(weights.iterdir())) == 2
    model.unload()
    assert [path.name for path in weights.iterdir()] == [f"layers-{os.getpid()}-abc"]


GPUS: dict[str, Where] = {
    "two GPUs": lambda part: "cuda:0" if part in ("embedding", "layers.0") else "cuda:1",
    "one and main memory": lambda part: MEMORY if part in ("layers.2", "layers.3") else "cuda:0",
    "two and main memory": lambda part: {
        "layers.1": "cuda:1",
        "layers.2": MEMORY,
        "layers.3": "cuda:1",
        "head": MEMORY,
    }.get(part, "cuda:0"),
}


@pytest.mark.parametrize("way", GPUS)
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_over_gpus_it_computes_the_same_and_tensors_meet_on_their_own(
    way: str, precision: Precision, tmp_path: Path, weights: Path
) -> None:
    folder, main = make_checkpoint(tmp_path / "m", **SHAPE), torch.device("cuda:0")
    where = placed(folder, precision, GPUS[way], main="cuda:0")
    with SimulatedGpus() as gpus:
        whole = load_llama(open_checkpoint(folder), precision, main)
        dispatch = Dispatch(where, weights)
        model = load_llama(open_checkpoint(folder), precision, main, dispatch=dispatch)
        gpus.moved.clear()
        logits, slot = read(model, PROMPT)
        assert [str(layer.device) for layer in slot.layers] == [
            str(where.device(f"layers.{number}")) for number in range(4)
        ]
        brought = where.brought_bytes(MEMORY)
        assert gpus.moved["cpu", "cuda:0"] == pytest.approx(brought, rel=0.08, abs=200)
        expected, _ = read(whole, PROMPT)
        assert device_of(logits) == device_of(expected) == main
        assert torch.equal(logits, expected)
        rows = [read(each, PROMPT[:9])[1] for each in (model, whole) for _ in range(2)]
        spans = [[(rows[0], 2), (rows[1], 1)], [(rows[2], 2), (rows[3], 1)]]
        assert torch.equal(model.forward([5, 6, 7], spans[0]), whole.forward([5, 6, 7], spans[1]))
        model.unload()


def test_the_engine_answers_with_a_model_that_is_larger_than_it_may_take(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_checkpoint(tmp_path / "m", **SHAPE)
    monkeypatch.setattr(placement, "activation_bytes", lambda *_: 0)  # more than this tiny model
    sizes = part_bytes(open_checkpoint(folder).config, "fp32")
    kept = 256 * 4 * 2 * 2 * 16 * 4  # keys and values of the whole context
    most = sizes["embedding"] + 2 * sizes["layers.0"] + kept
    most += sizes["layers.0"]  # room for the one that is brought
    offloading = Offloading("disk", weights, most)
    with pytest.raises(DeviceOutOfMemory, match="--device-megabytes"):
        greedy_reply(folder, offloading=replace(offloading, mode="auto"))
    tape = TapeRecorder()
    with monkeypatch.context() as patch:
        patch.setattr(loading, "recorder_for", lambda _device: tape)
        found = greedy_reply(folder, offloading=offloading)
    assert tape.num_recorded == 0, "hooks cannot be recorded"
    assert found.ids == greedy_reply(folder).ids
    assert found.info.spread.startswith("Of 4 layers lie 2 in main memory, 2 on the disk. ")
    assert list(weights.iterdir()) == []  # it was closed
    assert greedy_reply(folder, offloading=Offloading("disk", weights)).info.spread == ""
