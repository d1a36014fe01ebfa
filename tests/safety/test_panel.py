import math
import threading

import pytest

from safety.base import Verdict
from safety.panel import Panel
from safety.policy import DEFAULT_POLICY
from tests.safety.guards import FixedGuard, RaisingGuard

CLEAN = FixedGuard(Verdict(0.0, {}, "clean", "1"), name="clean")


def test_the_highest_score_counts_in_total_and_per_category():
    one = FixedGuard(Verdict(0.2, {"hate": 0.2, "privacy": 0.1}, "one", "1"), name="one")
    other = FixedGuard(Verdict(0.7, {"hate": 0.1, "self_harm": 0.7}, "other", "2"), name="other")
    panel = Panel([one, other])
    verdict = panel.judge("text")
    assert verdict.score == 0.7
    assert verdict.scores == {"hate": 0.2, "privacy": 0.1, "self_harm": 0.7}
    assert (verdict.guard, verdict.version) == ("one+other", "1+2")
    assert panel.name == "one+other"


def test_weighted_mean():
    one = FixedGuard(Verdict(0.2, {}, "one", "1"), name="one")
    other = FixedGuard(Verdict(0.8, {}, "other", "1"), name="other")
    panel = Panel([one, other], combine="weighted", weights={"one": 3.0})
    assert panel.judge("text").score == pytest.approx((3 * 0.2 + 0.8) / 4)


@pytest.mark.parametrize(
    ("first", "asked", "score"), [(0.05, 0, 0.05), (0.95, 0, 0.95), (0.5, 1, 0.3)]
)
def test_a_cascade_asks_the_second_guard_only_when_unsure(first, asked, score):
    cheap = FixedGuard(Verdict(first, {}, "cheap", "1"), name="cheap")
    strong = FixedGuard(Verdict(0.3, {}, "strong", "1"), name="strong")
    verdict = Panel([cheap, strong], combine="cascade").judge("text")
    assert (strong.num_asked, verdict.score) == (asked, score)


BAD = [
    RaisingGuard(RuntimeError("secret text of the user")),
    RaisingGuard(MemoryError()),
    RaisingGuard(KeyboardInterrupt()),
    FixedGuard(None),
    FixedGuard("unsafe"),
    FixedGuard(Verdict(math.nan)),
    FixedGuard(Verdict(0.0, {"hate": math.inf})),
    FixedGuard(Verdict(0.0, {"hate": "much"})),
    FixedGuard(Verdict(2.0)),
    FixedGuard(Verdict(0.0, {"no such category": 0.5})),
    FixedGuard(Verdict.failure("its weights are gone", guard="fixed")),
]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize("combine", ["any", "weighted"])
def test_one_bad_guard_fails_the_panel_and_says_why(bad, position, combine):
    guards = [bad, CLEAN] if position == 0 else [CLEAN, bad]
    verdict = Panel(guards, combine=combine).judge("prompt", "reply")
    assert verdict.failed
    assert "secret" not in verdict.failed
    assert DEFAULT_POLICY.decide(verdict, "reply").blocks


def test_a_guard_that_hangs_fails_and_is_given_up_after_two_texts():
    release = threading.Event()

    class Hanging:
        name = "hanging"
        version = "1"
        num_asked = 0

        def judge(self, prompt: str, reply: str | None = None) -> Verdict:
            Hanging.num_asked += 1
            release.wait(30)
            return Verdict(0.0)

    panel = Panel([Hanging()], timeout_seconds=0.05)
    try:
        assert "longer than" in panel.judge("a").failed
        assert "longer than" in panel.judge("b").failed
        assert "hangs" in panel.judge("c").failed
        assert Hanging.num_asked == 2
    finally:
        release.set()


def test_a_guard_that_was_slow_is_asked_again_once_it_is_back():
    release = threading.Event()

    class Slow:
        name = "slow"
        version = "1"

        def judge(self, prompt: str, reply: str | None = None) -> Verdict:
            release.wait(30)
            return Verdict(0.25, {}, "slow", "1")

    panel = Panel([Slow()], timeout_seconds=0.05)
    assert panel.judge("a").failed
    assert panel.judge("b").failed
    release.set()
    for thread in threading.enumerate():
        if thread.name == "judge-slow":
            thread.join(5)
    assert panel.judge("c").score == 0.25


def test_a_panel_of_nobody_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        Panel([])
