"""The guard that is always there: the bundled classifier and the fixed rules, tried before use."""

from __future__ import annotations

from pathlib import Path

from safety.base import Guard
from safety.classifier import load_guard
from safety.panel import Panel, Run
from safety.probes import prove
from safety.rules import RuleGuard

BUNDLED = Path(__file__).resolve().parent.parent / "assets" / "models" / "corral-guard"


def load_built_in(folder: Path = BUNDLED, run: Run | None = None) -> Guard:
    """The built-in guard, after it has judged a few plain texts rightly.

    `run` reaches the compute thread, as for `Panel`. Blocks for a second or a few. Raises
    `GuardMissing` or `GuardBroken`; without a guard nothing may be answered.
    """
    panel = Panel([load_guard(folder), RuleGuard()], run)
    prove(panel)
    return panel
