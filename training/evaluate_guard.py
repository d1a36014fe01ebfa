"""Score a guard on held-out rows: `python -m training.evaluate_guard [--guard DIR] [--json FILE]`.

The rows are the twentieth of every labelled source that training never sees. One line a source, one
a category, one for each kind of row, and for the probes of `safety/probes/`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from safety.benchmark import Judged, figures, judge_all, table
from safety.built_in import BUNDLED
from safety.classifier import load_guard
from safety.panel import Panel
from safety.policy import DEFAULT_POLICY
from safety.probes import FOLDER, Probe, read_probes
from safety.rules import RuleGuard
from training.guard_rows import ROOT, Row
from training.guard_sources import labelled

LABELLED = Path("safety") / "train.jsonl.xz"


def held_out_probes(rows: Iterable[Row]) -> list[Probe]:
    """Held-out rows as probes. S6-only rows are left out: they are no part of P(unsafe)."""
    return [
        Probe(
            row.text,
            bool(row.unsafe),
            "/".join((row.source, *row.categories)),
            "zh" if any("\u4e00" <= c <= "\u9fff" for c in row.text) else "en",
            row.prompt,
            row.is_reply,
        )
        for row in rows
        if row.held_out and not row.advice_only
    ]


def groups_of(judged: Sequence[Judged]) -> dict[str, list[Judged]]:
    """All rows; by language and side; by source; by category (with all safe rows beside it)."""
    groups: dict[str, list[Judged]] = {"all": list(judged)}
    for one in judged:
        side = "replies" if one.probe.is_reply else "prompts"
        groups.setdefault(f"{one.probe.language} {side}", []).append(one)
    for one in sorted(judged, key=lambda j: j.probe.kind):
        groups.setdefault(one.probe.kind.split("/")[0], []).append(one)
    for one in sorted(judged, key=lambda j: j.probe.kind):
        for category in one.probe.kind.split("/")[1:]:
            groups.setdefault(f"= {category}", []).append(one)
    return groups


def main(argv: Sequence[str] | None = None) -> None:
    """Judge, print the table, and write the figures as JSON if asked."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate_guard", description=__doc__)
    parser.add_argument("--guard", type=Path, default=BUNDLED)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    guard = Panel([load_guard(args.guard), RuleGuard()])
    held = judge_all(guard, DEFAULT_POLICY, held_out_probes(labelled(args.data / LABELLED)))
    groups = groups_of(held)
    for name in ("everyday", "harmful"):
        for one in judge_all(guard, DEFAULT_POLICY, read_probes(FOLDER / f"{name}.jsonl")):
            groups.setdefault(f"probes: {name} {one.probe.language}", []).append(one)
    print(table(groups))
    print(f"calibration error {figures(held).calibration_error:.4f}")
    if args.json:
        result = {name: dataclasses.asdict(figures(judged)) for name, judged in groups.items()}
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
