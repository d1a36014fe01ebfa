"""What quantizing costs is measured once per model, and decides what is taken unasked."""

from pathlib import Path

import pytest
import torch

from engine import loading, quality
from engine.checkpoint import Checkpoint, open_checkpoint
from engine.kv_cache import Slot
from engine.loading import load_model
from engine.opening import open_model
from engine.quality import Quality, QualityCheck, known_quality
from engine.weights import load_llama, read_by_layers
from tests.engine.checkpoints import make_checkpoint

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
    assert torch.allclose(read_by_layers(checkpoint, ids, "fp32", CPU), expected, atol=1e-5)


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
    opened = open_model(make_checkpoint(tmp_path / "m"), measured=tmp_path / "kept")
    opened.load(CPU, "int4", lambda _part: None)
    assert list(known_quality(opened.fingerprint, tmp_path / "kept")) == ["int4"]
