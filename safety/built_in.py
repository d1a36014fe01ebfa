"""The guard that is always there: the bundled classifier and the fixed rules, tried before use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safety.base import Guard, Verdict
from safety.classifier import load_guard
from safety.injection import InjectionGuard
from safety.panel import Panel
from safety.private_data import PrivateDataGuard
from safety.probes import prove
from safety.rules import RuleGuard
from safety.together import Run, at_once

BUNDLED = Path(__file__).resolve().parent.parent / "assets" / "models" / "corral-guard"


class Rules:
    """All fixed rules as one guard: they take microseconds, so they are asked in turn."""

    name = "rules"
    version = "2"

    def __init__(self) -> None:
        self._guards: Sequence[Guard] = (RuleGuard(), PrivateDataGuard(), InjectionGuard())

    def judge(self, prompt: str, reply: str | None = None) -> Verdict:
        """The highest score of each category; P(unsafe) is that of the rule for minors."""
        verdicts = [guard.judge(prompt, reply) for guard in self._guards]
        scores: dict[str, float] = {}
        for verdict in verdicts:
            for key, score in verdict.scores.items():
                scores[key] = max(score, scores.get(key, 0.0))
        seconds = sum(verdict.seconds for verdict in verdicts)
        return Verdict(max(v.score for v in verdicts), scores, self.name, self.version, seconds)


def load_parts(folder: Path = BUNDLED, run: Run = at_once) -> tuple[Guard, Guard]:
    """The classifier in `folder`, and the fixed rules that stand beside every guard."""
    return load_guard(folder, run), Rules()


def load_built_in(folder: Path = BUNDLED) -> Guard:
    """The built-in guard, after it has judged a few plain texts rightly.

    Blocks for a second or a few. Raises `GuardMissing` or `GuardBroken`; without a guard nothing
    may be answered.
    """
    panel = Panel(load_parts(folder))
    prove(panel)
    return panel
