"""Charts: where the points of a line and the ends of an interval lie."""

from __future__ import annotations

import pytest

from app.page.charts import HEIGHT, WIDTH, interval_chart, session_chart
from app.preferences import Standing
from tests.storage.make import generation


def test_a_line_runs_from_the_left_to_the_right_and_from_zero_to_the_highest() -> None:
    runs = [
        generation(tokens_per_second=speed, memory_bytes=2_000_000_000)
        for speed in (5.0, 20.0, 10.0)
    ]
    chart = session_chart(runs)
    assert chart is not None
    assert chart.speed.dots == [(0.0, HEIGHT * 0.75), (WIDTH / 2, 0.0), (WIDTH, HEIGHT / 2)]
    assert (chart.speed.highest, chart.speed.last) == ("20.0", "10.0")
    assert chart.speed.points == f"0.0,82.5 {WIDTH / 2},0.0 {WIDTH},55.0"
    assert chart.memory is not None
    assert [y for _, y in chart.memory.dots] == [0.0, 0.0, 0.0]
    assert chart.memory.last == "2.0 GB"


def test_a_single_answer_makes_no_chart_and_one_without_a_speed_no_point() -> None:
    assert session_chart([]) is None
    assert session_chart([generation(), generation(tokens_per_second=0.0)]) is None


def test_where_no_engine_told_its_memory_there_is_no_line_of_it() -> None:
    chart = session_chart([generation(), generation()])
    assert chart is not None and chart.memory is None


def test_an_interval_lies_around_its_rate() -> None:
    (bar,) = interval_chart([Standing("a", 8, 2, 5), Standing("b", 0, 0, 3)])
    assert (bar.name, bar.rate) == ("a", 80.0)
    assert (bar.low, bar.high) == (pytest.approx(49.02, abs=0.01), pytest.approx(94.33, abs=0.01))
    assert bar.label == "80% (49% – 94%)"
