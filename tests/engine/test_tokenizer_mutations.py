"""Mutated tokenizer files are refused with a sentence or loaded and safe; never anything else."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import CheckpointError
from engine.tokenizer import load_tokenizer
from tests.engine import tiny_tokenizers as tiny

PLAIN = [None, 0, -1, 1e9, 1 << 40, "", "x", "▁", [], {}, True, [1], {"type": "x"}, 12, 399]


def containers(value: Any) -> Iterator[Any]:
    """Every object and list in a parsed JSON file, the first fifty of each level."""
    if isinstance(value, dict | list) and value:
        yield value
        for inner in list(value.values() if isinstance(value, dict) else value)[:50]:
            yield from containers(inner)


def mutated_json(rng: random.Random, content: bytes) -> bytes:
    parsed = json.loads(content)
    places = list(containers(parsed))
    for _ in range(rng.choice([1, 1, 2, 4])):
        place = rng.choice(places)
        key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if isinstance(place, dict) and rng.random() < 0.3:
            place.pop(key)
            places = list(containers(parsed)) or [[0]]
        else:
            place[key] = rng.choice(PLAIN)
    return json.dumps(parsed).encode("utf-8", "replace")


def mutated_bytes(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        at = rng.randrange(len(changed))
        match rng.randrange(5):
            case 0:
                changed[at] = rng.randrange(256)
            case 1:
                del changed[at : at + rng.choice([1, 4, 50, 1000])]
            case 2:
                changed[at:at] = rng.randbytes(rng.choice([1, 3, 20]))
            case 3:
                other = rng.randrange(len(changed))
                changed[at : at + 30] = changed[other : other + 30]
            case _:
                del changed[at:]
        changed = changed or bytearray(b"x")
    return bytes(changed)


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
