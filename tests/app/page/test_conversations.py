"""The list: groups by date, marked snippets."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest

from app.page.conversations import _pieces, by_date
from app.strings import Strings

SAY = Strings.load("en").say
TODAY = date(2026, 3, 31)


def row(days_ago: int, *, pinned: bool = False) -> tuple[bool, int]:
    noon = datetime(2026, 3, 31, 12) - timedelta(days=days_ago)
    return pinned, int(noon.timestamp() * 1000)


@pytest.mark.parametrize(
    ("days_ago", "group"),
    [
        (-1, "Today"),
        (0, "Today"),
        (1, "Yesterday"),
        (2, "Last 7 days"),
        (6, "Last 7 days"),
        (7, "Last 30 days"),
        (29, "Last 30 days"),
        (31, "February 2026"),
        (365, "March 2025"),
    ],
)
def test_groups_by_date(days_ago: int, group: str) -> None:
    assert list(by_date([row(days_ago)], TODAY, SAY)) == [(group, 0)]


def test_pinned_ones_have_a_group_of_their_own() -> None:
    rows = [row(40, pinned=True), row(0, pinned=True), row(0), row(1), row(1), row(31), row(32)]
    assert list(by_date(rows, TODAY, SAY)) == [
        ("Pinned", 0),
        ("Today", 2),
        ("Yesterday", 3),
        ("February 2026", 5),
    ]


def test_groups_of_many_are_those_of_each() -> None:
    rows = [row(days) for days in range(-1, 900)]
    each = [next(by_date([one], TODAY, SAY))[0] for one in rows]
    whole = list(by_date(rows, TODAY, SAY))
    assert whole == [(name, n) for n, name in enumerate(each) if n == 0 or each[n - 1] != name]


@pytest.mark.parametrize(
    ("marks", "pieces"),
    [
        ([], [("one two", False)]),
        ([(0, 3)], [("one", True), (" two", False)]),
        ([(4, 7)], [("one ", False), ("two", True)]),
        ([(4, 7), (0, 3)], [("one", True), (" ", False), ("two", True)]),
        ([(0, 7), (2, 4)], [("one two", True)]),
        ([(5, 99)], [("one two", False)]),
    ],
)
def test_snippets_are_cut_at_their_marks(
    marks: list[tuple[int, int]], pieces: list[tuple[str, bool]]
) -> None:
    assert list(_pieces("one two", marks)) == pieces
