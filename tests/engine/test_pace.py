"""The choice of threads, against machines whose step times are known."""

import importlib
import os
from collections.abc import Callable

import pytest

import engine
from engine.pace import SETTLED_STEPS, TRIAL_STEPS, Pace, thread_choices


def run(pace: Pace, seconds: Callable[[int], float], steps: int) -> list[int]:
    """Do `steps` steps on a machine that takes `seconds(threads)` for each → threads used."""
    used = []
    for _ in range(steps):
        used.append(pace.threads)
        pace.record(seconds(pace.threads))
    return used


def idle(threads: int) -> float:
    return 0.01 / threads


def busy(threads: int) -> float:
    return 0.01 if threads == 1 else 0.06 * threads


def test_choices_are_halves() -> None:
    assert thread_choices(most=8) == (8, 4, 2, 1)
    assert thread_choices(most=6) == (6, 3, 1)
    assert thread_choices(most=1) == (1,)
    assert thread_choices(3, most=8) == (3,)


def test_an_idle_machine_is_used_wholly() -> None:
    pace = Pace(thread_choices(most=4))
    run(pace, idle, 3 * TRIAL_STEPS)
    assert pace.threads == 4


def test_a_busy_machine_gets_one_thread_and_an_idle_one_all_again() -> None:
    pace = Pace(thread_choices(most=2))
    run(pace, busy, 2 * TRIAL_STEPS)
    assert pace.threads == 1
    run(pace, idle, 9 * (SETTLED_STEPS + 2 * TRIAL_STEPS))
    assert pace.threads == 2
    run(pace, busy, SETTLED_STEPS + 2 * TRIAL_STEPS)
    assert pace.threads == 1


def test_hopeless_choices_cost_little() -> None:
    pace = Pace(thread_choices(most=2))
    run(pace, busy, 2 * TRIAL_STEPS)
    used = run(pace, busy, 20 * SETTLED_STEPS)
    assert used.count(2) <= 3 * TRIAL_STEPS


def test_one_outlier_does_not_decide() -> None:
    """The first step of a trial wakes threads up, and one of the others may be disturbed."""
    pace = Pace((2, 1))
    for step in range(2 * TRIAL_STEPS):
        pace.record(0.08 if step in (0, 2, 4) else (0.01 if pace.threads == 2 else 0.02))
    assert pace.threads == 2


def test_a_very_slow_choice_is_given_up_early() -> None:
    pace = Pace((2, 1))
    assert run(pace, lambda threads: 1.0 if threads == 2 else 0.001, 6) == [2, 2, 1, 1, 1, 1]
    assert pace.settled and pace.threads == 1


def test_it_can_begin_with_what_another_found() -> None:
    pace = Pace((4, 2, 1))
    pace.begin_with(1)
    used = run(pace, lambda threads: 0.001 / threads, 3 * TRIAL_STEPS)
    assert used[0] == 1 and set(used) == {1, 2, 4} and pace.threads == 4
    pace.begin_with(1)
    assert pace.threads == 4, "it is settled"


def test_a_number_that_was_asked_for_stays() -> None:
    pace = Pace((3,))
    assert set(run(pace, busy, 500)) == {3}


def test_waiting_threads_soon_sleep_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for given, expected in ((None, "2000"), ("5", "5")):
        monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
        if given is not None:
            monkeypatch.setenv("GOMP_SPINCOUNT", given)
        importlib.reload(engine)
        assert os.environ["GOMP_SPINCOUNT"] == expected
