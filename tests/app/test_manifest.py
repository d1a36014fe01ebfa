"""A model's files are told apart from what they were at the last load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.manifest import changed_files
from storage.store import Store
from tests.storage import make


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = make.open_store(tmp_path / "data")
    yield found
    found.close()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "README.md"):
        (folder / name).write_text(name * 1000)
    return folder


def test_the_same_files_say_nothing(store: Store, model: Path) -> None:
    assert [changed_files(store, model) for _ in range(3)] == [[], [], []]
    (model / "README.md").write_text("other")
    assert changed_files(store, model) == []


def test_one_bit_is_told_once_and_is_in_the_audit(store: Store, model: Path) -> None:
    changed_files(store, model)
    weights = model / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[5000] ^= 1
    weights.write_bytes(content)
    assert changed_files(store, model) == ["model.safetensors"]
    assert changed_files(store, model) == []
    assert store.audit()[0].action == "model_changed"


def test_new_and_missing_files_are_told(store: Store, model: Path) -> None:
    changed_files(store, model)
    (model / "config.json").rename(model / "extra.json")
    assert changed_files(store, model) == ["config.json", "extra.json"]


def test_a_single_file_has_a_manifest_too(store: Store, model: Path) -> None:
    file = model / "model.safetensors"
    assert changed_files(store, file) == []
    file.write_text("other")
    assert changed_files(store, file) == ["model.safetensors"]
