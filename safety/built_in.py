"""The guard that is always there: the bundled classifier and the fixed rules, tried before use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safety.base import Guard
from safety.classifier import load_guard
from safety.injection import InjectionGuard
from safety.panel import Panel, Run
from safety.private_data import PrivateDataGuard
from safety.probes import prove
from safety.rules import RuleGuard

BUNDLED = Path(__file__).resolve().parent.parent / "assets" / "models" / "corral-guard"


def load_parts(folder: Path = BUNDLED) -> tuple[Guard, Sequence[Guard]]:
    """The classifier in `folder`, and the fixed rules that stand beside every guard."""
    return load_guard(folder), (RuleGuard(), PrivateDataGuard(), InjectionGuard())


def load_built_in(folder: Path = BUNDLED, run: Run | None = None) -> Guard:
    """The built-in guard, after it has judged a few plain texts rightly.

    `run` reaches the compute thread, as for `Panel`. Blocks for a second or a few. Raises
    `GuardMissing` or `GuardBroken`; without a guard nothing may be answered.
    """
    classifier, rules = load_parts(folder)
    panel = Panel([classifier, *rules], run)
    prove(panel)
    return panel
