"""A store in a fresh folder for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.store import Store
from tests.storage import make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def _nothing_left_open() -> Iterator[None]:
    yield
    make.close_all()


@pytest.fixture
def store(folder: Path) -> Store:
    return make.open_store(folder)
