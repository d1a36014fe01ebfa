"""What is suggested for machines of several sizes, and what a model is said to take."""

from __future__ import annotations

import pytest

from app.room import CONTEXT, Room
from engine.shapes import shape

GB = 10**9


@pytest.mark.parametrize(
    ("room", "names"),
    [
        (Room("cpu", 2_200_000_000, 2), ["smollm2-360m-instruct", "llama-3.2-1b-instruct"]),
        (Room("cpu", 8 * GB, 2), ["smollm2-1.7b-instruct", "llama-3.2-1b-instruct"]),
        (Room("cpu", 16 * GB, 16), ["hermes-3-llama-3.2-3b", "llama-3.2-3b-instruct"]),
        (Room("cpu", 900 * GB, 64), ["hermes-3-llama-3.2-3b", "llama-3.2-3b-instruct"]),
        (Room("cuda", 24 * GB), ["deepseek-r1-distill-llama-8b", "llama-3.1-8b-instruct"]),
        (Room("cuda", 192 * GB), ["deepseek-r1-distill-llama-8b", "llama-3.3-70b-instruct"]),
        (Room("cpu", 100_000_000, 4), []),
    ],
    ids=["2GB", "8GB", "16GB", "many-cores", "card", "large-card", "tiny"],
)
def test_one_open_and_one_gated_model_that_suit_the_machine(room: Room, names: list[str]) -> None:
    found = room.suggestions()
    assert [model.name for model in found] == names
    assert [model.gated for model in found] == [False, True][: len(names)]


def test_the_need_is_weights_and_a_context() -> None:
    config = shape("llama-3.1-8b")
    need = Room("cuda", 24 * GB).need(config)
    assert need.precision == "bf16"
    kept = 2 * config.num_parameters + CONTEXT * 128 * 1024
    assert kept < need.num_bytes < 1.02 * kept  # and what a pass takes beside
    assert need.fits
    assert not Room("cuda", 16 * GB).need(config).fits
    assert Room("cuda", 16 * GB).need(config, "int8").fits
    assert Room("cpu", 16 * GB).need(config).precision == "int8"
