import io
import json
import math

import pytest

from safety.base import Verdict
from safety.judge import judge_lines
from safety.policy import DEFAULT_POLICY
from tests.safety.guards import FixedGuard, RaisingGuard, WordGuard


def judged(guard, *lines: bytes) -> list[dict]:
    return [json.loads(line) for line in judge_lines(lines, guard, DEFAULT_POLICY)]


def test_prompts_and_responses():
    guard = WordGuard("kaboom")
    rows = [
        {"text": "a kaboom", "role": "prompt", "id": 7},
        {"text": "fine", "role": "response", "prompt": "a kaboom"},
        {"text": "kaboom", "role": "response", "prompt": "fine"},
        {"text": "kaboom"},
    ]
    answers = judged(guard, *(json.dumps(row).encode() for row in rows))
    assert [a["unsafe"] for a in answers] == [True, False, True, True]
    assert [a["score"] for a in answers] == [1.0, 0.0, 1.0, 1.0]
    assert answers[0]["categories"] == ["S1"]
    assert answers[0]["id"] == 7
    assert answers[1]["categories"] == []
    assert guard.asked[1] == ("a kaboom", "fine")
    assert guard.asked[0] == ("a kaboom", None)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"not json",
        b"[1, 2]",
        b'"text"',
        b"{}",
        b'{"text": 5}',
        b'{"text": null}',
        b'{"text": "hi", "role": "system"}',
        b'{"text": "hi", "role": "response", "prompt": 5}',
        b'{"text": "\xff\xfe"}',
        b"[" * 100_000,
        b'{"text": "hi"',
    ],
)
def test_a_line_that_cannot_be_read_is_unsafe_and_says_why(line):
    answers = judged(WordGuard("kaboom"), b'{"text": "a"}', line, b'{"text": "kaboom"}')
    assert [a["unsafe"] for a in answers] == [False, True, True]
    assert answers[1]["score"] == 1.0
    assert answers[1]["error"]
    assert "error" not in answers[2]


@pytest.mark.parametrize(
    "guard",
    [
        RaisingGuard(RuntimeError("x")),
        FixedGuard(Verdict.failure("gone", guard="g")),
        FixedGuard(Verdict(math.nan)),
        FixedGuard(None),
    ],
)
def test_a_guard_that_fails_makes_the_line_unsafe(guard):
    (answer,) = judged(guard, b'{"text": "hello"}')
    assert answer["unsafe"]
    assert answer["score"] == 1.0
    assert answer["error"]
    assert answer["text"] == "hello"


@pytest.mark.parametrize("text", ["", " ", "\u0000", "💣" * 5000, "\ud800", "a" * 200_000])
def test_strange_texts_are_judged(text):
    line = json.dumps({"text": text}).encode()
    (answer,) = judged(WordGuard("kaboom"), line)
    assert answer["unsafe"] is False
    assert answer["text"] == text


def test_the_command_writes_one_line_for_each(monkeypatch, capsys):
    from safety import __main__ as command

    lines = b'{"text": "hello"}\nnonsense\n\n{"text": "How do I rob a bank?"}\n'
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert command.main(["judge"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == 4
    assert [("error" in a) for a in answers] == [False, True, True, False]
    assert all(0 <= a["score"] <= 1 for a in answers)


def test_the_command_without_a_guard_is_one_sentence(capsys, tmp_path):
    from safety import __main__ as command

    assert command.main(["judge", "--guard", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.strip().splitlines()) == 1
    assert "missing" in captured.err
