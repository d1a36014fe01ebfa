"""The chat model's training: texts, schedule, the whole run, export, and what is shipped."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from engine.local import LocalEngine
from engine.options import Options
from training.cards import careless, mistyped, read_cards
from training.chat import BUNDLED, SMOKE, Place, encode, export_step, make_tokenizer, train
from training.export import float_tensors, load_export, quantize_rows, shipped_tensors
from training.made import made_rows
from training.model import Llama
from training.optimizer import orthogonal
from training.packing import Encoder, load_texts
from training.sources import (
    TEXTS,
    Row,
    asks_any,
    battery_questions,
    held_out,
    speaks_of_itself,
    tells_any_name,
)
from training.tokenizer import SPECIAL
from training.train import Phase, Trainer, slow_weights

TINY = replace(
    SMOKE,
    phases=(
        replace(SMOKE.phases[0], tokens=6_000),
        replace(SMOKE.phases[1], tokens=4_000),
    ),
    num_made=200,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A whole training of a tiny model on the repository's own texts."""
    work = tmp_path_factory.mktemp("chat")
    place = Place(work / "no data", work, work / "export", smoke=True)
    make_tokenizer(place, TINY)
    encode(place, TINY)
    train(place, TINY)
    export_step(place, TINY)
    return place


# --- texts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(TEXTS.rglob("*.txt")), ids=lambda path: path.stem)
def test_cards_are_whole(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    cards = read_cards(path)
    assert len(cards) >= 10
    if path.parent.name != "words":
        assert text.count("\n? ") == sum(len(card.asks) for card in cards), "a card has no answer"
    else:
        assert text.count("\n+ ") == len(cards), "an entry has no answer"
    for card in cards:
        assert all(ask and answer for ask, answer in card.follow_ups)
        for answer in card.answers:
            assert answer.isascii() or "英语" in answer


def test_a_card_line_of_no_kind_is_refused_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "cards.txt"
    path.write_text("? Hi\n= Hello\nHow?\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 3"):
        read_cards(path)


def test_careless_wordings_keep_the_words() -> None:
    draw = random.Random(1)
    for _ in range(200):
        wording = careless("Where are my chats?", draw).lower()
        assert "where are my chats" in wording


def test_a_mistyped_question_differs_by_a_letter_or_two() -> None:
    draw = random.Random(1)
    for _ in range(200):
        wrong = mistyped("Where are my chats?", draw)
        assert abs(len(wrong) - len("Where are my chats?")) <= 1
        assert wrong[0] == "W" and wrong[-1] == "?"
    assert mistyped("你好吗", draw) == "你好吗" and mistyped("ok", draw) == "ok"


def test_questions_to_the_assistant_about_itself_are_recognized() -> None:
    def row(text: str) -> bool:
        turns = [{"role": "user", "content": text}, {"role": "assistant", "content": "x"}]
        return speaks_of_itself({"messages": turns})  # type: ignore[typeddict-item]

    assert row("Hey, who are you?") and row("Are you a robot?") and row("What's your name")
    assert not row("Who was Isaac Newton?") and not row("What is a robot?")


# --- optimizer and schedule -------------------------------------------------------------------


def test_orthogonal_pushes_singular_values_towards_one() -> None:
    torch.manual_seed(1)
    for rows, columns in ((32, 64), (64, 32)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(2, rows, columns)))
        assert values.min() > 0.3 and values.max() < 1.3


def test_the_rate_warms_up_stays_and_falls() -> None:
    phase = Phase("p", 1000, 1.0, 1.0, (0, 0, 1), warmup=0.1, decay=0.5)
    assert phase.rate(0) < 0.1 and phase.rate(300) == 1.0
    assert phase.rate(750) == pytest.approx(0.5)
    assert phase.rate(1000) == pytest.approx(0.0)


# --- the whole run ----------------------------------------------------------------------------


def _first_losses(place: Place) -> Iterator[float]:
    for line in (place.work / "log.jsonl").read_text().splitlines():
        yield json.loads(line)["loss"]


@pytest.mark.slow
def test_training_lowers_the_loss(run: Place) -> None:
    losses = list(_first_losses(run))
    assert losses[-1] < np.log(TINY.shape.vocab_size)  # better than guessing among all tokens


@pytest.mark.slow
def test_held_out_rows_are_never_trained_on(run: Place) -> None:
    tokenizer = Tokenizer.from_file(str(run.tokenizer / "tokenizer.json"))
    encoder = Encoder(tokenizer, TINY.shape.max_position_embeddings)
    out = [row for row in made_rows("sums", TINY.num_made, TINY.seed) if held_out(row)]
    kept = {text.ids.tobytes() for text in load_texts(run.work / "texts" / "sums.npz")}
    assert out and len(kept) > 100
    assert not kept & {text.ids.tobytes() for text in encoder.encode(out)}


@pytest.mark.slow
def test_what_the_battery_asks_is_never_trained_on(run: Place) -> None:
    tokenizer = Tokenizer.from_file(str(run.tokenizer / "tokenizer.json"))
    questions = battery_questions()
    asked = re.compile(r"user<\|end_header_id\|>\n\n(.*?)<\|eot_id\|>", re.DOTALL)
    count = 0
    for path in (run.work / "texts").glob("*.npz"):
        for text in load_texts(path):
            whole = tokenizer.decode(text.ids.tolist(), skip_special_tokens=False)
            turns = [{"role": "user", "content": text} for text in asked.findall(whole)]
            assert not asks_any({"messages": turns}, questions), whole  # type: ignore[typeddict-item]
            assert not tells_any_name({"messages": turns}), whole  # type: ignore[typeddict-item]
            count += len(turns)
    assert count > 3000


def test_a_battery_question_is_known_however_it_is_typed() -> None:
    questions = battery_questions()
    turn = {"role": "user", "content": "what is the plural of  MOUSE"}
    assert asks_any({"messages": [turn]}, questions)  # type: ignore[list-item]
    turn = {"role": "user", "content": "What is the plural of goose?"}
    assert not asks_any({"messages": [turn]}, questions)  # type: ignore[list-item]


def test_a_battery_talk_is_known_in_the_midst_of_another() -> None:
    questions = battery_questions()

    def talk(*asked: str) -> Row:
        return {"messages": [{"role": "user", "content": text} for text in asked]}

    assert asks_any(talk("Hi", "I have a cat", "she is called LULU."), questions)
    assert not asks_any(talk("She is called Lulu.", "I have a cat."), questions)
    assert tells_any_name(talk("My brother is Pekka.")) and not tells_any_name(talk("I am Pekk."))


@pytest.mark.slow
def test_a_finished_phase_is_not_trained_again(run: Place) -> None:
    before = (run.work / "log.jsonl").read_text()
    train(run, TINY)
    assert (run.work / "log.jsonl").read_text() == before


@pytest.mark.slow
def test_training_resumes_where_it_stopped(run: Place, tmp_path: Path) -> None:
    phase = TINY.phases[0]
    trainers = []
    for _ in range(2):
        model = Llama(TINY.shape)
        model.start(1)
        trainers.append(Trainer(model, phase, TINY.pace, run.work))
    assert all(trainer.resume() for trainer in trainers)
    assert trainers[0].tokens >= phase.tokens and trainers[0].steps > 0
    for (name, one), two in zip(
        trainers[0].model.state_dict().items(), trainers[1].model.state_dict().values(), strict=True
    ):
        assert torch.equal(one, two), name


@pytest.mark.slow
def test_the_export_gives_the_same_logits_in_training_and_in_the_engine(run: Place) -> None:
    model = Llama(TINY.shape)
    model.load_state_dict(slow_weights(run.work / "assistant.pt"))
    ids = torch.arange(5, 45)[None]
    with torch.no_grad():
        exact, shipped = model.eval()(ids), load_export(run.out)(ids)
    spread = exact.std()
    assert (exact - shipped).abs().max() < 0.15 * spread

    engine = LocalEngine(run.out, Options(device="cpu", precision="fp32", threads=1))
    try:
        scores = engine.score(ids[0].tolist())
        info = engine.info()
    finally:
        engine.close()
    ours = shipped.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None]).squeeze(1)
    torch.testing.assert_close(torch.tensor(scores.logprobs[1:]), ours, rtol=1e-3, atol=1e-3)
    assert info.num_parameters == sum(weight.numel() for weight in model.parameters())


@pytest.mark.slow
def test_training_goes_on_from_shipped_weights(run: Place, tmp_path: Path) -> None:
    again = replace(run, work=tmp_path / "work", out=tmp_path / "out", start=run.out)
    shutil.copytree(run.work / "texts", again.work / "texts")
    phases = (replace(TINY.phases[0], tokens=0), replace(TINY.phases[1], tokens=2_000))
    recipe = replace(TINY, phases=phases, seed=TINY.seed + 1)
    make_tokenizer(again, recipe)
    train(again, recipe)
    export_step(again, recipe)
    assert not (again.work / f"{phases[0].name}.pt").exists()
    before, after = load_export(run.out), load_export(again.out)
    changes = [
        float(((one - two).norm() / one.norm()).detach())
        for one, two in zip(before.parameters(), after.parameters(), strict=True)
    ]
    assert 0 < max(changes) < 0.5  # trained on, not begun anew
    assert (again.out / "tokenizer.json").read_bytes() == (run.out / "tokenizer.json").read_bytes()

    between = replace(again, out=tmp_path / "between", keep=0.5)
    export_step(between, recipe)
    for one, half, two in zip(
        before.parameters(), load_export(between.out).parameters(), after.parameters(), strict=True
    ):
        assert (half - (one + two) / 2).abs().max() < 0.02 * one.abs().max()  # but for rounding


def test_int8_rows_keep_each_weight_within_half_a_step() -> None:
    torch.manual_seed(1)
    weight = torch.randn(16, 32)
    whole, scale = quantize_rows(weight)
    assert whole.dtype == torch.int8 and scale.shape == (16, 1)
    assert ((whole * scale - weight).abs() <= scale * 0.75).all()
    tensors = shipped_tensors({"a.weight": weight, "norm.weight": torch.ones(32)})
    assert tensors["a.weight_scale"].dtype == torch.bfloat16
    assert torch.equal(float_tensors(tensors)["a.weight"], whole * scale)


# --- what is shipped --------------------------------------------------------------------------


def test_the_bundled_model_is_small_and_whole() -> None:
    size = sum(path.stat().st_size for path in BUNDLED.iterdir())
    assert size <= 18e6
    config = json.loads((BUNDLED / "config.json").read_text(encoding="utf-8"))
    assert config["quantization_config"]["quant_method"] == "compressed-tensors"
    model = load_export(BUNDLED)
    assert model.shape.max_position_embeddings >= 1024
    tokenizer = Tokenizer.from_file(str(BUNDLED / "tokenizer.json"))
    assert tokenizer.get_vocab_size() <= model.shape.vocab_size
    assert all(tokenizer.token_to_id(text) is not None for text in SPECIAL)


def test_the_card_gives_licence_credits_scores_and_limits() -> None:
    card = (BUNDLED / "README.md").read_text(encoding="utf-8")
    for name in ("CC BY-SA 4.0", "Wordset", "TinyStories", "Dolly", "held-out", "Limits"):
        assert name in card
