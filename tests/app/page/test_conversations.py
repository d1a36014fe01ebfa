"""The list: groups by date, marked snippets."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest

from app.page.conversations import _by_date, _pieces
from app.strings import Strings
from storage.records import Conversation

SAY = Strings.load("en").say
TODAY = date(2026, 3, 31)


def conversation(days_ago: int, *, pinned: bool = False) -> Conversation:
    noon = datetime(2026, 3, 31, 12) - timedelta(days=days_ago)
    at = int(noon.timestamp() * 1000)
    return Conversation(days_ago, f"k{days_ago}", 1, "t", "", None, at, at, pinned)


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
    assert [name for name, _ in _by_date([conversation(days_ago)], TODAY, SAY)] == [group]


def test_pinned_ones_have_a_group_of_their_own() -> None:
    rows = [conversation(40, pinned=True), conversation(0), conversation(1), conversation(1)]
    groups = list(_by_date(rows, TODAY, SAY))
    assert [(name, len(members)) for name, members in groups] == [
        ("Pinned", 1),
        ("Today", 1),
        ("Yesterday", 2),
    ]


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
