"""Replies that must have a form: by schema, by grammar, whatever the tokenizer, alone or not."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.base import Prompt, Sampling
from engine.constraint import Constraint, Constraints, check_form
from engine.errors import FormInvalid
from engine.local import LocalEngine
from engine.options import Options
from engine.speculation import Worth
from engine.tokenizer import Tokenizer, load_tokenizer
from tests.engine.answers import ask, ids_of, text_of
from tests.engine.scheduling import Bench, prompt_of
from tests.engine.tokenizer_kinds import KINDS

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "count": {"type": "integer", "minimum": 1, "maximum": 20},
        "kind": {"enum": ["a llama", "an alpaca", "\u9a7c"]},
    },
    "required": ["name", "count", "kind"],
    "additionalProperties": False,
}
ANIMAL = Sampling(json_schema=json.dumps(SCHEMA), max_new_tokens=120)


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[LocalEngine]:
    made = LocalEngine(folder, Options(device="cpu", threads=1, cache_bytes=64 << 20))
    yield made
    made.close()


def is_an_animal(text: str) -> bool:
    value = json.loads(text)
    kinds = SCHEMA["properties"]["kind"]["enum"]  # type: ignore[index]
    return (
        list(value) == ["name", "count", "kind"]
        and isinstance(value["name"], str)
        and len(value["name"]) <= 6
        and 1 <= value["count"] <= 20
        and value["kind"] in kinds
    )


def written_by_chance(constraint: Constraint, seed: int) -> list[int]:
    generator, ids = np.random.default_rng(seed), []
    while not constraint.complete and len(ids) < 300:
        ids.append(int(generator.choice(np.flatnonzero(constraint.allowed()))))
        constraint.take(ids[-1])
    return ids


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_whatever_is_drawn_has_the_form(make: Callable[[Path], Path], tmp_path: Path) -> None:
    tokenizer = load_tokenizer(make(tmp_path))
    constraints = Constraints(tokenizer, frozenset({2}), tokenizer.vocab_size + 5)
    for seed in range(20):
        constraint = constraints.make(ANIMAL)
        assert constraint is not None
        ids = written_by_chance(constraint, seed)
        assert is_an_animal(tokenizer.decode(ids, continues=True)), seed
        assert tokenizer.special_ids.isdisjoint(ids)


def test_the_end_is_allowed_where_the_form_may_end(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    made = Constraints(tokenizer, frozenset({257, 260}), 288).make(Sampling(grammar='start: "a"+'))
    assert made is not None
    assert not made.allowed()[[257, 260]].any(), "nothing was written yet"
    [first] = tokenizer.encode("a")
    made.take(first)
    assert np.flatnonzero(made.allowed()).tolist() == [first, 257, 260]
    made.take(260)
    assert not made.complete, "a plus may go on"


def test_a_reply_has_the_form_and_ends_with_it(engine: LocalEngine) -> None:
    for seed in range(4):
        sampling = Sampling(
            json_schema=ANIMAL.json_schema, max_new_tokens=120, temperature=1.5, seed=seed
        )
        chunks = ask(engine, [{"role": "user", "content": "Which animal?"}], sampling)
        assert is_an_animal(text_of(chunks))
        assert chunks[-1].finish_reason == "stop"


def test_the_prefix_of_a_reply_counts(engine: LocalEngine) -> None:
    prompt = Prompt(messages=[{"role": "user", "content": "Which?"}], reply_prefix='{"name": "Bo')
    assert is_an_animal(prompt.reply_prefix + text_of(ask(engine, prompt, ANIMAL)))
    wrong = Prompt(messages=[{"role": "user", "content": "Which?"}], reply_prefix="Well, ")
    with pytest.raises(FormInvalid, match="begins with"):
        ask(engine, wrong, ANIMAL)


def test_a_stop_string_and_a_limit_still_end_it(engine: LocalEngine) -> None:
    question = Prompt(messages=[{"role": "user", "content": "Which?"}])
    cut = Sampling(json_schema=ANIMAL.json_schema, stop=('"count"',), max_new_tokens=120)
    chunks = ask(engine, question, cut)
    assert text_of(chunks).endswith(", ") and chunks[-1].finish_reason == "stop"
    short = Sampling(json_schema=ANIMAL.json_schema, max_new_tokens=5)
    assert ask(engine, question, short)[-1].finish_reason == "length"


def test_a_cached_prefix_changes_nothing(engine: LocalEngine) -> None:
    question = Prompt(messages=[{"role": "user", "content": "Which animal is it, please?"}])
    greedy = Sampling(json_schema=ANIMAL.json_schema, temperature=0, max_new_tokens=120)
    cold = ask(engine, question, greedy, scope="")
    ask(engine, question, greedy, scope="7")
    warm = ask(engine, question, greedy, scope="7")
    assert warm[-1].statistics is not None and warm[-1].statistics.num_reused > 0
    assert ids_of(warm) == ids_of(cold)


def test_rows_of_a_batch_have_each_their_own_form(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with guesses, which are verified under the form: the same as alone and without."""
    forms = [
        ANIMAL,
        Sampling(grammar='start: ("ab" | "cd"){8,9}', max_new_tokens=60),
        Sampling(temperature=0, max_new_tokens=40),
        Sampling(json_schema='{"type": "array", "items": {"const": 7}, "minItems": 9}'),
    ]
    forms = [
        Sampling(
            json_schema=form.json_schema, grammar=form.grammar, temperature=0, max_new_tokens=60
        )
        for form in forms
    ]
    plain = Bench(folder, speculate=False)
    alone = [
        ids_of(list(plain.ask(prompt_of(9, at), 60, scope="", sampling=form)))
        for at, form in enumerate(forms)
    ]
    plain.scheduler.close()
    monkeypatch.setattr(Worth, "allows", lambda _self: True)
    bench = Bench(folder)
    go = bench.hold()
    streams = [
        bench.ask(prompt_of(9, at), 60, scope="", sampling=form) for at, form in enumerate(forms)
    ]
    go.set()
    together = [ids_of(list(stream)) for stream in streams]
    bench.scheduler.close()
    assert together == alone
    assert max(len(each) for each in bench.model.passes) == 4
    assert any(max(each) > 1 for each in bench.model.passes if len(each) == 4), (
        "nothing was guessed"
    )


WRONG = {
    "no JSON": Sampling(json_schema="{"),
    "no object": Sampling(json_schema="[1]"),
    "an unknown type": Sampling(json_schema='{"type": "animal"}'),
    "a pattern that is none": Sampling(json_schema='{"type": "string", "pattern": "(["}'),
    "a reference to nothing": Sampling(json_schema='{"$ref": "#/elsewhere"}'),
    "what cannot be promised": Sampling(json_schema='{"not": {"type": "string"}}'),
    "a grammar without a beginning": Sampling(grammar='rule: "a"'),
    "both": Sampling(json_schema="{}", grammar='start: "a"'),
    "endless": Sampling(grammar="start: " + '"a" ' * 50_000),
}


@pytest.mark.parametrize("sampling", WRONG.values(), ids=WRONG)
def test_a_form_that_cannot_be_followed_is_refused_at_once(
    engine: LocalEngine, sampling: Sampling
) -> None:
    with pytest.raises(FormInvalid):
        check_form(sampling)
    with pytest.raises(FormInvalid):
        ask(engine, Prompt(text="x"), sampling)


def test_what_no_token_can_write_is_said(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)

    class Mute:
        """A vocabulary in which nothing has a text but the letter a."""

        vocab_size, special_ids = tokenizer.vocab_size, tokenizer.special_ids

        def encode(self, text: str, *, continues: bool = False) -> list[int]:
            return [5] * text.count("a")

        def token_bytes(self, id: int) -> bytes:
            return b"a" if id == 5 else b""

    mute: Tokenizer = Mute()  # type: ignore[assignment]
    made = Constraints(mute, frozenset({260}), 288).make(Sampling(grammar='start: "ab"'))
    assert made is not None
    made.take(5)
    with pytest.raises(FormInvalid, match="lacks a token"):
        made.allowed()
