"""A model's own sampling is taken from its file, and only if it makes sense."""

from pathlib import Path
from typing import Any

import pytest

from engine.base import Sampling
from engine.errors import CheckpointBroken
from engine.usual import usual_sampling
from tests.engine.tiny_tokenizers import write_json

OFF = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ({"do_sample": True, "temperature": 0.6, "top_p": 0.9},
         Sampling(**{**OFF, "temperature": 0.6, "top_p": 0.9})),
        ({"do_sample": True, "top_k": 40.0, "repetition_penalty": 1.1},
         Sampling(**{**OFF, "top_k": 40, "repetition_penalty": 1.1})),
        ({"do_sample": True}, Sampling(**OFF)),
        ({"temperature": 0.6}, Sampling()),
        ({"do_sample": False, "temperature": 0.6}, Sampling()),
        ({"do_sample": True, "temperature": -1}, Sampling()),
        ({"do_sample": True, "temperature": "hot", "top_p": None, "top_k": True}, Sampling(**OFF)),
        ({"do_sample": True, "top_p": 7}, Sampling()),
        ({}, Sampling()),
    ],
)  # fmt: skip
def test_the_makers_values(file: dict[str, Any], expected: Sampling, tmp_path: Path) -> None:
    write_json(tmp_path / "generation_config.json", file)
    assert usual_sampling(tmp_path) == expected


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999"])
def test_numbers_that_are_none_are_ignored(value: str, tmp_path: Path) -> None:
    text = f'{{"do_sample": true, "top_k": {value}, "temperature": {value}}}'
    (tmp_path / "generation_config.json").write_text(text)
    assert usual_sampling(tmp_path) == Sampling()


def test_without_a_file_and_with_a_broken_one(tmp_path: Path) -> None:
    assert usual_sampling(tmp_path) == Sampling()
    (tmp_path / "generation_config.json").write_text("[")
    with pytest.raises(CheckpointBroken):
        usual_sampling(tmp_path)
