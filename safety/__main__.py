"""Commands for the built-in guard.

    python -m safety judge < in.jsonl > out.jsonl
    python -m safety benchmark [FILE ...] [--json]

`judge` answers each line with a line. `benchmark` judges labelled texts, Corral's own probes if no
file is named, and prints how many were caught and how many were flagged by mistake.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from safety.base import Guard, GuardError
from safety.benchmark import figures, grouped, judge_all, table
from safety.built_in import BUNDLED, load_built_in
from safety.judge import judge_lines
from safety.policy import PRESETS, Policy
from safety.probes import FOLDER, ProbesInvalid, read_probes


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 0, or 1 with one sentence on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m safety", description="Judge texts with the built-in guard."
    )
    parser.add_argument("command", choices=("judge", "benchmark"))
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="labelled texts")
    parser.add_argument("--guard", type=Path, default=BUNDLED, help="a folder with a guard")
    parser.add_argument("--policy", choices=tuple(PRESETS), default="owner")
    parser.add_argument("--json", action="store_true", help="figures as one JSON object")
    args = parser.parse_args(argv)
    try:
        guard = load_built_in(args.guard)
        if args.command == "benchmark":
            _benchmark(guard, PRESETS[args.policy], args.files, as_json=args.json)
        else:
            for line in judge_lines(sys.stdin.buffer, guard, PRESETS[args.policy]):
                print(line, flush=True)
    except (GuardError, ProbesInvalid) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _benchmark(guard: Guard, policy: Policy, files: Sequence[Path], *, as_json: bool) -> None:
    paths = files or sorted(FOLDER.glob("*.jsonl"))
    probes = [probe for path in paths for probe in read_probes(path)]
    groups = grouped(judge_all(guard, policy, probes))
    if as_json:
        found = {name: dataclasses.asdict(figures(judged)) for name, judged in groups.items()}
        print(json.dumps({"guard": guard.name, "version": guard.version, "groups": found}))
    else:
        print(table(groups))


if __name__ == "__main__":
    sys.exit(main())
