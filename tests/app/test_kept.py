"""Keys and values on the disk go with their conversation, whatever runs; guests leave none."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from app.services import Services
from app.task import cache_scope
from engine.kept_files import KEPT_FOLDER, MEMORY_ONLY
from storage.records import OWNER_ID
from tests.app.fakes import TellingEngine
from tests.app.house import make_services


@pytest.fixture
def engine() -> TellingEngine:
    return TellingEngine(["Hello."])


@pytest.fixture
def services(tmp_path: Path, engine: TellingEngine) -> Iterator[Services]:
    made = make_services(tmp_path, engine=engine)
    yield made
    made.close()


def leave_piece(services: Services, scope: str) -> Path:
    place = services.settings.data / KEPT_FOLDER / scope
    place.mkdir(parents=True)
    (place / "piece.safetensors").write_bytes(b"x")
    return place


def test_a_purge_removes_the_files_although_no_engine_runs(services: Services) -> None:
    made, other = (services.store.create_conversation(OWNER_ID) for _ in range(2))
    places = [leave_piece(services, cache_scope(OWNER_ID, each.key)) for each in (made, other)]
    services.purge(OWNER_ID, made.key)
    assert not places[0].exists() and places[1].exists()


def test_emptying_the_trash_removes_the_files(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = services.store.create_conversation(OWNER_ID)
    place = leave_piece(services, cache_scope(OWNER_ID, made.key))
    monkeypatch.setattr(services.store, "purge_trash", lambda **_: [(OWNER_ID, made.key)])
    services.purge_trash()
    assert not place.exists()


def test_a_running_engine_forgets_too(services: Services, engine: TellingEngine) -> None:
    services.engine.start()
    services.engine.wait(Event())
    services.forget("user-7/a")
    assert engine.forgotten == ["user-7/a", f"{MEMORY_ONLY}user-7/a"]


def test_a_guest_leaves_nothing_on_the_disk() -> None:
    scope = cache_scope(7, "a", memory_only=True)
    assert scope.startswith(MEMORY_ONLY) and scope.endswith("user-7/a")
