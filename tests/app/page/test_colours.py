"""Every pair of text and ground in the stylesheet has a contrast of at least 4.5 : 1 (WCAG AA)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

STYLE = Path(__file__).parents[3] / "assets" / "corral.css"
GROUNDS = ("paper", "panel", "card")
INKS = ("ink", "soft", "faint", "accent", "ok", "warn", "stop")
CODE = ("keyword", "string", "comment", "number", "name")
PAIRS = [(ink, ground) for ink in INKS for ground in GROUNDS] + [
    *(("ink", "accent-soft"), ("on-accent", "accent"), ("ink", "mark")),
    *((ink, "code") for ink in ("ink", "faint", "stop", *CODE)),
]


def palette(theme: str) -> dict[str, str]:
    opening = ":root {" if theme == "light" else '[data-theme="dark"] {'
    block = STYLE.read_text(encoding="utf-8").split(opening, 1)[1].split("}", 1)[0]
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6});", block))


def luminance(colour: str) -> float:
    """Relative luminance after WCAG 2.2."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("ink", "ground"), PAIRS)
def test_text_can_be_read(theme: str, ink: str, ground: str) -> None:
    colours = palette(theme)
    assert contrast(colours[ink], colours[ground]) >= 4.5


def test_black_on_white_is_twenty_one() -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21)
