"""Weaknesses in the code of a reply: a quick look at its fenced blocks, for a warning under them.

Python is read as a syntax tree; C, C++, JavaScript, shell and SQL line by line. No finding does not
mean that the code is safe, only that nothing on the list was seen. A block in another language, or
one that cannot be read, is *not checked*, which is shown as such. A second look may be added
(`safety/code_shield.py`); what it sees is shown beside ours, and where it fails nothing counts as
checked.
"""

from __future__ import annotations

import ast
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from safety.base import Verdict
from safety.code_blocks import CodeBlock, code_blocks
from safety.code_rules import PATTERNS, Finding, check_lines
from safety.python_check import check_python

State = Literal["checked", "flagged", "not checked"]
Look = Callable[[CodeBlock], Sequence[Finding] | None]
"""A second look at a block: findings, or None where it has nothing to say. Raises `NotChecked`."""

NAME, VERSION = "code-check", "1"
_CERTAINTY: Mapping[str, float] = {"low": 0.4, "medium": 0.7, "high": 0.95}
_MAX_CODE = 200_000  # characters of a block
_MAX_DROPPED = 30  # lines at the end of a growing block that need not parse


@dataclass(frozen=True, slots=True)
class BlockReport:
    """What was found in one block. `reason` says why a block was not checked."""

    block: CodeBlock
    state: State
    findings: tuple[Finding, ...] = ()
    reason: str = ""


class NotChecked(Exception):
    """A second look failed, and why."""


def check_code(text: str, look: Look | None = None) -> list[BlockReport]:
    """A report for every fenced block of `text`, in order. Never runs any of it.

    `look` is asked about blocks that are complete; it may take a second for each.
    """
    reports = [_check_block(block) for block in code_blocks(text)]
    if look is None:
        return reports
    return [_looked_again(one, look) if one.block.closed else one for one in reports]


def _looked_again(report: BlockReport, look: Look) -> BlockReport:
    try:
        more = look(report.block)
    except NotChecked as error:
        state: State = "flagged" if report.findings else "not checked"
        return replace(report, state=state, reason=str(error))
    if more is None:
        return report
    known = {(finding.line, finding.cwe) for finding in report.findings}
    added = [finding for finding in more if (finding.line, finding.cwe) not in known]
    findings = tuple(sorted((*report.findings, *added), key=lambda f: (f.line, f.rule)))
    return BlockReport(report.block, "flagged" if findings else "checked", findings)


def _check_block(block: CodeBlock) -> BlockReport:
    if len(block.code) > _MAX_CODE:
        return BlockReport(block, "not checked", reason="too long")
    found = list(check_lines(block.code, block.language))
    reason = ""
    if block.language == "python":
        code = _without_prompts(block.code)
        try:
            found += check_python(code if block.closed else _complete(code))
        except SyntaxError:
            reason = "not complete Python"
    elif block.language not in PATTERNS:
        reason = "no rules for this language"
    if found:
        unique = {(f.line, f.rule): f for f in found}
        ordered = tuple(unique[key] for key in sorted(unique))
        return BlockReport(block, "flagged", ordered, reason)
    return BlockReport(block, "not checked" if reason else "checked", reason=reason)


def _complete(code: str) -> str:
    """As much of a program that is still being written as can be read: the last lines go."""
    lines = code.split("\n")
    for num_dropped in range(min(_MAX_DROPPED, len(lines))):
        part = "\n".join(lines[: len(lines) - num_dropped])
        try:
            ast.parse(part)
        except SyntaxError:
            continue
        return part
    return code


def judge_code(text: str, look: Look | None = None) -> tuple[Verdict, Sequence[BlockReport]] | None:
    """The verdict on the fenced code of a reply, with its reports; None where there is none."""
    started = time.perf_counter()
    if not (reports := check_code(text, look)):
        return None
    certainty = max((_CERTAINTY[f.severity] for r in reports for f in r.findings), default=0.0)
    scores = {"insecure_code": certainty} if certainty else {}
    seconds = time.perf_counter() - started
    name = NAME if look is None else f"{NAME}+code-shield"
    return Verdict(0.0, scores, name, VERSION, seconds), reports


def _without_prompts(code: str) -> str:
    """An interactive session as a program: prompts cut away, answers made comments."""
    if not code.lstrip().startswith(">>>"):
        return code
    return "\n".join(
        line[4:] if line.startswith((">>> ", "... ")) else f"# {line}" for line in code.split("\n")
    )
