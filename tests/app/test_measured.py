"""What a load took beside what was predicted: watched while it runs, kept, and told on the page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import psutil
import pytest

from app import measured, running_model
from app.measured import MAX_KEPT, Peak, Taken, predicted_load
from app.page.memory import Memory
from app.page.models import ModelsPanel
from app.page.templates import Templates
from app.parts import Part
from app.room import Room
from app.services import Services
from app.settings import Settings
from app.strings import Strings
from engine.base import CacheSizes, Engine
from engine.errors import EngineClosed
from engine.local import LocalEngine
from engine.options import Options
from engine.shapes import shape
from storage.records import OWNER_ID
from storage.store import Store
from tests.app.fakes import TellingEngine, WordGuard
from tests.app.house import make_services
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
        engine = LocalEngine(folder, Options(device="cpu", threads=1, precision="fp32"))
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


@dataclass
class Keeping(TellingEngine):
    """Keeps some of its conversations."""

    sizes: CacheSizes | None = None

    def cache_sizes(self) -> CacheSizes:
        if self.sizes is None:
            raise EngineClosed("shut down")
        return self.sizes


def test_every_tier_of_the_cache_is_shown_with_its_budget(tmp_path: Path) -> None:
    engine = Keeping(sizes=CacheSizes(3_000_000, 8_000_000, 0, 2 * 10**9, 5_000_000, 4 * 10**9))
    services = make_services(tmp_path, engine=engine)
    memory = Memory(services, Templates(Strings.load("en")))
    assert memory.kept() == "", "nothing is loaded"
    services.engine.start()
    services.engine.wait(Event())
    assert memory.kept() == (
        "Kept of conversations, so that they are not read again: 3.0 MB of 8.0 MB where the model "
        "computes · 0.0 MB of 2.0 GB in main memory · 5.0 MB of 4.0 GB on the disk."
    )
    engine.sizes = CacheSizes(0, 8_000_000)
    assert "memory" not in memory.kept() and "disk" not in memory.kept()
    page = ModelsPanel(services, Templates(Strings.load("en")))
    assert "0.0 MB of 8.0 MB where" in str(page.value(OWNER_ID)["html"])
    assert "where the model" not in str(page.value(OWNER_ID + 1)["html"]), "the owner's alone"
    engine.sizes = None
    assert memory.kept() == "", "it is being changed for another"
    services.close()
