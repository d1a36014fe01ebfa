"""From texts to training batches: nothing is cut, mixed up or counted twice."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from training.mixture import Mixture
from training.model import Llama, Shape
from training.packing import ASSISTANT, Encoder, Packer, Text, pack
from training.tokenizer import END_OF_TURN


def _conversation(tokenizer: Tokenizer, reply: str) -> Text:
    encoder = Encoder(tokenizer, 256)
    text = encoder.conversation(
        [{"role": "user", "content": "How are you?"}, {"role": "assistant", "content": reply}]
    )
    assert text is not None
    return text


def test_only_the_assistant_counts_and_texts_do_not_see_each_other(tokenizer: Tokenizer) -> None:
    first = _conversation(tokenizer, "I am fine.")
    second = _conversation(tokenizer, "Thank you!")
    length = len(first) + len(second) + 5
    batch = pack([[first, second]], length, (0.0, 0.0, 1.0))

    counted = batch.targets[0][batch.weights[0] > 0].tolist()
    end = tokenizer.token_to_id(END_OF_TURN)
    replies = [tokenizer.encode(reply).ids for reply in ("I am fine.", "Thank you!")]
    assert counted == [*replies[0], end, *replies[1], end]

    assert batch.positions[0, : len(first)].tolist() == list(range(len(first)))
    assert batch.positions[0, len(first)] == 0
    mask = batch.mask[0, 0]
    assert not mask[len(first) :, : len(first)].any()
    assert not mask.triu(1).any()
    assert mask[len(first) - 1, : len(first)].all()


def test_a_packed_row_gives_the_logits_of_its_texts_alone(tokenizer: Tokenizer) -> None:
    shape = Shape(400, 64, 128, 2, 2, 1, 256)
    model = Llama(shape)
    model.start(1)
    torch.manual_seed(2)
    for name, weight in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):  # zero at first
            torch.nn.init.normal_(weight, std=0.1)
    texts = [_conversation(tokenizer, "I am fine."), _conversation(tokenizer, "Thanks")]
    batch = pack([texts], 128, (0.0, 1.0, 1.0))
    with torch.no_grad():
        packed = model.words(model.hidden(batch.ids, batch.positions, batch.mask))[0]
        at = 0
        for text in texts:
            alone = model(torch.from_numpy(text.ids.astype(np.int64))[None])[0]
            torch.testing.assert_close(packed[at : at + len(text)], alone, rtol=1e-4, atol=1e-5)
            at += len(text)


def test_the_packer_keeps_every_text_whole() -> None:
    draw = np.random.default_rng(1)
    packer = Packer(batch_tokens=1024, context_length=512)
    rows: list[list[Text]] = []
    sizes = draw.integers(5, 500, 400).tolist()
    for number_, size in enumerate(sizes):
        ids = np.full(size, number_, np.uint16)
        if full := packer.push(Text(ids, np.zeros(size, np.uint8))):
            assert all(sum(map(len, row)) <= full[1] for row in full[0])
            rows += full[0]
    rows += [row for waiting in packer.open.values() for row in waiting]
    found = sorted(int(text.ids[0]) for row in rows for text in row)
    assert found == list(range(len(sizes)))


def test_a_long_conversation_is_cut_after_a_reply(tokenizer: Tokenizer) -> None:
    encoder = Encoder(tokenizer, 64)
    turns = [{"role": ("user", "assistant")[i % 2], "content": "How are you?"} for i in range(20)]
    text = encoder.conversation(turns)  # type: ignore[arg-type]
    assert text is not None and len(text) <= 64
    assert text.ids[-1] == tokenizer.token_to_id(END_OF_TURN) and text.parts[-1] == ASSISTANT
    long = [{"role": "user", "content": "x" * 999}, {"role": "assistant", "content": "y"}]
    assert encoder.conversation(long) is None  # type: ignore[arg-type]


def test_the_mixture_follows_its_shares() -> None:
    def texts(value: int, size: int) -> list[Text]:
        return [Text(np.full(size, value, np.uint16), np.zeros(size, np.uint8))] * 3

    sources = {"a": texts(1, 10), "b": texts(2, 40), "never": texts(3, 10)}
    mixture = Mixture(
        sources, {"a": 3, "b": 1, "never": 0}, frozenset(), [], plain=frozenset(),
        context_length=512, seed=1,
    )  # fmt: skip
    drawn = {1: 0, 2: 0, 3: 0}
    for _ in range(1000):
        text = mixture.next()
        drawn[int(text.ids[0])] += len(text)
    assert drawn[3] == 0
    assert drawn[1] / drawn[2] == pytest.approx(3, rel=0.05)


def test_system_lines_and_chains_are_conversations(tokenizer: Tokenizer) -> None:
    encoder = Encoder(tokenizer, 256)
    text = _conversation(tokenizer, "Fine.")
    line = np.array(encoder.turn({"role": "system", "content": "Be brief."})[0], np.uint16)
    mixture = Mixture(
        {"a": [text]}, {"a": 1}, frozenset({"a"}), [line], plain=frozenset(),
        context_length=256, seed=1,
    )  # fmt: skip
    begin, end = int(text.ids[0]), tokenizer.token_to_id(END_OF_TURN)
    longer = with_system = 0
    for _ in range(200):
        drawn = mixture.next()
        assert drawn.ids[0] == begin and begin not in drawn.ids[1:] and drawn.ids[-1] == end
        assert len(drawn) <= 256
        with_system += int(np.array_equal(drawn.ids[1 : 1 + len(line)], line))
        longer += len(drawn) > len(text) + len(line)
    assert 20 < with_system < 120 and longer > 10
