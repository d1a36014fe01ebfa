"""Recorded steps on a real GPU write what passes write there. Skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.checkpoint import open_checkpoint
from engine.graphs import PATIENCE, difference
from engine.kv_cache import Kept, Slot
from engine.llama import Llama
from engine.loading import attach_graphs
from engine.quantize import Precision
from engine.recording import CudaRecorder, recorder_for
from engine.weights import load_llama
from tests.engine.checkpoints import WIDE, make_checkpoint
from tests.engine.passes import PROMPT, write

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

WAYS: list[tuple[Precision, Kept]] = [("fp32", "auto"), ("bf16", "auto"), ("int8", "int8")]


def loaded(folder: Path, precision: Precision, kept: Kept = "auto") -> Llama:
    return load_llama(open_checkpoint(folder), precision, torch.device("cuda"), kept=kept)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "wide"
    return make_checkpoint(folder, max_position_embeddings=1024, **WIDE)


@pytest.mark.parametrize(("precision", "kept"), WAYS)
def test_replays_write_what_passes_write(precision: Precision, kept: Kept, folder: Path) -> None:
    """The logits of a forced text, past the borders of windows and slots, two rows at a time."""
    plain, model = loaded(folder, precision, kept), loaded(folder, precision, kept)
    attach_graphs(model, recorder_for(model.device))
    logits = []
    for each in (plain, model):
        slots = [Slot(each.cache_shape) for _ in range(2)]
        parts = []
        for at in range(300):
            for slot in slots:
                each.make_room(slot, at + 1)
            parts.append(each.forward([at % 256, (7 * at) % 256], [(slot, 1) for slot in slots]))
        logits.append(torch.cat(parts))
    assert "other numbers" not in model.kernels and model.graphs is not None
    assert difference(logits[1], logits[0]) < {"fp32": 1e-4, "bf16": 0.1, "int8": 0.1}[precision]


def test_greedy_tokens_in_float32(folder: Path) -> None:
    model = loaded(folder, "fp32")
    attach_graphs(model, recorder_for(model.device))
    assert write(model, PROMPT, 60) == write(loaded(folder, "fp32"), PROMPT, 60)


def test_a_failed_recording_leaves_the_device_as_it_was() -> None:
    device = torch.device("cuda")
    numbers, recorder = torch.zeros(8, device=device), CudaRecorder(device)
    stream = torch.cuda.current_stream(device)

    def reads_back() -> torch.Tensor:
        return numbers + numbers.sum().item()

    with pytest.raises(RuntimeError):
        recorder.record(reads_back)
    assert torch.cuda.current_stream(device) == stream
    assert int((numbers + 1).sum()) == 8


def test_recordings_share_their_memory(folder: Path) -> None:
    model = loaded(folder, "bf16")
    attach_graphs(model, recorder_for(model.device))
    slots = [Slot(model.cache_shape) for _ in range(8)]
    for slot in slots:
        model.make_room(slot, 40)
        for token in range(2 * PATIENCE):
            model.forward([token], [(slot, 1)])
    assert model.graphs is not None
    assert model.graphs.num_kept >= 8 or not model.graphs.serves
