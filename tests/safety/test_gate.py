import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safety.base import Verdict
from safety.gate import Gate
from safety.policy import DEFAULT_POLICY, Decision
from tests.safety.guards import WordGuard, reply_judge

ALLOW = Decision("allow")


def allow(text: str) -> Decision:
    return ALLOW


def scored(*scores: float):
    """A judge that gives these scores, one a check, the last for ever."""
    left = list(scores)

    def judge(text: str) -> Decision:
        score = left.pop(0) if len(left) > 1 else left[0]
        return DEFAULT_POLICY.decide(Verdict(score), "reply")

    return judge


def run(gate: Gate, pieces) -> str:
    shown = "".join(r.text for piece in pieces for r in gate.push(piece))
    return shown + "".join(r.text for r in gate.finish())


pieces_of_text = st.lists(
    st.one_of(
        st.text(max_size=8),
        st.sampled_from(
            [
                " word",
                ".",
                ". ",
                "!\n\n",
                "你好",
                "。",
                "```\r\n",
                "👩‍🚀",
                "\u0301",
                " e.g. ",
                "?”",
                "a",
            ]
        ),
    ),
    max_size=120,
)


@settings(max_examples=300, deadline=None)
@given(pieces_of_text, st.sampled_from(["strict", "sentence", "whole"]), st.integers(1, 5))
def test_released_is_generated_when_nothing_is_flagged(pieces, mode, num_tokens):
    gate = Gate(allow, mode=mode)
    shown = ""
    for piece in pieces:
        shown += "".join(r.text for r in gate.push(piece, num_tokens))
        assert "".join(pieces).startswith(shown)
        assert gate.released == shown
    shown += "".join(r.text for r in gate.finish())
    assert shown == "".join(pieces) == gate.released
    assert gate.final is not None
    assert gate.final.final
    assert not gate.closed


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([" safe", " words", ".", "\n", " 你好", "。 "]), max_size=60),
    st.lists(st.sampled_from([" safe", " words", ".", "\n", " 你好", "。 "]), max_size=60),
    st.data(),
)
def test_a_forbidden_word_split_anywhere_is_caught(before, after, data):
    text = "".join(before) + " kaboom" + "".join(after)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=40)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    gate = Gate(reply_judge(WordGuard("kaboom")))
    shown = run(gate, pieces)
    assert gate.closed
    assert text.startswith(shown)
    assert len(shown) <= text.index("kaboom")
    assert gate.final is not None
    assert gate.final.decision.category == "violent_crimes"


@settings(max_examples=100, deadline=None)
@given(pieces_of_text, st.integers(0, 2**32), st.sampled_from(["strict", "sentence", "whole"]))
def test_nothing_comes_after_the_gate_closed(pieces, seed, mode):
    rng = random.Random(seed)
    gate = Gate(lambda text: DEFAULT_POLICY.decide(Verdict(rng.random()), "reply"), mode=mode)
    shown_at_close = None
    for piece in pieces:
        given_now = gate.push(piece, rng.randrange(1, 20))
        if shown_at_close is not None:
            assert given_now == ()
        elif gate.closed:
            shown_at_close = gate.released
            assert given_now[-1].decision.blocks
            assert given_now[-1].text == ""
    gate.finish()
    assert gate.finish() == ()
    assert gate.push("more") == ()
    if shown_at_close is not None:
        assert gate.released == shown_at_close
    assert "".join(pieces).startswith(gate.released)


def test_every_released_character_was_judged_before():
    judged: list[str] = []

    def judge(text: str) -> Decision:
        judged.append(text)
        return ALLOW

    gate = Gate(judge)
    for piece in [" token"] * 200 + [". And on."]:
        gate.push(piece)
        assert len(gate.released) <= max((len(text) for text in judged), default=0)


def test_first_check_after_ten_tokens_then_every_thirty_two():
    gate = Gate(allow)
    for _ in range(100):
        gate.push(" word")
    assert [check.upto_char // 5 for check in gate.checks] == [10, 42, 74]
    gate.finish()
    assert [check.final for check in gate.checks] == [False, False, False, True]


def test_sentence_ends_are_checked_as_they_come_but_not_too_often():
    gate = Gate(allow)
    shown = [r.text for piece in ["Hi", " there", ".", " How"] for r in gate.push(piece)]
    assert shown == ["Hi there. "]
    assert len(gate.checks) == 1
    for piece in [" are", " you", "?", " Ok", "."]:
        gate.push(piece)
    assert len(gate.checks) == 1  # fewer than eight tokens since


def test_a_decimal_point_is_no_sentence_end():
    gate = Gate(allow)
    for piece in ["Pi", " is", " 3", ".", "14"]:
        gate.push(piece)
    assert gate.checks == []


def test_half_a_word_is_not_shown():
    gate = Gate(allow, first_tokens=3)
    shown = [r.text for piece in ["The", " gun", "pow"] for r in gate.push(piece)]
    assert shown == ["The "]
    gate.push("der")
    assert "".join(r.text for r in gate.finish()) == "gunpowder"


def test_one_spike_is_held_and_then_released():
    gate = Gate(scored(0.1, 0.6, 0.1))
    for _ in range(42):
        gate.push(" word")
    held_from = len(gate.released)
    assert len(gate.checks) == 2
    assert held_from < 10 * 5
    for _ in range(32):
        gate.push(" word")
    assert not gate.closed
    assert len(gate.released) > 42 * 5
    gate.finish()
    assert gate.released == " word" * 74


def test_two_spikes_in_a_row_close_and_show_nothing_since_the_last_clean_check():
    gate = Gate(scored(0.1, 0.6, 0.6))
    released = ""
    for _ in range(100):
        released += "".join(r.text for r in gate.push(" word"))
    assert gate.closed
    assert len(gate.checks) == 3
    assert released == gate.released == " word" * 9 + " "
    assert gate.num_held_chars == 0


def test_a_sure_block_closes_at_once():
    gate = Gate(scored(0.95))
    for _ in range(10):
        gate.push(" word")
    assert gate.closed
    assert gate.released == ""


def test_the_final_check_decides_alone():
    gate = Gate(scored(0.1, 0.6))
    for _ in range(15):
        gate.push(" word")
    releases = gate.finish()
    assert gate.closed
    assert [r.text for r in releases] == [""]


def test_whole_mode_shows_nothing_before_the_end():
    guard = WordGuard("kaboom")
    gate = Gate(reply_judge(guard), mode="whole")
    assert all(gate.push(" word.\n\n") == () for _ in range(300))
    assert len(guard.asked) == 0
    assert "".join(r.text for r in gate.finish()) == " word.\n\n" * 300


def test_sentence_mode_shows_whole_sentences():
    gate = Gate(allow, mode="sentence")
    shown = [
        r.text for piece in ["One", "two", "three.", "Four", "five"] for r in gate.push(piece + " ")
    ]
    assert shown == ["One two three. "]


@pytest.mark.parametrize("error", [RuntimeError("boom"), MemoryError(), ValueError("text")])
def test_a_judge_that_raises_is_a_block_that_says_why(error):
    def judge(text: str) -> Decision:
        raise error

    gate = Gate(judge)
    for _ in range(10):
        gate.push(" word")
    assert gate.closed
    assert gate.released == ""
    assert gate.checks[0].decision.failed
    assert type(error).__name__ in gate.checks[0].decision.failed


def test_a_judge_that_answers_nonsense_is_a_block():
    gate = Gate(lambda text: None)  # type: ignore[arg-type,return-value]
    gate.push("One. ")
    assert gate.closed


def test_a_continued_reply_is_judged_with_what_was_there():
    guard = WordGuard("ka boom")
    gate = Gate(reply_judge(guard), already="It says ka")
    gate.push(" boom. ")
    assert gate.closed
    assert guard.asked[0][1] == "It says ka boom. "
    assert gate.released == ""


def test_a_warning_lets_text_through_with_its_decision():
    def judge(text: str) -> Decision:
        return DEFAULT_POLICY.decide(Verdict(0.0, {"insecure_code": 1.0}), "reply")

    gate = Gate(judge)
    releases = [r for piece in ["Use", " md5", ".", " "] for r in gate.push(piece)]
    assert [r.decision.action for r in releases] == ["warn"]
    assert releases[0].text.startswith("Use md5.")
