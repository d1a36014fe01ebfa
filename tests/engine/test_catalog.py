"""Names lead to folders, mistakes to the nearest name, and the facts fit the architectures."""

from pathlib import Path
from typing import get_args

import pytest

from engine.catalog import BUILT_IN_FOLDER, KNOWN, Purpose, installed, known, resolve
from engine.errors import CheckpointMissing
from engine.stores import Stores, find


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    for name in ("My-Model", "meta-llama/Llama-3.2-1B-Instruct", "llama-2-7b-chat", "not-a-model"):
        (folder / name).mkdir(parents=True)
        if name != "not-a-model":
            (folder / name / "config.json").write_text("{}")
    return folder


def test_the_built_in_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("engine.catalog.BUILT_IN_FOLDER", tmp_path)
    assert resolve("built-in") == tmp_path
    monkeypatch.setattr("engine.catalog.BUILT_IN_FOLDER", tmp_path / "gone")
    with pytest.raises(CheckpointMissing, match="Get Corral's files again"):
        resolve("built-in")
    assert BUILT_IN_FOLDER.parts[-3:] == ("assets", "models", "corral-chat")


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("My-Model", "My-Model"),
        ("my-model", "My-Model"),
        ("meta-llama/Llama-3.2-1B-Instruct", "meta-llama/Llama-3.2-1B-Instruct"),
        ("llama-3.2-1b-instruct", "meta-llama/Llama-3.2-1B-Instruct"),
        ("meta-llama/Llama-2-7b-chat-hf", "llama-2-7b-chat"),
    ],
)
def test_names_under_the_models_folder(name: str, folder: str, models: Path) -> None:
    assert resolve(name, models=models) == (models / folder).resolve()


def test_a_folder_by_path(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(tmp_path)
    for name in (str(other), "other", "./other", " other "):
        assert resolve(name, models=models) == other.resolve()
        assert resolve(name) == other.resolve()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("llama-3.1-8b-instruct", r"launcher.py download llama-3.1-8b-instruct` \(16.1 GB\)"),
        ("meta-llama/Llama-3.1-8B-Instruct", "download llama-3.1-8b-instruct"),
        ("llama-3.1-8b-instuct", r"Did you mean llama-3.1-8b-instruct\?"),
        ("my-modl", r"Did you mean my-model\?"),
        ("builtin", r"Did you mean built-in\?"),
        ("zzzzzz", "Give a folder, or built-in"),
        ("", "no folder called ''"),
        ("/nowhere/at/all", "no folder called '/nowhere/at/all'"),
    ],
)
def test_what_is_not_there_is_said_with_the_next_step(
    name: str, sentence: str, models: Path
) -> None:
    with pytest.raises(CheckpointMissing, match=sentence):
        resolve(name, models=models)


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(CheckpointMissing, match="is a single file"):
        resolve(str(tmp_path / "model.safetensors"))


def test_installed_models(models: Path) -> None:
    names = [name for name, _ in installed(models)]
    assert names == ["llama-2-7b-chat", "meta-llama/llama-3.2-1b-instruct", "my-model"]
    assert installed(None) == installed(models / "absent") == []


def test_gguf_files_count_as_models(models: Path, tmp_path: Path) -> None:
    """By their first bytes, given by path or put into the models folder."""
    for name in ("Llama-Q4.gguf", "owner/repo/Other.gguf", "fake.gguf", "blob"):
        file = models / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"GGUF\3\0\0\0" if name != "fake.gguf" else b"PK")
    names = {name for name, _ in installed(models)}
    assert {"llama-q4", "owner/repo/other"} <= names
    assert not names & {"fake", "blob"}
    assert resolve("llama-q4", models=models) == (models / "Llama-Q4.gguf").resolve()
    assert resolve(str(models / "blob")) == (models / "blob").resolve()
    with pytest.raises(CheckpointMissing, match="Give a GGUF file, or the folder"):
        resolve(str(models / "fake.gguf"))


def test_what_other_programs_fetched_is_found_by_either_name(tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--meta-llama--Llama-3.2-1B-Instruct" / "snapshots" / "a"
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).write_bytes(b"{}")
    stores = Stores(hub=tmp_path / "hub")
    assert [found.path for found in find(stores)] == [snapshot]
    for name in ("llama-3.2-1b-instruct", "meta-llama/Llama-3.2-1B-Instruct"):
        assert resolve(name, stores=stores) == snapshot


def test_own_models_come_before_those_of_other_programs(models: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--meta-llama--Llama-2-7b-chat-hf" / "snapshots" / "a"
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).write_bytes(b"{}")
    found = resolve("llama-2-7b-chat", models=models, stores=Stores(hub=tmp_path / "hub"))
    assert found.is_relative_to(models.resolve())


# Parameters as the hub names them for each repository.
PUBLISHED = {
    "smollm2-360m-instruct": 361_821_120,
    "tinyllama-1.1b-chat": 1_100_048_384,
    "smollm2-1.7b-instruct": 1_711_376_384,
    "hermes-3-llama-3.2-3b": 3_212_749_824,
    "deepseek-r1-distill-llama-8b": 8_030_261_248,
    "llama-3.2-1b-instruct": 1_235_814_400,
    "llama-3.1-8b-instruct": 8_030_261_248,
    "llama-3.3-70b-instruct": 70_553_706_496,
    "llama-3.1-405b-instruct": 405_853_388_800,
    "llama-2-7b-chat": 6_738_415_616,
    "llama-2-13b-chat": 13_015_864_320,
    "llama-2-70b-chat": 68_976_648_192,
    "llama-guard-3-1b": 1_498_482_688,
    "llama-guard-3-8b": 8_030_261_248,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_known_models_have_the_published_parameters(name: str) -> None:
    model = known(name)
    assert model is not None
    assert model.num_parameters == PUBLISHED[name]
    assert model.weights_bytes == 2 * PUBLISHED[name]


def test_known_names_are_unique_and_found_by_either_name() -> None:
    assert len({m.name for m in KNOWN}) == len({m.repo for m in KNOWN}) == len(KNOWN)
    for model in KNOWN:
        assert known(model.name.upper()) == known(model.repo) == model
        assert model.gated is model.repo.startswith("meta-llama/")
        assert model.purpose in get_args(Purpose)
        assert model.context_length >= 2048
    assert known("nobody/nothing") is None
