"""Win rates and what is exported to train on."""

from __future__ import annotations

import json
from threading import Event

import pytest

from app.preferences import (
    contestant,
    example_lines,
    preference_lines,
    rated_rows,
    standings,
    wilson,
)
from storage.records import Feedback
from storage.store import Store
from tests.app.fakes import Bench, TellingEngine


@pytest.mark.parametrize(
    ("wins", "num", "low", "high"),
    # By Wilson's formula; 8 of 10 as in Agresti and Coull 1998, and R's binom::binom.wilson.
    [
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (50, 100, 0.4038, 0.5962),
    ],
)
def test_the_interval_is_wilsons(wins: int, num: int, low: float, high: float) -> None:
    found = wilson(wins, num)
    assert found == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_nothing_seen_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert standings([]) == []


def test_wins_losses_and_ties() -> None:
    rows = [("a", "b", -4), ("b", "a", 2), ("a", "b", 3), ("a", "b", 1), ("a", "a", 4)]
    first, second = standings(rows)
    assert (first.name, first.wins, first.losses, first.ties) == ("a", 2, 1, 1)
    assert (second.name, second.wins, second.losses, second.ties) == ("b", 1, 2, 1)
    assert first.rate == pytest.approx(2 / 3)
    low, high = first.interval
    assert low < 2 / 3 < high
    assert standings([("a", "b", -1)])[0].rate is None


def _rated(store: Store) -> tuple[Bench, str]:
    """Two turns; the second prompt has two answers, of which the second is better."""
    bench = Bench(store, TellingEngine(["First.", "Worse.", "Better, 更好."]))
    key = store.create_conversation(1, system_prompt="Be brief.").key
    one = bench.ask("one", key=key)
    two = bench.ask("two", key=key, parent_id=one.reply.id)
    turn = store.begin_reply(1, key, prompt_id=two.prompt.id)
    list(bench.run(bench.task_for(store.conversation(1, key), turn), Event()))
    made = store.compare(1, key, first_id=two.reply.id, second_id=turn.reply.id, blind=True)
    store.rate(1, made.id, helpfulness=4, safety=-1)
    store.set_feedback(1, key, turn.reply.id, Feedback(1))
    return bench, key


def test_pairs_are_plain_texts_with_the_turns_before(store: Store) -> None:
    _rated(store)
    (row,) = [json.loads(line) for line in preference_lines(store, 1)]
    assert row == {
        "system": "Be brief.",
        "history": [["one", "First."]],
        "prompt": "two",
        "chosen": "Better, 更好.",
        "rejected": "Worse.",
        "margin": 3,
    }
    (safety,) = [json.loads(line) for line in preference_lines(store, 1, aspect="safety")]
    assert (safety["chosen"], safety["margin"]) == ("Worse.", 0)


def test_pairs_are_whole_conversations(store: Store) -> None:
    _rated(store)
    (row,) = [json.loads(line) for line in preference_lines(store, 1, layout="conversations")]
    roles = [message["role"] for message in row["chosen"]]
    assert roles == ["system", "user", "assistant", "user", "assistant"]
    assert row["chosen"][:-1] == row["rejected"][:-1]
    assert row["chosen"][-1]["content"] == "Better, 更好."


def test_examples_are_conversations_with_a_thumb_up(store: Store) -> None:
    _rated(store)
    (row,) = [json.loads(line) for line in example_lines(store, 1)]
    assert [m["content"] for m in row["messages"]][-2:] == ["two", "Better, 更好."]
    assert list(example_lines(store, 2)) == []
    assert rated_rows(store, 1, "helpfulness")[0][2] == 4


def test_an_answer_that_the_guard_cut_is_nobodys_example(store: Store) -> None:
    bench = Bench(store, TellingEngine(["It is forbidden. " * 9, "Fine."]))
    turn = bench.ask("one")
    other = store.begin_reply(1, bench.key, prompt_id=turn.prompt.id)
    list(bench.run(bench.task_for(store.conversation(1, bench.key), other), Event()))
    assert turn.reply.status == "cut"
    made = store.compare(
        1, bench.key, first_id=turn.reply.id, second_id=other.reply.id, blind=False
    )
    store.rate(1, made.id, helpfulness=-2, safety=None)
    assert list(preference_lines(store, 1)) == []


def test_contestants_are_told_apart_by_what_made_the_answer(store: Store) -> None:
    bench = Bench(store)
    reply = bench.ask("one").reply
    assert contestant(reply) == "teller · fp32 · T 0.7"
