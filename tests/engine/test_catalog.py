"""Names lead to folders, mistakes to the nearest name, and the facts fit the architectures."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from engine.base import CheckpointMissing
from engine.catalog import (
    BUILT_IN_FOLDER,
    KNOWN,
    default_hub_cache,
    in_hub_cache,
    installed,
    known,
    resolve,
)
from engine.shapes import shape

ALSO = {
    "llama-3.3-70b-instruct": "llama-3.1-70b",
    "llama-guard-3-1b": "llama-3.2-1b",
    "llama-guard-3-8b": "llama-3.1-8b",
}


@pytest.fixture(autouse=True)
def _no_other_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No model that this machine's owner may have is found."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no-cache"))


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


@pytest.fixture
def hub_cache(tmp_path: Path) -> Path:
    """A cache as huggingface_hub lays it out: blobs, and snapshots of links to them."""
    cache = tmp_path / "hub"
    old, new, cut = "a" * 40, "b" * 40, "c" * 40
    repository = cache / "models--meta-llama--Llama-3.2-1B-Instruct"
    (repository / "blobs").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(old)
    for name in ("config", "weights"):
        (repository / "blobs" / name).write_bytes(b"{}")
    for commit, blob in ((old, "weights"), (new, "weights"), (cut, "not-there")):
        folder = repository / "snapshots" / commit
        folder.mkdir(parents=True)
        (folder / "config.json").symlink_to("../../blobs/config")
        (folder / "model.safetensors").symlink_to(f"../../blobs/{blob}")
    only_config = cache / "models--some--tokenizer" / "snapshots" / old
    only_config.mkdir(parents=True)
    (only_config / "config.json").write_text("{}")
    return cache


def test_what_other_programs_fetched_is_used_where_it_lies(hub_cache: Path, models: Path) -> None:
    snapshots = hub_cache / "models--meta-llama--Llama-3.2-1B-Instruct" / "snapshots"
    assert in_hub_cache(hub_cache) == [("meta-llama/llama-3.2-1b-instruct", snapshots / ("a" * 40))]
    for name in ("llama-3.2-1b-instruct", "meta-llama/Llama-3.2-1B-Instruct"):
        assert resolve(name, hub_cache=hub_cache) == snapshots / ("a" * 40)
        assert resolve(name, models=models, hub_cache=hub_cache).is_relative_to(models.resolve())
    (hub_cache / "models--meta-llama--Llama-3.2-1B-Instruct" / "refs" / "main").unlink()
    os.utime(snapshots / ("a" * 40), (1, 1))
    assert resolve("llama-3.2-1b-instruct", hub_cache=hub_cache) == snapshots / ("b" * 40)
    with pytest.raises(CheckpointMissing, match="no folder called 'some/tokenizer'"):
        resolve("some/tokenizer", hub_cache=hub_cache)


def test_the_cache_is_where_huggingface_hub_says() -> None:
    home = Path("/home")
    assert default_hub_cache({}, home) == Path("/home/.cache/huggingface/hub")
    assert default_hub_cache({"XDG_CACHE_HOME": "/x"}, home) == Path("/x/huggingface/hub")
    assert default_hub_cache({"HF_HOME": "/hf"}, home) == Path("/hf/hub")
    assert default_hub_cache({"HF_HOME": "/hf", "HF_HUB_CACHE": "/c"}, home) == Path("/c")


def test_known_models_have_the_parameters_of_their_shape() -> None:
    for model in KNOWN:
        plain = model.name.removesuffix("-instruct").removesuffix("-chat")
        config = shape(ALSO.get(model.name, plain))
        if model.name == "llama-guard-3-1b":  # keeps an output table of its own
            config = replace(config, tie_word_embeddings=False)
        assert model.num_parameters == config.num_parameters, model.name
        assert model.context_length == config.context_length, model.name


def test_known_names_are_unique_and_found_by_either_name() -> None:
    assert len({m.name for m in KNOWN}) == len({m.repo for m in KNOWN}) == len(KNOWN)
    for model in KNOWN:
        assert known(model.name.upper()) == known(model.repo) == model
        assert model.gated is model.repo.startswith("meta-llama/")
    assert known("nobody/nothing") is None
