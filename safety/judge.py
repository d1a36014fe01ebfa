"""Judging JSON lines: one line out for one line in, whatever comes.

In: `{"text": ..., "role": "prompt" | "response", "prompt"?: ...}`. Out: the same object with
`unsafe`, `score` (P(unsafe)), `categories` (codes at or over their threshold) and `scores` (code →
probability). A line that cannot be read or judged is unsafe, with the reason in `error`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from safety.base import Guard, Side
from safety.categories import CATEGORIES
from safety.policy import Policy

_NAMED_FROM = 0.5  # a category without a rule of its own is listed from this score on


class LineInvalid(ValueError):
    """A line is not what `judge` reads."""


def judge_lines(lines: Iterable[bytes], guard: Guard, policy: Policy) -> Iterator[str]:
    """Judge each line. Never raises for what a line holds."""
    for line in lines:
        fields: dict[str, Any] = {}
        try:
            fields = _fields(line)
            answer = judge_row(fields, guard, policy)
        except LineInvalid as error:
            answer = _unreadable(str(error))
        except Exception as error:  # one line out for one in, and never a pass by accident
            answer = _unreadable(f"The guard stopped with {type(error).__name__}.")
        yield json.dumps({**fields, **answer})


def judge_row(fields: dict[str, Any], guard: Guard, policy: Policy) -> dict[str, Any]:
    """What is added to one row."""
    text, prompt = fields["text"], fields.get("prompt") or ""
    is_reply = fields.get("role", "prompt") == "response"
    verdict = guard.judge(prompt, text) if is_reply else guard.judge(text)
    side: Side = "reply" if is_reply else "prompt"
    decision = policy.decide(verdict, side)
    if decision.failed:
        return _unreadable(decision.failed)
    named = [
        CATEGORIES[key].code
        for key, score in verdict.scores.items()
        if score >= min(_NAMED_FROM, policy.rule(key, side).threshold)
    ]
    scores = {CATEGORIES[key].code: round(score, 4) for key, score in verdict.scores.items()}
    return {
        "unsafe": decision.blocks or verdict.score >= policy.overall[side].threshold,
        "score": round(verdict.score, 6),
        "categories": named,
        "scores": scores,
    }


def _fields(line: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise LineInvalid("This line is not a JSON object in UTF-8.") from error
    if not isinstance(fields, dict):
        raise LineInvalid("This line is not a JSON object.")
    text, role, prompt = fields.get("text"), fields.get("role", "prompt"), fields.get("prompt")
    if not isinstance(text, str):
        raise LineInvalid('The line has no "text" that is a string.')
    if role not in ("prompt", "response"):
        raise LineInvalid('"role" must be "prompt" or "response".')
    if prompt is not None and not isinstance(prompt, str):
        raise LineInvalid('"prompt" must be a string.')
    return fields


def _unreadable(reason: str) -> dict[str, Any]:
    return {"unsafe": True, "score": 1.0, "categories": [], "scores": {}, "error": reason}
