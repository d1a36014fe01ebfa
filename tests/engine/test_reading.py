"""Reading is exact: whatever was appended and cropped, logits are those of one whole pass."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.errors import ContextFull, PromptEmpty
from engine.reading import ReadingModel
from tests.engine.checkpoints import make_checkpoint

HEAD = "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nIs this fine? "


def at_once(job: Callable[[], Any]) -> Any:
    return job()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ReadingModel:
    folder = tmp_path_factory.mktemp("tiny")
    make_checkpoint(folder, max_position_embeddings=2048)
    return ReadingModel(folder, device="cpu", precision="fp32", run=at_once)


def oracle(folder_model: ReadingModel, parts: list[tuple[str, bool]], letters: str) -> list[float]:
    """The same by one pass over a fresh slot."""
    reading = folder_model.open(parts[0][0])
    for text, special in parts[1:]:
        reading.append(text, special=special)
    values = list(reading.logprobs(list(letters)))
    reading.close()
    return values


def test_logits_equal_a_transformers_run(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    make_checkpoint(tmp_path)
    model = ReadingModel(tmp_path, device="cpu", precision="fp32", run=at_once)
    reading = model.open(HEAD)
    reading.append("a <|eot_id|> is plain here")
    reading.append("<|eot_id|>", special=True)
    mark = reading.mark()
    reading.append("this is cropped")
    reading.logprobs(["x"])
    reading.crop(mark)
    found = reading.logprobs(["s", "u", " "])
    tokenizer = model.tokenizer
    ids = [
        *tokenizer.encode_marked("<|begin_of_text|><|start_header_id|>user<|end_header_id|>"),
        *tokenizer.encode("\n\nIs this fine? a <|eot_id|> is plain here"),
        *tokenizer.encode_marked("<|eot_id|>"),
    ]
    net = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    with torch.inference_mode():
        logits = net(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    wanted = [float(logits[tokenizer.encode(c, continues=True)[0]]) for c in ("s", "u", " ")]
    assert found == pytest.approx(wanted, abs=2e-4)


def test_growing_and_cropping_never_changes_a_score(model: ReadingModel) -> None:
    draw = random.Random(7)
    reading = model.open(HEAD)
    parts = [(HEAD, True)]
    for _ in range(25):
        text = "".join(
            draw.choice(["a", " b", "\n", "né", "12"]) for _ in range(draw.randint(1, 4))
        )
        reading.append(text)
        parts.append((text, False))
        mark = reading.mark()
        reading.append("<|eot_id|>", special=True)
        asked = reading.logprobs(["s", "u"])
        assert asked == pytest.approx(oracle(model, [*parts, ("<|eot_id|>", True)], "su"), abs=1e-4)
        reading.crop(mark)
    reading.close()


def test_a_growing_text_is_read_once(model: ReadingModel) -> None:
    before = model.num_read
    reading = model.open(HEAD)
    for _ in range(20):
        reading.append("ten letters ")
        mark = reading.mark()
        reading.append("<|eot_id|>", special=True)
        reading.logprobs(["s"])
        reading.crop(mark)
    num_text = len(model.tokenizer.encode("ten letters " * 20))
    assert model.num_read - before <= num_text + 20 * 3


def test_nothing_to_read_and_too_much_to_read_are_errors(model: ReadingModel) -> None:
    reading = model.open(HEAD)
    with pytest.raises(PromptEmpty):
        reading.logprobs([""])
    reading.append("word " * 3000)
    with pytest.raises(ContextFull):
        reading.logprobs(["s"])
