"""Curves and bars as SVG for reports, several runs side by side. They load nothing from anywhere.

What belongs to the n-th run has the class `run{n}`, whose `color` the page decides (`STYLE` for one
of its own); runs also differ in their dashes, so that nothing is told by colour alone. Captions and
labels are text and are escaped here.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

STYLE = (
    ".run0{color:#b5652b}.run1{color:#2f6f8f}.run2{color:#5f7a3a}.run3{color:#7a4f8f}"
    "figure{display:inline-block;width:360px;max-width:100%;margin:12px 24px 12px 0;"
    "vertical-align:top}figure svg{width:100%;height:auto}figcaption{font-size:13px;color:#6d675b}"
)
_DASHES = ("", "7 5", "2 4", "9 3 2 3")
_SIDE = 300  # of the square of a curve, in units of the drawing
_BAR, _GAP = 9, 10  # height of a bar, space between groups of bars

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Curve:
    """Points from 0 to 1 each way, and where on the plane one stands now."""

    points: Sequence[Point]
    stands: Point | None = None


def swatch(index: int) -> str:
    """A short piece of the line of a run, for a legend."""
    line = f"<path d='M0 5H24' stroke='currentColor' stroke-width='2.5'{_dashes(index)}/>"
    return f"<svg class='run{index}' width='24' height='10' aria-hidden='true'>{line}</svg>"


def curves(caption: str, lines: Sequence[Curve]) -> str:
    """A figure with a line for each run, and a dot where it stands."""
    drawn = "".join(_curve(index, line) for index, line in enumerate(lines))
    return _figure(caption, f"-34 -8 {_SIDE + 44} {_SIDE + 34}", _axes() + drawn)


def bars(caption: str, rows: Sequence[tuple[str, Sequence[float | None]]]) -> str:
    """A figure with a group of bars for each row: its label, and a share of each run or None."""
    drawn, top = [], 0
    for label, shares in rows:
        drawn.append(
            f"<text y='{top + 11}' font-size='12' fill='currentColor'>{_text(label)}</text>"
        )
        top += 16
        for index, share in enumerate(shares):
            if share is not None:
                drawn.append(_bar(index, share, top))
                top += _BAR + 2
        top += _GAP
    return _figure(caption, f"0 0 {_SIDE + 44} {top}", "".join(drawn))


def _curve(index: int, line: Curve) -> str:
    path = " ".join(f"{x * _SIDE:.1f},{(1 - y) * _SIDE:.1f}" for x, y in line.points)
    dot = ""
    if line.stands is not None:
        x, y = line.stands
        dot = f"<circle cx='{x * _SIDE:.1f}' cy='{(1 - y) * _SIDE:.1f}' r='5' fill='currentColor'/>"
    return (
        f"<g class='run{index}'><polyline points='{path}' fill='none' stroke='currentColor' "
        f"stroke-width='2.5'{_dashes(index)}/>{dot}</g>"
    )


def _bar(index: int, share: float, top: int) -> str:
    width = max(1.0, share * _SIDE)
    hollow = " fill-opacity='.35' stroke='currentColor'" if index else ""
    return (
        f"<g class='run{index}'><rect y='{top}' width='{width:.1f}' height='{_BAR}' rx='2' "
        f"fill='currentColor'{hollow}/></g><text x='{width + 6:.1f}' y='{top + _BAR}' "
        f"font-size='11' fill='currentColor'>{100 * share:.0f} %</text>"
    )


def _axes() -> str:
    """A frame, its middle lines, and 0, 0.5 and 1 along both sides."""
    half = _SIDE // 2
    drawn = [
        f"<path d='M0 0H{_SIDE}V{_SIDE}H0ZM0 {half}H{_SIDE}M{half} 0V{_SIDE}' fill='none' "
        "stroke='currentColor' stroke-opacity='.25'/>"
    ]
    for share, name in ((0.0, "0"), (0.5, "0.5"), (1.0, "1")):
        place = share * _SIDE
        style = "font-size='12' fill='currentColor' fill-opacity='.75'"
        drawn.append(
            f"<text x='{place}' y='{_SIDE + 18}' text-anchor='middle' {style}>{name}</text>"
        )
        drawn.append(
            f"<text x='-8' y='{_SIDE - place + 4}' text-anchor='end' {style}>{name}</text>"
        )
    return "".join(drawn)


def _figure(caption: str, box: str, drawn: str) -> str:
    said = _text(caption)
    return (
        f"<figure><svg viewBox='{box}' role='img' aria-label='{said}'>{drawn}</svg>"
        f"<figcaption>{said}</figcaption></figure>"
    )


def _dashes(index: int) -> str:
    dashes = _DASHES[index % len(_DASHES)]
    return f" stroke-dasharray='{dashes}'" if dashes else ""


def _text(text: str) -> str:
    return html.escape(text, quote=True)
