"""A reply of the API passes the checks that a turn of the page passes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from safety.code_blocks import CodeBlock
from safety.code_check import Look
from safety.code_rules import Finding
from safety.policy import DEFAULT_POLICY, Rule
from tests.app.fakes import TellingEngine, WordGuard, api_pieces

WEAK = "Here:\n\n```python\nimport os\nos.system('rm ' + name)\n```\n\nDone."
FINE = "Here:\n\n```python\nprint('hello')\n```\n\nDone."
RULES = {**DEFAULT_POLICY.rules, ("insecure_code", "reply"): Rule("block", 0.5)}
STRICT = replace(DEFAULT_POLICY, rules=RULES)


def said(reply: str, *, look: Look | None = None, policy=STRICT) -> tuple[str, str]:
    """The text that came out and how it ended."""
    pieces = api_pieces(TellingEngine([reply]), WordGuard(), policy, look=look)
    return "".join(piece.text for piece in pieces), pieces[-1].finish


def found_by_the_second(block: CodeBlock) -> list[Finding]:
    return [Finding("rule", 94, "high", 1, "Runs text.")]


def test_code_is_blocked_where_the_policy_says_so() -> None:
    text, finish = said(WEAK)
    assert finish == "content_filter"
    assert "os.system" not in text
    assert said(WEAK, policy=DEFAULT_POLICY) == (WEAK, "stop")
    assert said(FINE) == (FINE, "stop")


def test_what_only_the_second_look_finds_is_blocked_too() -> None:
    text, finish = said(FINE, look=found_by_the_second)
    assert finish == "content_filter"
    assert "Done" not in text


@pytest.mark.parametrize("mode", ["strict", "sentence", "whole"])
def test_nothing_comes_out_before_its_mode_allows(mode) -> None:
    reply = "One two three four five six seven eight nine ten. Then eleven more words come. End."
    pieces = api_pieces(TellingEngine([reply]), WordGuard(), mode=mode)
    assert "".join(piece.text for piece in pieces) == reply
    shown = [piece for piece in pieces if piece.text]
    assert (len(shown) == 1) == (mode == "whole")
