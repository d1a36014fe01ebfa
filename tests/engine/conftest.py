"""A tiny random model with a chat format, for a file of tests, and a scheduler over it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.checkpoints import make_checkpoint
from tests.engine.scheduling import Bench


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("models") / "tiny-chat")


@pytest.fixture
def bench(folder: Path) -> Iterator[Bench]:
    made = Bench(folder)
    yield made
    made.scheduler.close()
