"""200 ways for a guard to fail, at every stage: unsafe text shown 0 times, and the chat goes on."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable, Iterator

import pytest

from app.explain import explain_verdict
from app.strings import Strings
from safety.base import Guard, GuardBroken, GuardMissing, Verdict
from safety.gate import Gate, Mode
from safety.panel import Panel
from safety.policy import DEFAULT_POLICY, Decision
from storage.store import Store
from tests.app.fakes import Bench, TellingEngine, WordGuard

SAFE = "One two three four five six seven eight. " * 4
UNSAFE = "Then a forbidden word comes. "


def crash() -> Verdict:
    raise RuntimeError("crashed")


def out_of_memory() -> Verdict:
    raise MemoryError


def torch_out_of_memory() -> Verdict:
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory")


def gone() -> Verdict:
    raise GuardMissing("the weights are gone")


def broken() -> Verdict:
    raise GuardBroken("the weights cannot be read")


def leave() -> Verdict:
    raise SystemExit


def hang() -> Verdict:
    time.sleep(0.25)
    return Verdict(0.0)


FAULTS: list[Callable[[], object]] = [
    crash,
    out_of_memory,
    torch_out_of_memory,
    gone,
    broken,
    leave,
    hang,
    lambda: Verdict(math.nan),
    lambda: Verdict(math.inf),
    lambda: Verdict(-0.1),
    lambda: Verdict(0.0, {"hate": math.nan}),
    lambda: Verdict(0.0, {"no such": 0.1}),
    lambda: Verdict("0.1"),  # type: ignore[arg-type]  # a wrong type is the point
    lambda: Verdict([0.1, 0.2]),  # type: ignore[arg-type]  # and a wrong shape
    lambda: None,
    lambda: 0.0,
]
MODES: tuple[Mode, ...] = ("strict", "sentence", "whole")
AFTER = (0, 1, 2, 3, 5)  # judgements that go well before: the first is the prompt's
# A whole-answer gate asks twice in all: what comes later cannot fail.
CASES = [
    *itertools.product(range(len(FAULTS)), ("strict", "sentence"), AFTER),
    *itertools.product(range(len(FAULTS)), ("whole",), (0, 1)),
    *itertools.product(range(8), ("strict",), (4,)),
]


class Failing:
    """A word guard that fails from one judgement on."""

    name = "failing"
    version = "1"

    def __init__(self, fault: Callable[[], object], after: int) -> None:
        self._fault, self._after = fault, after
        self._words = WordGuard()

    def judge(self, prompt: str, reply: str | None = None) -> Verdict:
        self._after -= 1
        if self._after < 0:
            return self._fault()  # type: ignore[return-value]
        return self._words.judge(prompt, reply)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store.open(tmp_path_factory.mktemp("faults"))
    yield store
    store.close()


def test_there_are_enough_cases() -> None:
    assert len(CASES) == len(set(CASES)) == 200


@pytest.mark.parametrize("group", range(8))
def test_a_failing_guard_shows_nothing_unsafe_and_is_told(store: Store, group: int) -> None:
    strings = Strings.load("en")
    for number, mode, after in CASES[group::8]:
        guard: Guard = Panel([Failing(FAULTS[number], after)], timeout_seconds=0.1)
        engine = TellingEngine([SAFE + UNSAFE + SAFE, SAFE])
        bench = Bench(store, engine, guard, gate_mode=mode)
        turn = bench.ask("Hi")
        shown = "".join(step.text for step in bench.steps)
        assert "forbidden" not in shown + turn.reply.content
        assert turn.reply.status in ("blocked", "cut")
        verdicts = [*turn.prompt.verdicts, *turn.reply.verdicts]
        stopped = [v for v in verdicts if v.action == "block"][-1]
        told = explain_verdict(stopped, strings)
        assert told.title and told.action
        bench.means.guard.replace(WordGuard)  # repaired: the chat goes on
        healed = bench.ask("Again", key=bench.key, parent_id=turn.reply.id)
        assert healed.reply.status in ("done", "cut")


def test_a_part_of_the_word_never_passes_whatever_the_chunks_are() -> None:
    draw = random.Random(11)
    word = WordGuard(words=("forbidden fruit",))

    def judge(text: str) -> Decision:
        return DEFAULT_POLICY.decide(word.judge("", text), "reply")

    phrase = SAFE + "and a forbidden fruit here"
    for first in range(len(SAFE), len(phrase)):
        gate = Gate(judge, mode=draw.choice(MODES))
        pieces = [phrase[:first], phrase[first:]]
        out = "".join(r.text for piece in pieces for r in gate.push(piece, len(piece) // 4 + 1))
        out += "".join(r.text for r in gate.finish())
        assert "forbidden fruit" not in out
        assert gate.closed


@pytest.mark.parametrize("count", [120, pytest.param(1000, marks=pytest.mark.full)])
def test_what_is_released_is_what_was_generated(count: int) -> None:
    draw = random.Random(5)
    alphabet = [
        "a",
        "word ",
        "\r\n",
        "```\n",
        "🦙",
        "👨‍👩‍👧",
        "é",
        "。",
        "你好",
        ". ",
        "\t",
        "\u200b",
        "!",
    ]

    def judge(text: str) -> Decision:
        return DEFAULT_POLICY.decide(Verdict(0.01), "reply")

    for number in range(count):
        stream = [
            "".join(draw.choices(alphabet, k=draw.randint(0, 6)))
            for _ in range(draw.randint(0, 80))
        ]
        gate = Gate(judge, mode=MODES[number % 3], already="kept " if number % 5 == 0 else "")
        released = [r.text for chunk in stream for r in gate.push(chunk, draw.randint(0, 4))]
        released += [r.text for r in gate.finish()]
        assert "".join(released) == "".join(stream) == gate.released


def test_missing_weights_stop_every_answer_and_say_so(store: Store) -> None:
    from app.parts import Part

    def missing() -> Guard:
        raise GuardMissing("The guard's file is missing; install Corral again.")

    part: Part[Guard] = Part("guard", missing)
    part.start()
    turn = Bench(store, guard_part=part).ask("Hi")
    assert (turn.reply.status, turn.reply.error_code) == ("error", "GuardMissing")
    assert turn.reply.content == ""
