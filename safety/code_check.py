"""Weaknesses in the code of a reply: a quick look at its fenced blocks, for a warning under them.

Python is read as a syntax tree; C, C++, JavaScript, shell and SQL line by line. No finding does not
mean that the code is safe, only that nothing on the list was seen. A block in another language, or
one that cannot be read, is *not checked*, which is shown as such.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from safety.base import GuardBroken, Verdict
from safety.code_blocks import CodeBlock, code_blocks
from safety.code_rules import PATTERNS, Finding, check_lines
from safety.python_check import check_python

State = Literal["checked", "flagged", "not checked"]

_CERTAINTY: Mapping[str, float] = {"low": 0.4, "medium": 0.7, "high": 0.95}
_KNOWN_BAD = "```python\nimport os\nos.system('rm ' + name)\n```\n```c\ngets(line);\n```"
_MAX_CODE = 200_000  # characters of a block


@dataclass(frozen=True, slots=True)
class BlockReport:
    """What was found in one block. `reason` says why a block was not checked."""

    block: CodeBlock
    state: State
    findings: tuple[Finding, ...] = ()
    reason: str = ""


def check_code(text: str) -> list[BlockReport]:
    """A report for every fenced block of `text`, in order. Never runs anything."""
    return [_check_block(block) for block in code_blocks(text)]


def _check_block(block: CodeBlock) -> BlockReport:
    if len(block.code) > _MAX_CODE:
        return BlockReport(block, "not checked", reason="too long")
    found = list(check_lines(block.code, block.language))
    reason = ""
    if block.language == "python":
        try:
            found += check_python(_without_prompts(block.code))
        except SyntaxError:
            reason = "not complete Python"
    elif block.language not in PATTERNS:
        reason = "no rules for this language"
    if found:
        unique = {(f.line, f.rule): f for f in found}
        ordered = tuple(unique[key] for key in sorted(unique))
        return BlockReport(block, "flagged", ordered, reason)
    return BlockReport(block, "not checked" if reason else "checked", reason=reason)


def _without_prompts(code: str) -> str:
    """An interactive session as a program: prompts cut away, answers made comments."""
    if not code.lstrip().startswith(">>>"):
        return code
    return "\n".join(
        line[4:] if line.startswith((">>> ", "... ")) else f"# {line}" for line in code.split("\n")
    )


class CodeGuard:
    """The code check as a guard: it gives the category `insecure_code`, and no P(unsafe)."""

    name = "code-check"
    version = "1"

    def __init__(self) -> None:
        if not all(report.findings for report in check_code(_KNOWN_BAD)):
            raise GuardBroken("The code check does not see a plain weakness, so it is not used.")

    def judge(self, prompt: str, reply: str | None = None) -> Verdict:
        """Judge the blocks of a reply; a prompt is the user's own code and passes."""
        started = time.perf_counter()
        reports = check_code(reply) if reply is not None else []
        certainty = max((_CERTAINTY[f.severity] for r in reports for f in r.findings), default=0.0)
        scores = {"insecure_code": certainty} if certainty else {}
        seconds = time.perf_counter() - started
        return Verdict(0.0, scores, self.name, self.version, seconds)
