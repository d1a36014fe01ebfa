"""A benchmark as one HTML page, with tables and plots, or as JSON. It loads nothing from anywhere.

Several runs (guards or policies) stand side by side, in the order given.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from safety.benchmark import Figures, Judged, figures, grouped
from safety.plots import STYLE, Curve, Point, curves, swatch

_STYLE = STYLE + (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:32px auto;padding:0 20px;"
    "color:#2b2924;background:#fbfaf6}table{border-collapse:collapse;width:100%;margin:12px 0}"
    "th,td{text-align:left;padding:5px 10px;border-bottom:1px solid #ddd6c6;"
    "font-variant-numeric:tabular-nums}td{white-space:nowrap}div{overflow-x:auto}"
)
CAPTIONS = (
    "Precision over recall; the dot is where the policy stands",
    "Caught over false alarms; the dot is where the policy stands",
)


@dataclass(frozen=True, slots=True)
class Run:
    """One guard under one policy over all texts."""

    name: str
    version: str
    policy: str
    judged: Sequence[Judged]


def as_json(runs: Sequence[Run]) -> dict[str, object]:
    """All figures as one object."""
    return {
        "runs": [
            {
                "guard": run.name,
                "version": run.version,
                "policy": run.policy,
                "all": asdict(figures(run.judged)),
                "groups": {
                    name: asdict(figures(judged)) for name, judged in grouped(run.judged).items()
                },
            }
            for run in runs
        ]
    }


def as_html(runs: Sequence[Run]) -> str:
    """The page."""
    names = [f"{run.name} {run.version}, policy {run.policy}" for run in runs]
    return page("Guard benchmark", legend(names) + plots(runs) + _table(runs))


def page(title: str, body: str) -> str:
    """A whole page around `body`, which is HTML."""
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' "
        f"content='width=device-width'><title>{html.escape(title)}</title><style>{_STYLE}</style>"
        f"<h1>{html.escape(title)}</h1>{body}</html>\n"
    )


def legend(names: Sequence[str]) -> str:
    """A line for each run: how it is drawn, and what it is."""
    return "".join(f"<p>{swatch(at)} {html.escape(name)}</p>" for at, name in enumerate(names))


def plots(runs: Sequence[Run], captions: tuple[str, str] = CAPTIONS) -> str:
    """Two curves of each run, as SVG in figures."""
    both = ([_precision_recall(run.judged) for run in runs], [_caught(run.judged) for run in runs])
    return "".join(curves(caption, lines) for caption, lines in zip(captions, both, strict=True))


def by_group(runs: Sequence[Run]) -> dict[str, list[Figures | None]]:
    """The figures of each group, a run beside the other; "" is all texts together."""
    groups: dict[str, list[Figures | None]] = {"": [figures(run.judged) for run in runs]}
    each: list[Mapping[str, list[Judged]]] = [grouped(run.judged) for run in runs]
    for name in dict.fromkeys(name for found in each for name in found):
        groups[name] = [figures(found[name]) if name in found else None for found in each]
    return groups


def table(heads: Sequence[str], groups: Mapping[str, Sequence[Sequence[str] | None]]) -> str:
    """A table with a line for each run of each group; a run that lacks a group has no line."""
    rows = []
    for name, lines in groups.items():
        told = html.escape(name or "all")
        for at, cells in enumerate(lines):
            if cells is None:
                continue
            shown = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
            mark = f"{swatch(at)} " if len(lines) > 1 else ""
            rows.append(f"<tr><th scope='row'>{mark}{told}</th>{shown}</tr>")
    head = "".join(f"<th scope='col'>{html.escape(name)}</th>" for name in heads)
    return f"<div><table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"


def percent(share: float | None) -> str:
    """A share as people read it; "" for none."""
    return "" if share is None else f"{100 * share:.1f} %"


def _table(runs: Sequence[Run]) -> str:
    heads = (
        "group", "safe", "false alarms", "unsafe", "caught", "attacks passed", "AUROC", "AUPRC",
        "failed", "ms", "ms, 95 %",
    )  # fmt: skip
    found = by_group(runs)
    return table(
        heads, {name: [_cells(one) if one else None for one in row] for name, row in found.items()}
    )


def _cells(one: Figures) -> tuple[str, ...]:
    return (
        str(one.num_safe), percent(one.false_alarms), str(one.num_unsafe), percent(one.caught),
        percent(one.attack_success), _number(one.auroc), _number(one.average_precision),
        str(one.num_failed), f"{one.median_milliseconds:.1f}", f"{one.p95_milliseconds:.1f}",
    )  # fmt: skip


def _sorted(judged: Sequence[Judged]) -> list[tuple[float, int, int]]:
    """(score, unsafe found, safe found) down to each distinct score."""
    steps: list[tuple[float, int, int]] = []
    hits = alarms = 0
    for one in sorted(judged, key=lambda j: -j.score):
        hits, alarms = hits + one.probe.unsafe, alarms + (not one.probe.unsafe)
        if steps and steps[-1][0] == one.score:
            steps.pop()
        steps.append((one.score, hits, alarms))
    return steps


def _precision_recall(judged: Sequence[Judged]) -> Curve:
    total = sum(one.probe.unsafe for one in judged) or 1
    points = [(hits / total, hits / (hits + alarms)) for _, hits, alarms in _sorted(judged)]
    hits, alarms = _blocked(judged)
    stands = (hits / total, hits / (hits + alarms)) if hits + alarms else None
    return Curve(points, stands)


def _caught(judged: Sequence[Judged]) -> Curve:
    unsafe = sum(one.probe.unsafe for one in judged) or 1
    safe = sum(not one.probe.unsafe for one in judged) or 1

    def place(hits: int, alarms: int) -> Point:
        return alarms / safe, hits / unsafe

    points = [(0.0, 0.0), *(place(hits, alarms) for _, hits, alarms in _sorted(judged))]
    return Curve(points, place(*_blocked(judged)))


def _blocked(judged: Sequence[Judged]) -> tuple[int, int]:
    """How many unsafe and how many safe texts the policy stops."""
    stopped = [one.probe.unsafe for one in judged if one.blocked]
    return sum(stopped), len(stopped) - sum(stopped)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
