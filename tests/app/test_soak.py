"""Many short turns on the whole way of a message: nothing piles up. 10,000 in `benchmarks.soak`."""

from pathlib import Path

import pytest

from benchmarks.soak import ALLOWED_BYTES, Sample, growth, soak
from engine.kept_files import KEPT_FOLDER
from engine.local import LocalEngine
from engine.options import Options
from tests.app.house import make_services
from tests.engine.checkpoints import make_checkpoint


def run(place: Path, turns: int, every: int) -> list[Sample]:
    data = place / "data"
    data.mkdir()
    folder = make_checkpoint(place / "tiny", max_position_embeddings=1024)
    kept = data / KEPT_FOLDER
    engine = LocalEngine(
        folder,
        Options(
            device="cpu",
            precision="fp32",
            threads=1,
            cache_bytes=1 << 20,
            disk_folder=kept,
            disk_bytes=1 << 20,
        ),
    )
    services = make_services(data, engine=engine)
    services.load()
    try:
        return list(soak(services, turns, every))
    finally:
        services.close()


def check(samples: list[Sample]) -> None:
    assert samples[-1].threads <= samples[0].threads + 2
    assert all(0 < each.cache_bytes <= 1 << 20 for each in samples)
    assert all(each.cache_disk_bytes <= 1 << 20 for each in samples)
    assert samples[-1].cache_disk_bytes > 0


def test_short_turns_leave_no_thread_and_no_byte_beyond_the_budget(tmp_path: Path) -> None:
    check(run(tmp_path, 60, 20))


@pytest.mark.full
def test_thousands_of_turns_leave_memory_flat(tmp_path: Path) -> None:
    samples = run(tmp_path, 3000, 100)
    check(samples)
    assert growth(samples) <= ALLOWED_BYTES
