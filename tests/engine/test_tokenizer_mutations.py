"""Mutated tokenizer files are refused with a sentence or loaded and safe; never anything else."""

import random
from pathlib import Path

import pytest

from engine.errors import CheckpointError
from engine.tokenizer import load_tokenizer
from tests.engine import tiny_tokenizers as tiny
from tests.engine.mutations import mutated_bytes, mutated_json


def check(seed: int, num: int, folder: Path) -> None:
    rng = random.Random(seed)
    json_files = [tiny.metaspace_file(tiny.sentencepiece_model()), tiny.byte_level_file()]
    models = [tiny.sentencepiece_model(), tiny.ranks()]
    num_loaded = 0
    for _ in range(num):
        for name in ("tokenizer.json", "tokenizer.model"):
            (folder / name).unlink(missing_ok=True)
        if rng.random() < 0.5:
            content = rng.choice(json_files).encode()
            change = mutated_json if rng.random() < 0.6 else mutated_bytes
            (folder / "tokenizer.json").write_bytes(change(rng, content))
        else:
            (folder / "tokenizer.model").write_bytes(mutated_bytes(rng, rng.choice(models)))
        try:
            tokenizer = load_tokenizer(folder)
        except CheckpointError as error:
            assert str(folder) in str(error)
            continue
        num_loaded += 1
        ids = tokenizer.encode("Hello <s> <|eot_id|> world é🙂")
        named = {tokenizer.special_text(id) for id in ids if id in tokenizer.special_ids}
        assert named <= {"<unk>"}
        assert isinstance(tokenizer.decode(ids), str)
        tokenizer.encode_marked("<s>x")
    assert num_loaded > num // 50


def test_a_sample_of_mutations(tmp_path: Path) -> None:
    check(1, 200, tmp_path)


@pytest.mark.full
def test_ten_thousand_mutations(tmp_path: Path) -> None:
    check(2, 10_000, tmp_path)
