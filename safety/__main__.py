"""Commands for the built-in guard.

    python -m safety judge < in.jsonl > out.jsonl
    python -m safety benchmark [FILE_OR_FOLDER ...] [--json] [--html FILE] [--compare OTHER]
    python -m safety code-shield FOLDER

`judge` answers each line with a line. `benchmark` judges labelled texts, Corral's own probes if no
file is named, and prints how many were caught and how many were flagged by mistake. With
`--compare` a second guard (a folder or an address) or policy (its name) stands beside the first.
`code-shield` installs Meta's Code Shield into an environment of its own and tries it; started with
`--code-shield FOLDER`, Corral then uses it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from safety.base import Guard, GuardBroken, GuardError, NextToken
from safety.benchmark import figures, grouped, judge_all, table, under
from safety.built_in import BUNDLED, load_built_in
from safety.choice import load_chosen
from safety.code_shield import CodeShield, install
from safety.datasets import read_folder
from safety.judge import judge_lines
from safety.policy import PRESETS, Policy
from safety.probes import FOLDER, Probe, ProbesInvalid
from safety.report import Run, as_html, as_json


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 0, or 1 with one sentence on stderr."""
    args = _arguments(argv)
    try:
        if args.command == "code-shield":
            return _install_code_shield(args.files)
        guard = load_built_in(args.guard)
        if args.command == "benchmark":
            _benchmark(guard, args)
        else:
            for line in judge_lines(sys.stdin.buffer, guard, PRESETS[args.policy]):
                print(line, flush=True)
        sys.stdout.flush()
    except (GuardError, ProbesInvalid) as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read this has had enough: `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m safety", description="Judge texts, measure guards, add Code Shield."
    )
    parser.add_argument("command", choices=("judge", "benchmark", "code-shield"))
    parser.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="labelled texts, or the folder"
    )
    parser.add_argument("--guard", type=Path, default=BUNDLED, help="a folder with a guard")
    parser.add_argument("--policy", choices=tuple(PRESETS), default="owner")
    parser.add_argument("--compare", metavar="OTHER", help="a guard or a policy")
    parser.add_argument("--json", action="store_true", help="figures as one JSON object")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots")
    return parser.parse_args(argv)


def _benchmark(guard: Guard, args: argparse.Namespace) -> None:
    places = args.files or sorted(FOLDER.glob("*.jsonl"))
    probes = [probe for place in places for probe in read_folder(place)]
    policy: Policy = PRESETS[args.policy]
    runs = [_run(guard, policy, probes)]
    if args.compare in PRESETS:
        other = PRESETS[args.compare]
        runs.append(replace(runs[0], policy=other.name, judged=under(runs[0].judged, other)))
    elif args.compare:
        runs.append(_run(load_chosen(args.compare, read=_no_reader), policy, probes))
    if args.html:
        args.html.write_text(as_html(runs), encoding="utf-8")
    if args.json and len(runs) == 1:
        found = {name: asdict(figures(j)) for name, j in grouped(runs[0].judged).items()}
        print(json.dumps({"guard": guard.name, "version": guard.version, "groups": found}))
    elif args.json:
        print(json.dumps(as_json(runs)))
    else:
        for run in runs:
            print(f"{run.name} {run.version}, policy {run.policy}", file=sys.stderr)
            print(table(grouped(run.judged)))


def _install_code_shield(folders: Sequence[Path]) -> int:
    if len(folders) != 1:
        print(
            "Name one new folder: python -m safety code-shield FOLDER",
            file=sys.stderr,
        )
        return 2
    print("Downloading about 200 MB ...", file=sys.stderr)
    install(folders[0])
    shield = CodeShield(folders[0])
    shield.start()
    print(f"Code Shield {shield.version} works. Start Corral with --code-shield {folders[0]}")
    shield.close()
    return 0


def _run(guard: Guard, policy: Policy, probes: Sequence[Probe]) -> Run:
    return Run(guard.name, guard.version, policy.name, judge_all(guard, policy, probes))


def _no_reader(folder: Path) -> NextToken:
    raise GuardBroken(
        f"{folder} is a language model, which needs the engine: choose it on the page, under "
        "Safety, and run the self-test there."
    )


if __name__ == "__main__":
    sys.exit(main())
