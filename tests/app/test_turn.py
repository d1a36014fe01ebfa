"""The way of a message, from a stored prompt to a stored, judged reply."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from app.parts import Part
from app.turn import take_turn
from engine.base import DeviceOutOfMemory, Engine
from safety.base import Guard, GuardBroken
from storage.records import NotFound
from storage.store import Store
from tests.app.fakes import Bench, FailingGuard, TellingEngine, WordGuard

LONG = "One two three four five six seven eight. " * 6


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path)
    yield store
    store.close()


def test_an_answer_is_judged_shown_and_kept_with_what_it_cost(store: Store) -> None:
    bench = Bench(store, TellingEngine(["Hello there, friend."]))
    turn = bench.ask("Hi")
    assert (turn.prompt.status, turn.reply.status) == ("done", "done")
    assert turn.reply.content == "Hello there, friend."
    assert "".join(step.text for step in bench.steps) == turn.reply.content
    assert bench.steps[-1].phase == "ended"
    assert [v.stage for v in turn.prompt.verdicts] == ["prompt"]
    assert turn.reply.verdicts[-1].stage == "final"
    assert turn.reply.verdicts[-1].guard == "words"
    (run,) = turn.reply.generations
    assert (run.model, run.num_prompt, run.num_reused, run.num_new) == ("teller", 7, 3, 3)
    assert tuple(run.token_ids) == (0, 1, 2)
    assert run.finish_reason == "stop"


def test_no_character_is_released_before_a_check_covered_it(store: Store) -> None:
    guard = WordGuard()
    bench = Bench(store, TellingEngine([LONG]), guard)
    bench.ask("Hi")
    shown = ""
    for step in bench.steps:
        shown += step.text
        if step.text:
            assert any(reply and reply.startswith(shown) for _, reply in guard.judged)
    assert shown == LONG


def test_a_refused_prompt_never_reaches_the_engine(store: Store) -> None:
    engine = TellingEngine()
    bench = Bench(store, engine)
    turn = bench.ask("a forbidden thing")
    assert engine.prompts == []
    assert (turn.prompt.status, turn.reply.status) == ("blocked", "blocked")
    assert turn.reply.content == ""
    verdict = turn.prompt.verdicts[0]
    assert (verdict.action, verdict.category) == ("block", "violent_crimes")
    assert verdict.score > verdict.threshold > 0
    assert turn.prompt.content == "a forbidden thing"  # the person's own words are not lost


def test_a_refused_prompt_is_not_in_the_next_context(store: Store) -> None:
    engine = TellingEngine()
    bench = Bench(store, engine)
    refused = bench.ask("a forbidden thing")
    bench.ask("hello", key=bench.key, parent_id=refused.reply.id)
    assert [m["content"] for m in engine.prompts[0].messages or ()] == ["hello"]


@pytest.mark.parametrize("gate_mode", ["strict", "sentence", "whole"])
def test_a_reply_is_cut_where_it_was_last_judged_clean(store: Store, gate_mode: str) -> None:
    engine = TellingEngine([LONG + "Then a forbidden word. " + LONG])
    bench = Bench(store, engine, gate_mode=gate_mode)  # type: ignore[arg-type]  # the parameter
    turn = bench.ask("Hi")
    assert turn.reply.status == "cut"
    assert "forbidden" not in turn.reply.content
    assert LONG.startswith(turn.reply.content)
    assert turn.reply.verdicts[-1].action == "block"
    assert turn.reply.generations[0].finish_reason == "cut"
    assert all("forbidden" not in step.text for step in bench.steps)


def test_a_guard_that_fails_shows_nothing_and_says_why(store: Store) -> None:
    bench = Bench(store, guard=FailingGuard())
    turn = bench.ask("Hi")
    assert turn.prompt.status == "blocked"
    assert turn.prompt.verdicts[0].reason == "The guard stopped."


def test_a_guard_that_fails_in_the_middle_ends_the_answer(store: Store) -> None:
    bench = Bench(store, TellingEngine([LONG]), FailingGuard(after=2))
    turn = bench.ask("Hi")
    assert turn.reply.status == "cut"
    assert 0 < len(turn.reply.content) < len(LONG)
    assert turn.reply.verdicts[-1].reason


def test_an_engine_error_keeps_what_was_written(store: Store) -> None:
    engine = TellingEngine([LONG], fails_after=20, error=DeviceOutOfMemory("no room"))
    turn = Bench(store, engine).ask("Hi")
    assert (turn.reply.status, turn.reply.error_code) == ("error", "DeviceOutOfMemory")
    assert turn.reply.content == " ".join(LONG.split(" ")[:20]) + " "


def test_a_prompt_longer_than_the_context_is_an_error_not_a_loss(store: Store) -> None:
    turn = Bench(store, TellingEngine(context_length=64)).ask("word " * 100)
    assert (turn.reply.status, turn.reply.error_code) == ("error", "ContextFull")
    assert turn.prompt.content == "word " * 100


def test_a_part_that_did_not_load_is_named(store: Store) -> None:
    def broken() -> Guard:
        raise GuardBroken("misses its probes")

    engine = TellingEngine()
    part: Part[Guard] = Part("guard", broken)
    part.start()
    turn = Bench(store, engine, guard_part=part).ask("Hi")
    assert (turn.reply.status, turn.reply.error_code) == ("error", "GuardBroken")
    assert engine.prompts == []


def test_a_turn_waits_for_its_parts_and_can_be_stopped_meanwhile(store: Store) -> None:
    part: Part[Engine] = Part("engine", TellingEngine)
    bench = Bench(store, engine_part=part)
    key = store.create_conversation(1).key
    turn = store.begin_turn(1, key, parent_id=None, text="Hi", client_key="a")
    cancel = Event()
    steps = take_turn(bench.task_for(store.conversation(1, key), turn), bench.means, cancel=cancel)
    waiting = next(step for step in steps if step.phase == "waiting")
    assert waiting.waiting_for == "engine"
    cancel.set()
    assert [step.status for step in steps] == ["stopped"]


def test_a_continued_reply_grows_where_it_broke_off(store: Store) -> None:
    engine = TellingEngine(["One two three.", " Four five."])
    bench = Bench(store, engine)
    first = bench.ask("Count")
    store.set_status(first.reply.id, "stopped")
    turn = store.resume_reply(1, bench.key, reply_id=first.reply.id)
    list(bench.run(bench.task_for(store.conversation(1, bench.key), turn), Event()))
    reply = store.message(1, bench.key, first.reply.id)
    assert reply.content == "One two three. Four five."
    assert engine.prompts[1].reply_prefix == "One two three."
    assert [run.from_char for run in reply.generations] == [0, len("One two three.")]


def test_a_caller_that_goes_away_leaves_no_reply_streaming(store: Store) -> None:
    bench = Bench(store, TellingEngine([LONG]))
    key = store.create_conversation(1).key
    turn = store.begin_turn(1, key, parent_id=None, text="Hi", client_key="a")
    steps = take_turn(bench.task_for(store.conversation(1, key), turn), bench.means, cancel=Event())
    while not next(steps).text:
        pass
    steps.close()  # type: ignore[attr-defined]  # it is a generator
    reply = store.message(1, key, turn.reply.id)
    assert reply.status == "interrupted"
    assert LONG.startswith(reply.content) and reply.content


def test_another_user_cannot_answer_in_this_conversation(store: Store) -> None:
    key = store.create_conversation(1).key
    with pytest.raises(NotFound):
        store.begin_turn(2, key, parent_id=None, text="Hi", client_key="a")
