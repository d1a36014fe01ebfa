"""Proposals from the row's own text: found, verified, given up, and never seen in an answer."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.base import Sampling
from engine.speculation import MOST, Lookup, Worth
from tests.engine.answers import ids_of
from tests.engine.scheduling import Bench, prompt_of


@pytest.fixture(scope="module")
def plain(folder: Path) -> Iterator[Bench]:
    made = Bench(folder, speculate=False)
    yield made
    made.scheduler.close()


@pytest.fixture
def bench(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Guesses whatever they cost: a tiny model would leave it."""
    monkeypatch.setattr(Worth, "allows", lambda _self: True)
    made = Bench(folder)
    yield made
    made.scheduler.close()


def test_what_followed_before_is_proposed() -> None:
    lookup = Lookup()
    assert lookup.propose([1, 2, 3, 4, 5, 6, 7, 1, 2, 3], 20) == [4, 5, 6]
    assert lookup.propose([1, 2, 3, 4, 5, 6, 7, 1, 2, 3], 1) == [4]
    assert Lookup().propose([1, 2, 3, 4, 5, 6], 20) == []
    assert Lookup().propose([1, 2], 20) == []


def test_a_text_that_goes_round_is_taken_to_go_on() -> None:
    for tokens, expected in (([7] * 4, [7] * 7), ([1, 2, 3, 9, 1, 2, 3], [9, 1, 2, 3] * 2)):
        lookup = Lookup()
        lookup.learn(2, 2)  # it dares more
        assert lookup.propose(tokens, 20) == expected[:7]


def test_the_latest_place_counts() -> None:
    assert Lookup().propose([1, 2, 3, 8, 8, 1, 2, 3, 9, 9, 1, 2, 3], 1) == [9]


def test_proposals_grow_with_success_and_pause_after_failure() -> None:
    tokens = [*range(100), *range(50)]
    lookup = Lookup()
    lengths = []
    for _ in range(4):
        proposed = lookup.propose(tokens, 100)
        lengths.append(len(proposed))
        lookup.learn(len(proposed), len(proposed))
    assert lengths == [3, 7, MOST, MOST]
    pauses = []
    for _ in range(6):
        lookup.learn(15, 0)
        steps = 0
        while not lookup.propose(tokens, 100):
            steps += 1
        pauses.append(steps)
    assert pauses == [4, 8, 16, 32, 64, 64]
    assert len(lookup.propose(tokens, 100)) == 1


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("penalty", [0.0, 0.4])
def test_no_answer_changes(
    plain: Bench, bench: Bench, seed: int, temperature: float, penalty: float
) -> None:
    """A prompt that repeats itself, and a model that soon does: proposals come true and fail."""
    prompt = [256, *(prompt_of(14, seed)[1:] * 5)]
    sampling = Sampling(temperature=temperature, frequency_penalty=penalty, seed=seed)
    expected = list(plain.ask(prompt, 120, scope="", sampling=sampling))
    got = list(bench.ask(prompt, 120, scope="", sampling=sampling))
    assert ids_of(got) == ids_of(expected)
    assert got[-1].finish_reason == expected[-1].finish_reason


def test_it_saves_passes_where_a_text_repeats(plain: Bench, bench: Bench) -> None:
    prompt = prompt_of(20)
    bias = {65: 60.0}  # one token, for ever
    sampling = Sampling(temperature=0, logit_bias=bias)
    got = ids_of(list(bench.ask(prompt, 100, scope="", sampling=sampling)))
    assert got == ids_of(list(plain.ask(prompt, 100, scope="", sampling=sampling)))
    writing = [each for each in bench.model.passes if each != [20]]
    assert len(writing) < 20


def test_rows_of_a_batch_speculate_each_for_themselves(plain: Bench, bench: Bench) -> None:
    prompts = [[256, *(prompt_of(12, seed)[1:] * 4)] for seed in range(3)]
    alone = [ids_of(list(plain.ask(prompt, 60, scope=""))) for prompt in prompts]
    go = bench.hold()
    streams = [bench.ask(prompt, 60, scope=f"{at}") for at, prompt in enumerate(prompts)]
    go.set()
    assert [ids_of(list(stream)) for stream in streams] == alone
    assert any(len(each) == 3 and max(each) > 1 for each in bench.model.passes)


@pytest.mark.parametrize("num_new", [1, 2, 7, 30])
def test_what_is_kept_is_what_was_written(plain: Bench, bench: Bench, num_new: int) -> None:
    """What failed to come true lies in no slot: the next turn goes on as if it never was."""
    prompt = [256, *(prompt_of(12)[1:] * 4)]
    got = ids_of(list(bench.ask(prompt, num_new)))
    longer = [*prompt, *got, 11, 12, 13]
    warm = list(bench.ask(longer, 20))
    assert warm[-1].statistics is not None
    assert warm[-1].statistics.num_reused == len(prompt) + num_new - 1
    assert ids_of(warm) == ids_of(list(plain.ask(longer, 20, scope="")))


def rested(worth: Worth) -> int:
    passes = 0
    while not worth.allows():
        passes += 1
    return passes


def trial(worth: Worth, num_tokens: int, seconds: float) -> None:
    for _ in range(5):
        worth.record(num_tokens, seconds, guessed=True)


def test_guessing_rests_where_it_does_not_pay() -> None:
    worth = Worth()
    assert not worth.allows(), "nothing to compare with yet"
    worth.record(1, 0.010, guessed=False)
    rests = []
    for _ in range(7):
        trial(worth, 3, 0.040)
        rests.append(rested(worth) + 1)
    assert rests == [32, 64, 128, 256, 512, 1024, 1024]
    trial(worth, 5, 0.020)
    assert rested(worth) == 0
    trial(worth, 3, 0.040)
    assert rested(worth) + 1 == 32, "a success makes rests short again"


def test_a_pass_that_was_held_up_decides_nothing() -> None:
    worth = Worth()
    for seconds in (0.010, 0.200, 0.010):
        worth.record(1, seconds, guessed=False)
    for seconds in (0.020, 0.500, 0.020, 0.020, 0.020):
        worth.record(4, seconds, guessed=True)
    assert rested(worth) == 0
    trial(worth, 4, 0.050)
    assert rested(worth) > 0, "dear beside the usual plain pass, cheap beside the slow one"
