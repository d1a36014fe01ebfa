"""What quantizing costs is measured once per model, and decides what is taken unasked."""

import json
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from engine import loading, quality
from engine.checkpoint import Checkpoint, open_checkpoint
from engine.fit import checking_bytes
from engine.kv_cache import Slot
from engine.llama import Llama
from engine.loading import load_model
from engine.opening import open_model
from engine.options import Options
from engine.quality import Quality, QualityCheck, known_quality
from engine.weights import load_llama, read_by_layers
from tests.engine.checkpoints import make_checkpoint, save_weights

CPU = torch.device("cpu")
FINGERPRINT = "f" * 32


class Bytes:
    """A token for each byte, behind a beginning."""

    bos_id = 256

    def encode(self, text: str) -> list[int]:
        """Its UTF-8."""
        return list(text.encode())


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return open_checkpoint(make_checkpoint(tmp_path / "model", hidden_size=64, head_dim=16))


@pytest.fixture
def check(tmp_path: Path) -> QualityCheck:
    return QualityCheck(FINGERPRINT, Bytes(), tmp_path / "measured")


@pytest.mark.parametrize("tied", [True, False])
def test_reading_layer_by_layer_gives_the_logits_of_the_whole_model(
    tied: bool, tmp_path: Path
) -> None:
    checkpoint = open_checkpoint(make_checkpoint(tmp_path, tie_word_embeddings=tied))
    ids = [256, *range(40)]
    model = load_llama(checkpoint, "fp32", CPU)
    slot = Slot(model.cache_shape)
    model.make_room(slot, len(ids))
    expected = model.forward(ids, [(slot, len(ids))], every=True)
    done: list[int] = []
    x, head = read_by_layers(checkpoint, ids, "fp32", CPU, done.append)
    assert torch.allclose(head(x), expected, atol=1e-5)
    assert done == list(range(checkpoint.config.num_hidden_layers))


def test_a_model_that_passes_is_measured_once(
    checkpoint: Checkpoint,
    check: QualityCheck,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(quality.LIMITS, "int8", 0.2)  # type: ignore[index]  # random weights
    model, note = load_model(checkpoint, CPU, "int8", check=check)
    found = known_quality(FINGERPRINT, tmp_path / "measured")["int8"]
    assert model.quality == found and note == ""
    assert found.bits != found.exact_bits and abs(found.lost) < 0.2
    monkeypatch.setattr(quality, "read_by_layers", lambda *_given: pytest.fail("measured again"))
    assert load_model(checkpoint, CPU, "int8", check=check)[0].quality == found


def test_it_is_measured_as_replies_are_written(
    checkpoint: Checkpoint, check: QualityCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By passes of few tokens: the kernels that write are other ones than those that read."""
    widths: list[int] = []
    forward = Llama.forward

    def noted(self: Llama, ids: Sequence[int], *given: Any, **options: Any) -> torch.Tensor:
        widths.append(len(ids))
        return forward(self, ids, *given, **options)

    model = load_llama(checkpoint, "int8", CPU)
    monkeypatch.setattr(Llama, "forward", noted)
    assert check.of(model, checkpoint) is not None
    assert max(widths) == 8 and sum(widths) == model.cache_shape.context_length - 1


def test_what_takes_too_long_is_given_up_in_time(
    checkpoint: Checkpoint,
    check: QualityCheck,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A slow disk: after one layer of three it is seen, and nothing is kept as measured."""
    clock = iter(range(0, 1000, 7))
    monkeypatch.setattr(quality, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    caplog.set_level("INFO")
    model = load_llama(checkpoint, "int8", CPU)
    assert check.of(model, checkpoint) is None
    assert "it would take 35 seconds" in caplog.text
    monkeypatch.undo()
    assert check.of(model, checkpoint) is not None


def test_it_never_holds_more_than_it_says(
    check: QualityCheck, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither table of embeddings stays while layers are read, and no layer beside another."""
    folder = make_checkpoint(tmp_path / "wide", vocab_size=4000, hidden_size=128, head_dim=32)
    stored = load_file(folder / "model.safetensors")
    save_weights(folder, {name: tensor.bfloat16() for name, tensor in stored.items()})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"torch_dtype": "bfloat16"}))
    checkpoint = open_checkpoint(folder)
    model = load_llama(checkpoint, "int8", CPU)
    alive: list[weakref.ref[torch.Tensor]] = []
    sums: list[int] = []
    read = Checkpoint.read

    def noted(self: Checkpoint, name: str) -> torch.Tensor:
        tensor = read(self, name)
        alive.append(weakref.ref(tensor))
        sums.append(sum(each.nbytes for ref in alive if (each := ref()) is not None))
        return tensor

    monkeypatch.setattr(Checkpoint, "read", noted)
    assert check.of(model, checkpoint) is not None
    assert 2 * 4000 * 128 <= max(sums) <= checking_bytes(checkpoint.config) + 2048  # and norms


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No precision is good enough, and no model too small to be quantized."""
    monkeypatch.setattr(quality, "LIMITS", dict.fromkeys(quality.LIMITS, -1.0))
    monkeypatch.setattr(loading, "_INT8_PARAMETERS", 0)


@pytest.mark.usefixtures("failing")
def test_int8_that_loses_too_much_is_not_taken_unasked(
    checkpoint: Checkpoint, check: QualityCheck
) -> None:
    model, note = load_model(checkpoint, CPU, check=check)
    assert model.precision == "bf16"
    assert note.startswith("int8 takes ") and note.endswith("; bf16 on CPU is used.")


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_what_was_asked_for_stays_with_a_warning(
    precision: str, checkpoint: Checkpoint, check: QualityCheck
) -> None:
    model, note = load_model(checkpoint, CPU, precision, check=check)
    assert model.precision == precision
    assert note.startswith(f"{precision} takes ") and "may be worse" in note


def test_what_cannot_be_compared_is_not(
    checkpoint: Checkpoint, check: QualityCheck, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Floats lose nothing, stored integers have nothing to be compared with, and room is needed."""
    assert load_model(checkpoint, CPU, "bf16", check=check)[0].quality is None
    stored = open_checkpoint(make_checkpoint(tmp_path / "stored", int8=True))
    assert load_model(stored, CPU, check=check)[0].quality is None
    nowhere = QualityCheck(FINGERPRINT, Bytes())
    assert load_model(checkpoint, CPU, "int8", check=nowhere)[0].quality is None
    monkeypatch.setattr(quality, "free_bytes", lambda _device: 0)
    assert load_model(checkpoint, CPU, "int8", check=check)[0].quality is None


@pytest.mark.parametrize(
    "text", ["", "[]", '{"int8": 1}', '{"int8": [1, 0]}', '{"int8": ["a", 2]}']
)
def test_a_damaged_file_counts_as_none(text: str, tmp_path: Path) -> None:
    (tmp_path / f"{FINGERPRINT}.json").write_text(text)
    assert known_quality(FINGERPRINT, tmp_path) == {}


def test_what_is_no_number_does_not_pass() -> None:
    assert not Quality("int8", float("nan"), 2.0).passes
    assert Quality("int8", 2.01, 2.0).passes and not Quality("int8", 2.03, 2.0).passes
    assert Quality("int4", 2.05, 2.0).passes


def test_an_opened_model_brings_its_check(tmp_path: Path) -> None:
    opened = open_model(make_checkpoint(tmp_path / "m"), Options(measured=tmp_path / "kept"))
    opened.load(CPU, "int4")
    assert list(known_quality(opened.fingerprint, tmp_path / "kept")) == ["int4"]
