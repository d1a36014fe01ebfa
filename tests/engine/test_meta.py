"""Meta's own downloads: joined, asked for, and the same model as the folder they were made of."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from engine.checkpoint import open_checkpoint
from engine.config import Rope
from engine.errors import CheckpointBroken, CheckpointMissing, CheckpointUnsafe
from engine.opening import open_model
from engine.options import Options
from tests.engine import tiny_tokenizers as tiny
from tests.engine.answers import greedy_reply
from tests.engine.checkpoints import make_checkpoint
from tests.engine.meta_files import write_meta


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("meta") / "tiny-instruct", num_key_value_heads=4)


@pytest.mark.parametrize(("num_shards", "embedding_dim"), [(1, 1), (4, 1), (4, 0), (2, 0)])
def test_the_answer_is_that_of_the_folder(
    num_shards: int, embedding_dim: int, folder: Path, tmp_path: Path
) -> None:
    meta = write_meta(folder, tmp_path / "m-instruct", num_shards, embedding_dim=embedding_dim)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, meta / name)
    (meta / "tokenizer.model").touch()  # what marks the folder as the one with the tokenizer
    checkpoint = open_checkpoint(meta, allow_pickle=True)
    expected = open_checkpoint(folder)
    for name in expected.tensors:
        ours, theirs = checkpoint.read(name), expected.read(name)
        if not name.endswith(("q_proj.weight", "k_proj.weight")):  # those lie in pairs
            assert torch.equal(ours, theirs), name
    assert greedy_reply(meta, allow_pickle=True).ids == greedy_reply(folder).ids


def test_nothing_is_opened_without_a_yes(folder: Path, tmp_path: Path) -> None:
    meta = write_meta(folder, tmp_path / "m")
    with pytest.raises(CheckpointUnsafe, match="--allow-pickle"):
        open_checkpoint(meta)


class Exploit:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.mkdir, (Path("pwned"),)


def test_a_pickle_that_builds_more_than_tensors_runs_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    meta = write_meta(folder, tmp_path / "m")
    torch.save({"tok_embeddings.weight": Exploit()}, meta / "consolidated.00.pth")
    with pytest.raises((CheckpointUnsafe, CheckpointBroken)):
        open_checkpoint(meta, allow_pickle=True)
    (meta / "consolidated.00.pth").write_bytes(pickle.dumps(Exploit()))
    with pytest.raises((CheckpointUnsafe, CheckpointBroken)):
        open_checkpoint(meta, allow_pickle=True)
    assert not (tmp_path / "pwned").exists()


def test_a_missing_slice_is_named(folder: Path, tmp_path: Path) -> None:
    meta = write_meta(folder, tmp_path / "m", 4)
    (meta / "consolidated.01.pth").unlink()
    with pytest.raises(CheckpointMissing, match="consolidated"):
        open_checkpoint(meta, allow_pickle=True)


def test_slices_of_two_models_are_refused(folder: Path, tmp_path: Path) -> None:
    meta = write_meta(folder, tmp_path / "m", 2)
    content = torch.load(meta / "consolidated.01.pth", weights_only=True)
    del content["norm.weight"]
    torch.save(content, meta / "consolidated.01.pth")
    with pytest.raises(CheckpointBroken, match="one model"):
        open_checkpoint(meta, allow_pickle=True)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_a_file_cut_off_is_broken(keep: float, folder: Path, tmp_path: Path) -> None:
    meta = write_meta(folder, tmp_path / "m")
    file = meta / "consolidated.00.pth"
    file.write_bytes(file.read_bytes()[: int(keep * file.stat().st_size)])
    with pytest.raises((CheckpointBroken, CheckpointUnsafe)):
        open_checkpoint(meta, allow_pickle=True)


@pytest.mark.parametrize(
    ("params", "context", "rope"),
    [
        ({"norm_eps": 1e-6, "rope_theta": None}, 2048, Rope(rope_theta=1e4)),
        ({"rope_theta": None}, 4096, Rope(rope_theta=1e4)),
        ({"rope_theta": 1e6}, 16384, Rope(rope_theta=1e6)),
        ({"rope_theta": 5e5}, 8192, Rope(rope_theta=5e5)),
        (
            {"rope_theta": 5e5, "use_scaled_rope": True},
            131072,
            Rope("llama3", 5e5, 32.0, 8192, 1.0, 4.0),
        ),
        (
            {"rope_theta": 5e5, "use_scaled_rope": True, "rope_scaling_factor": 8},
            131072,
            Rope("llama3", 5e5, 8.0, 8192, 1.0, 4.0),
        ),
    ],
)
def test_each_generation_is_known_by_its_parameters(
    params: dict[str, object], context: int, rope: Rope, folder: Path, tmp_path: Path
) -> None:
    meta = write_meta(folder, tmp_path / "m", **params)
    config = open_checkpoint(meta, allow_pickle=True).config
    assert config.context_length == context
    expected = (rope.rope_type, rope.rope_theta, rope.factor)
    assert (config.rope.rope_type, config.rope.rope_theta, config.rope.factor) == expected


def test_both_forms_of_tokenizer_model(folder: Path, tmp_path: Path) -> None:
    """SentencePiece as in Llama 2, beside the folder; tiktoken ranks as in Llama 3, inside it."""
    beside = write_meta(
        make_checkpoint(tmp_path / "a", vocab_size=1024), tmp_path / "llama" / "llama-2-7b-chat"
    )
    (tmp_path / "llama" / "tokenizer.model").write_bytes(tiny.sentencepiece_model())
    opened = open_model(beside, Options(allow_pickle=True))
    assert opened.format.name == "llama-2" and opened.tokenizer.drops_first_space
    inside = write_meta(
        make_checkpoint(tmp_path / "b", vocab_size=1024), tmp_path / "Llama3-Instruct"
    )
    (inside / "tokenizer.model").write_bytes(tiny.ranks())
    opened = open_model(inside, Options(allow_pickle=True))
    assert opened.format.name == "llama-3" and not opened.tokenizer.drops_first_space


def test_impossible_parameters_are_named(folder: Path, tmp_path: Path) -> None:
    meta = write_meta(folder, tmp_path / "m")
    params = json.loads((meta / "params.json").read_text())
    (meta / "params.json").write_text(json.dumps({**params, "n_layers": -1}))
    with pytest.raises(CheckpointBroken, match=r"params\.json"):
        open_checkpoint(meta, allow_pickle=True)
