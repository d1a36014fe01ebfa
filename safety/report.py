"""A benchmark as one HTML page: tables, and plots drawn as SVG. It loads nothing from anywhere.

Several runs (guards or policies) stand side by side, in the order given.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from safety.benchmark import Figures, Judged, figures, grouped

COLOURS = ("#2f6f8f", "#b5652b", "#5f7a3a", "#7a4f8f")
_SIDE = 320  # of a plot, in pixels
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:32px auto;padding:0 20px;"
    "color:#2b2924;background:#fbfaf6}table{border-collapse:collapse;width:100%;margin:12px 0}"
    "th,td{text-align:left;padding:5px 10px;border-bottom:1px solid #ddd6c6;"
    "font-variant-numeric:tabular-nums}figure{display:inline-block;margin:12px 24px 12px 0}"
    "figcaption{font-size:13px;color:#6d675b}"
)


_Curve = Callable[[Sequence[Judged]], list[tuple[float, float]]]


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
    head = "".join(
        f"<p><b style='color:{COLOURS[i % len(COLOURS)]}'>{_title(run)}</b></p>"
        for i, run in enumerate(runs)
    )
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>Guard benchmark</title>"
        f"<style>{_STYLE}</style><h1>Guard benchmark</h1>{head}{plots(runs)}{_table(runs)}</html>\n"
    )


CAPTIONS = ("Precision over recall, from 0 to 1", "Caught over false alarms, from 0 to 1")


def plots(runs: Sequence[Run], captions: tuple[str, str] = CAPTIONS) -> str:
    """Two curves of each run, as SVG in figures."""
    curves = (_precision_recall, _caught_over_alarms)
    return "".join(
        _plot(html.escape(caption), runs, curve)
        for caption, curve in zip(captions, curves, strict=True)
    )


def _title(run: Run) -> str:
    return html.escape(f"{run.name} {run.version}, policy {run.policy}")


def _table(runs: Sequence[Run]) -> str:
    groups: dict[str, list[Figures | None]] = {"all": [figures(run.judged) for run in runs]}
    each: list[Mapping[str, list[Judged]]] = [grouped(run.judged) for run in runs]
    for name in dict.fromkeys(name for found in each for name in found):
        groups[name] = [figures(found[name]) if name in found else None for found in each]
    rows = []
    for name, cells in groups.items():
        for index, one in enumerate(cells):
            if one is None:
                continue
            label = html.escape(name) if index == 0 else ""
            colour = COLOURS[index % len(COLOURS)]
            values = (
                one.num_safe, _percent(one.false_alarms), one.num_unsafe, _percent(one.caught),
                _percent(one.attack_success), _number(one.auroc), _number(one.average_precision),
                one.num_failed, f"{one.median_milliseconds:.1f}", f"{one.p95_milliseconds:.1f}",
            )  # fmt: skip
            shown = "".join(f"<td>{value}</td>" for value in values)
            rows.append(f"<tr style='color:{colour}'><th scope='row'>{label}</th>{shown}</tr>")
    heads = (
        "group", "safe", "false alarms", "unsafe", "caught", "attacks passed", "AUROC", "AUPRC",
        "failed", "ms", "ms, 95 %",
    )  # fmt: skip
    head = "".join(f"<th scope='col'>{name}</th>" for name in heads)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _plot(title: str, runs: Sequence[Run], curve: _Curve) -> str:
    lines = []
    for index, run in enumerate(runs):
        points = curve(run.judged)
        path = " ".join(f"{x * _SIDE:.1f},{(1 - y) * _SIDE:.1f}" for x, y in points)
        colour = COLOURS[index % len(COLOURS)]
        lines.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>")
    frame = f"<rect width='{_SIDE}' height='{_SIDE}' fill='none' stroke='#ccc5b5'/>"
    return (
        f"<figure><svg width='{_SIDE + 4}' height='{_SIDE + 4}' viewBox='-2 -2 {_SIDE + 4} "
        f"{_SIDE + 4}' role='img' aria-label='{title}'>{frame}{''.join(lines)}</svg>"
        f"<figcaption>{title}</figcaption></figure>"
    )


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


def _precision_recall(judged: Sequence[Judged]) -> list[tuple[float, float]]:
    total = sum(one.probe.unsafe for one in judged) or 1
    return [(hits / total, hits / (hits + alarms)) for _, hits, alarms in _sorted(judged)]


def _caught_over_alarms(judged: Sequence[Judged]) -> list[tuple[float, float]]:
    unsafe = sum(one.probe.unsafe for one in judged) or 1
    safe = sum(not one.probe.unsafe for one in judged) or 1
    steps = _sorted(judged)
    return [(0.0, 0.0), *((alarms / safe, hits / unsafe) for _, hits, alarms in steps)]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
