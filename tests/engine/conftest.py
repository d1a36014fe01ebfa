"""A tiny random model with a chat format, for a file of tests."""

from pathlib import Path

import pytest

from tests.engine.checkpoints import make_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("models") / "tiny-chat")
