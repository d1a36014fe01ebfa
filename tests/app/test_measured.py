"""What a load took beside what was predicted: watched while it runs, kept, and told on the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import psutil
import pytest

from app import measured, running_model
from app.measured import MAX_KEPT, Peak, Taken, predicted_load
from app.page.memory import Memory
from app.page.templates import Templates
from app.parts import Part
from app.room import Room
from app.services import Services
from app.settings import Settings
from app.strings import Strings
from engine.base import Engine
from engine.local import LocalEngine
from engine.shapes import shape
from storage.store import Store
from tests.app.fakes import WordGuard
from tests.engine.checkpoints import make_checkpoint

MEGABYTE = 1 << 20


def test_the_peak_is_the_highest_moment_not_the_last() -> None:
    held = [100]
    looked = Event()

    def look() -> int:
        if held[0] > 100:
            looked.set()
        return held[0]

    with Peak(look) as peak:
        held[0] = 700
        assert looked.wait(30)
        held[0] = 300
    assert peak.num_bytes == 600


def test_the_peak_of_this_process_counts_what_was_given_back() -> None:
    process = psutil.Process()
    with Peak(lambda: int(process.memory_info().rss)) as peak:
        taken = bytearray(48 * MEGABYTE)
        while peak.num_bytes < 40 * MEGABYTE:
            pass
        del taken
    assert 40 * MEGABYTE <= peak.num_bytes < 200 * MEGABYTE


def test_the_prediction_is_that_of_fit() -> None:
    config = shape("llama-3.2-1b")
    predicted = predicted_load(config, "bf16", "cpu")
    assert predicted is not None
    assert 2 * config.num_parameters < predicted < 2.2 * config.num_parameters
    assert predicted_load(config, "remote", "cpu") is None


def test_the_latest_load_of_each_kind_is_kept(store: Store) -> None:
    first = Taken("one", "int8", "cpu", 1_100, 1_000)
    assert first.error_percent == pytest.approx(10.0)
    measured.keep(store, first)
    measured.keep(store, Taken("one", "bf16", "cpu", 2_000, 2_000))
    measured.keep(store, Taken("one", "int8", "cpu", 900, 1_000))
    assert [(each.precision, each.predicted_bytes) for each in measured.loads(store)] == [
        ("bf16", 2_000),
        ("int8", 900),
    ]
    for number in range(MAX_KEPT + 5):
        measured.keep(store, Taken(f"model {number}", "int8", "cpu", 1, 1))
    assert len(measured.loads(store)) == MAX_KEPT
    for damaged in ("{", "7", "[[1, 2]]", '[["a", "b", "c", "d", 1]]', '[["a", "b", "c", 0, 0]]'):
        store.set_setting(1, measured.SETTING, damaged)
        assert measured.loads(store) == []


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    """Real loads of a tiny model, each of which holds 128 MB for a moment."""
    make_checkpoint(tmp_path / "data" / "models" / "tiny")
    running = Services(Settings(data=tmp_path / "data"))
    running.guard = Part("guard", WordGuard)

    def load(settings: Settings) -> Engine:
        held = bytearray(128 * MEGABYTE)
        folder = running_model.find_model(settings)
        assert folder is not None
        engine = LocalEngine(folder, device="cpu", threads=1, precision="fp32")
        del held
        return engine

    monkeypatch.setattr("app.services.load_engine", load)
    running.start()
    yield running
    running.close()


def test_a_load_is_measured_only_while_nothing_else_loads(services: Services) -> None:
    services.running.name = "tiny"
    services.engine.start()  # the guard is still loading
    services.engine.wait(Event())
    assert measured.loads(services.store) == []
    services.guard.start()
    services.guard.wait(Event())
    services.running.use("tiny")
    services.engine.wait(Event())
    [taken] = measured.loads(services.store)
    assert (taken.model, taken.precision, taken.device) == ("tiny", "fp32", "cpu")
    assert taken.peak_bytes >= 120 * MEGABYTE
    memory = Memory(services, Templates(Strings.load("en")))
    assert memory.took("tiny").endswith("% too little.")
    assert memory.took("tiny", precision="int8") == memory.took("other") == ""


def test_the_bar_shows_what_is_held_and_what_is_free(services: Services) -> None:
    memory = Memory(services, Templates(Strings.load("en")))
    whole = 1 << 40
    bar = memory.bar(Room("cpu", whole // 4, total_bytes=whole))
    assert bar is not None
    assert bar.held_percent + bar.other_percent == pytest.approx(75.0, abs=0.2)
    assert bar.label.startswith("274.9 GB of 1099.5 GB memory are free; Corral holds")
    assert memory.bar(Room("cpu", 10)) is None and memory.bar(None) is None
