"""The chat model's training: texts, tokenizer, packing, loop, export, and what is shipped."""

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
from training.battery import battery, begins_with_number, items, loops, number, says
from training.cards import careless, mistyped, read_cards
from training.chat import BUNDLED, SMOKE, Place, encode, export_step, make_tokenizer, train
from training.evaluate import renew, table, try_case
from training.export import float_tensors, load_export, quantize_rows, shipped_tensors
from training.made import made_rows
from training.mixture import Mixture
from training.model import Llama, Shape
from training.optimizer import orthogonal
from training.packing import ASSISTANT, Encoder, Packer, Text, load_texts, pack
from training.sources import (
    TEXTS,
    Row,
    asks_any,
    battery_questions,
    held_out,
    speaks_of_itself,
    tells_any_name,
)
from training.tokenizer import END_OF_TURN, SPECIAL, train_tokenizer
from training.tokenizer_sizes import try_size
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
def tokenizer() -> Tokenizer:
    return train_tokenizer(["Hello there, how are you? I am fine, thank you."] * 9, 400)


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


# --- tokenizer --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        " two  spaces\n\n\ttab",
        "Ünïcode – ありがとう 你好",
        "👩‍👩‍👧",
        "1234",
        "\x00\x7f",
        "a\r\nb",
    ],
)
def test_any_text_survives_the_tokenizer(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_every_byte_has_a_token_and_digits_stay_single(tokenizer: Tokenizer) -> None:
    letters = {token for token in tokenizer.get_vocab() if len(token) == 1}
    assert len(letters) == 256
    assert len(tokenizer.encode("2026").ids) == 4
    assert tokenizer.get_vocab_size() <= 400


def test_special_strings_in_a_text_stay_text(tokenizer: Tokenizer) -> None:
    encoder = Encoder(tokenizer, 256)
    special = {tokenizer.token_to_id(text) for text in SPECIAL}
    ids = encoder.words("".join(SPECIAL))
    assert not special & set(ids)
    assert tokenizer.decode(ids) == "".join(SPECIAL)


def test_a_larger_vocabulary_says_the_same_text_in_fewer_tokens() -> None:
    rows = list(made_rows("passages", 60, seed=1))
    small, large = (try_size(size, rows[:50], rows[50:], num_bytes=4_000) for size in (300, 420))
    assert large.bytes_per_token > small.bytes_per_token
    assert 4_000 <= small.tokens * small.bytes_per_token < 40_000  # a step is never cut
    assert 0 < small.bits_per_byte < 12 and 0 < large.bits_per_byte < 12


# --- packing ----------------------------------------------------------------------------------


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


# --- the battery ------------------------------------------------------------------------------


def test_the_battery_is_large_and_stable() -> None:
    cases = battery()
    assert len(cases) >= 300 and len({case.kind for case in cases}) >= 15
    assert [case.turns for case in cases] == [case.turns for case in battery()]


def test_no_battery_question_passes_on_an_empty_or_endless_reply() -> None:
    for case in battery():
        assert not try_case(case, lambda _messages: ("", True)).right, case.turns
    assert loops("I am here. " * 5) and loops("no no no no no")
    assert not loops("One, two, three. The cat sat and the dog sat and all was well.")


def test_the_checks_read_replies_as_a_person_would() -> None:
    assert number(12)("5 plus 7 is 12.") and not number(12)("12 is 13")
    assert items(3)("- Apple\n- Pear\n- Plum") and items(3)("Apple, pear and plum.")
    assert not items(3)("Apple and pear.")
    assert begins_with_number(9)("9 is bigger than 7.")
    assert not begins_with_number(9)("7 is smaller than 9.")
    assert says("Paris")("It is Paris.") and not says("Paris")("It is Parisian.")


def test_the_table_counts() -> None:
    case = next(case for case in battery() if case.kind == "capitals")
    result = try_case(case, lambda _messages: ("Paris is the capital of France.", True))
    assert result.right and "| capitals | 1 (100%) | 1 |" in table([result])


def test_a_new_table_takes_the_place_of_the_old_one_in_a_card() -> None:
    card = "# Model\n\n| kind | right |\n| --- | --- |\n| sums | 1 |\n| lists | 2 |\n\nEnd.\n"
    new = "| kind | right |\n| --- | --- |\n| sums | 3 |"
    assert renew(card, new) == f"# Model\n\n{new}\n\nEnd.\n"
    with pytest.raises(ValueError, match="other heading"):
        renew(card, "| other heading |\n| --- |")


def test_the_card_of_the_bundled_model_has_both_tables() -> None:
    card = (BUNDLED / "README.md").read_text(encoding="utf-8")
    for heading in ("| kind | right | of |", "| held-out rows of | bits per byte | replies |"):
        assert card.count(heading) == 1
