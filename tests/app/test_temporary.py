"""A temporary conversation with a real model and its caches: no file ever hears of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.job import Job
from app.requests import Again, Send
from app.services import Services
from engine.kept_files import KEPT_FOLDER
from engine.local import LocalEngine
from engine.options import Options
from storage.records import OWNER_ID, NotFound
from tests.app.fakes import ended
from tests.app.house import make_services
from tests.engine.checkpoints import make_checkpoint
from tests.storage.make import CANARY, holds
from tests.waiting import until


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """Services whose engine keeps keys and values on the disk."""
    data = tmp_path / "data"
    data.mkdir()
    folder = make_checkpoint(tmp_path / "tiny", max_position_embeddings=1024)
    kept = data / KEPT_FOLDER
    engine = LocalEngine(
        folder, Options(device="cpu", precision="fp32", threads=1, disk_folder=kept)
    )
    made = make_services(data, engine=engine)
    made.store.set_setting(OWNER_ID, "sampling", '{"max_new_tokens": 8}')
    made.load()
    yield made
    made.close()


def answered(services: Services, job: Job) -> Job:
    ended(job)
    until(lambda: not services.jobs.running(OWNER_ID, job.key))
    return job


def pieces(services: Services) -> list[Path]:
    return [path for path in (services.settings.data / KEPT_FOLDER).rglob("*") if path.is_file()]


def test_no_file_holds_a_word_of_it_nor_what_was_computed_from_it(services: Services) -> None:
    long = " and so on" * 60  # enough tokens for pieces on the disk
    sent = Send(None, None, CANARY + long, "c1", temporary=True)
    job = answered(services, services.jobs.start(OWNER_ID, sent))
    answered(services, services.jobs.start(OWNER_ID, Again(job.key, job.prompt_id)))
    path = services.store.path(OWNER_ID, job.key)
    assert path[0].content.startswith(CANARY) and path[1].num_versions == 2
    assert path[0].verdicts and path[1].verdicts, "it was judged as ever"
    services.end_temporary(OWNER_ID, job.key)
    with pytest.raises(NotFound):
        services.store.path(OWNER_ID, job.key)

    answered(services, services.jobs.start(OWNER_ID, Send(None, None, f"kept words{long}", "c2")))
    services.store.backup()
    services.close()
    assert pieces(services), "what is kept has its keys and values on the disk"
    assert not [piece for piece in pieces(services) if job.key in str(piece)]
    assert holds(services.settings.data, "kept words")
    assert holds(services.settings.data, CANARY) == []


def test_what_no_page_shows_any_more_is_forgotten(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = Send(None, None, CANARY, "c1", temporary=True)
    job = answered(services, services.jobs.start(OWNER_ID, sent))
    services.end_left_alone()
    assert services.store.temporary.holds(OWNER_ID, job.key)
    monkeypatch.setattr("app.services.ALONE_SECONDS", 0.0)
    services.end_left_alone()
    assert not services.store.temporary.holds(OWNER_ID, job.key)
