"""Counts, sizes and times as people read them."""

from __future__ import annotations

import pytest

from app.page.figures import count, size, time_left


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (44_000, "44,000"), (4_200_000, "4.2 M"), (1_235_814_400, "1.2 B")],
)
def test_counts_are_short(number: int, text: str) -> None:
    assert count(number) == text


def test_sizes_are_those_of_disks() -> None:
    assert [size(n) for n in (200_000, 723_600_000, 2_471_628_800)] == [
        "0.2 MB",
        "723.6 MB",
        "2.5 GB",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(45.4, "45 s"), (700, "12 min"), (12_000, "3 h 20 min")]
)
def test_times_are_rounded(seconds: float, text: str) -> None:
    assert time_left(seconds) == text
