"""Small charts as points and labels; the templates draw them as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.page.figures import size
from app.preferences import Standing
from storage.records import Generation

WIDTH, HEIGHT = 640.0, 110.0  # of the plotted area, in the SVG's own units


@dataclass(frozen=True, slots=True)
class Line:
    """One quantity over the answers of a session. `points` is what SVG's polyline takes."""

    points: str
    dots: Sequence[tuple[float, float]]
    highest: str
    last: str


@dataclass(frozen=True, slots=True)
class SessionChart:
    """Speed and memory, one point an answer. `memory` is None where no engine told it."""

    speed: Line
    memory: Line | None


@dataclass(frozen=True, slots=True)
class Bar:
    """A win rate with its interval, in percent of the width."""

    name: str
    low: float
    high: float
    rate: float
    label: str


def session_chart(runs: Sequence[Generation]) -> SessionChart | None:
    """The chart of these runs, oldest first; None for less than two."""
    measured = [run for run in runs if run.tokens_per_second]
    if len(measured) < 2:
        return None
    speeds = [run.tokens_per_second for run in measured]
    bytes_used = [float(run.memory_bytes) for run in measured]
    highest = max(bytes_used)
    return SessionChart(
        _line(speeds, f"{max(speeds):.1f}", f"{speeds[-1]:.1f}"),
        _line(bytes_used, size(int(highest)), size(int(bytes_used[-1]))) if highest else None,
    )


def interval_chart(found: Sequence[Standing]) -> list[Bar]:
    """One bar a contestant that has won or lost anything."""
    bars = []
    for one in found:
        if one.rate is not None:
            low, high = one.interval
            label = f"{one.rate:.0%} ({low:.0%} – {high:.0%})"
            bars.append(Bar(one.name, 100 * low, 100 * high, 100 * one.rate, label))
    return bars


def _line(values: Sequence[float], highest: str, last: str) -> Line:
    """From zero at the bottom to the highest value at the top."""
    top, step = max(values) or 1.0, WIDTH / (len(values) - 1)
    dots = [(round(n * step, 1), round(HEIGHT * (1 - v / top), 1)) for n, v in enumerate(values)]
    return Line(" ".join(f"{x},{y}" for x, y in dots), dots, highest, last)
