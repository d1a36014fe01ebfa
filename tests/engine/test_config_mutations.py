"""Mutated configs are refused with a sentence, or the model is loaded and computes with them."""

import random
from pathlib import Path

import pytest
import torch

from engine.checkpoint import open_checkpoint
from engine.errors import CheckpointError
from engine.kv_cache import Slot
from engine.weights import load_llama
from tests.engine.checkpoints import make_checkpoint
from tests.engine.mutations import mutated_bytes, mutated_json

SCALING = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip


def check(seed: int, num: int, folder: Path) -> None:
    rng = random.Random(seed)
    original = (folder / "config.json").read_bytes()
    num_loaded = 0
    for _ in range(num):
        change = mutated_json if rng.random() < 0.7 else mutated_bytes
        (folder / "config.json").write_bytes(change(rng, original))
        try:
            model = load_llama(open_checkpoint(folder), "fp32", torch.device("cpu"))
        except CheckpointError as error:
            assert str(error)
            continue
        num_loaded += 1
        slot = Slot(model.cache_shape)
        model.make_room(slot, 3)
        assert model.forward([1, 2, 3], [(slot, 3)]).shape[1] == model.config.vocab_size
    (folder / "config.json").write_bytes(original)
    assert num_loaded > num // 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "m", num_hidden_layers=1, rope_scaling=SCALING)


def test_a_sample_of_mutations(folder: Path) -> None:
    check(1, 200, folder)


@pytest.mark.full
def test_ten_thousand_mutations(folder: Path) -> None:
    check(2, 10_000, folder)
