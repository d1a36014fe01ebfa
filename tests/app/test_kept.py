"""Keys and values on the disk go with their conversation, whatever runs; guests leave none."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from app.job import Job
from app.requests import Send
from app.services import Services
from app.task import cache_scope
from engine.disk_tier import PIECE
from engine.kept_files import KEPT_FOLDER, MEMORY_ONLY
from engine.local import LocalEngine
from engine.options import Options
from storage.records import OWNER_ID
from tests.app.fakes import TellingEngine, ended
from tests.app.house import make_services
from tests.engine.checkpoints import make_checkpoint
from tests.waiting import until


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


def test_a_conversation_goes_on_after_a_restart_without_being_read_again(tmp_path: Path) -> None:
    """The whole way: stored ids, the same prompt from them, and its keys and values on the disk."""
    data = tmp_path / "data"
    data.mkdir()
    folder = make_checkpoint(tmp_path / "tiny", max_position_embeddings=2048)

    def started() -> Services:
        engine = LocalEngine(
            folder, Options(device="cpu", threads=1, disk_folder=data / KEPT_FOLDER)
        )
        made = make_services(data, engine=engine)
        made.store.set_setting(OWNER_ID, "sampling", '{"max_new_tokens": 60, "seed": 3}')
        made.load()
        return made

    def answered(services: Services, request: Send) -> Job:
        job = services.jobs.start(OWNER_ID, request)
        ended(job)
        until(lambda: not services.jobs.running(OWNER_ID, job.key))
        return job

    services = started()
    job = answered(services, Send(None, None, "And so on " * 40, "c1"))
    job = answered(services, Send(job.key, job.reply_id, "and on " * 40, "c2"))
    services.close()
    services = started()
    job = answered(services, Send(job.key, job.reply_id, "and so on", "c3"))
    run = services.store.message(OWNER_ID, job.key, job.reply_id).generations[-1]
    services.close()
    assert run.num_prompt > 800
    assert run.num_prompt - run.num_reused < 2 * PIECE


def test_a_guest_leaves_nothing_on_the_disk() -> None:
    scope = cache_scope(7, "a", memory_only=True)
    assert scope.startswith(MEMORY_ONLY) and scope.endswith("user-7/a")
