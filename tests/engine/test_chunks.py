"""How much of a prompt is read while others wait."""

import pytest

from engine.chunks import STALL_SECONDS, Chunks


@pytest.mark.parametrize("rate", [10, 100, 400, 900, 20_000])
def test_others_wait_no_longer_than_they_may(rate: int) -> None:
    chunks = Chunks(512, 512)
    for _ in range(20):
        num = chunks.num(10_000, alone=False)
        chunks.record(num, num / rate)
    assert num == max(64, min(512, int(STALL_SECONDS * rate)))
    assert chunks.num(10_000, alone=True) == 512


def test_what_is_asked_for_bounds_it() -> None:
    chunks = Chunks(64, 16)
    assert [chunks.num(5000, alone=alone) for alone in (True, False)] == [64, 16]
    assert chunks.num(5, alone=True) == 5
    narrow = Chunks(512, 512, width=8)
    assert [narrow.num(5000, alone=alone) for alone in (True, False)] == [8, 8]


def test_one_slow_chunk_does_not_decide_and_short_ones_say_nothing() -> None:
    chunks = Chunks(512, 512)
    for _ in range(5):
        chunks.record(100, 0.1)
    chunks.record(4, 3.0)
    assert chunks.num(1000, alone=False) == 500
    chunks.record(100, 0.2)
    assert 350 < chunks.num(1000, alone=False) < 500
