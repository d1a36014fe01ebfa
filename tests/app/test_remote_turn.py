"""A whole turn with a model on another server: guard on both sides, its failures, the kept part."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from app.services import Services, load_engine
from app.settings import Settings
from engine.base import Engine, Sampling
from engine.endpoint import Address
from engine.errors import CheckpointMissing, ServerRefused
from engine.remote import RemoteEngine
from storage.store import Store
from tests.app.fakes import Bench, TellingEngine, WordGuard
from tests.engine.openai_server import ServerState


@pytest.fixture
def engine(server_address: str) -> Iterator[Engine]:
    made = RemoteEngine(Address.parse(server_address), retry_seconds=0.01)
    yield made
    made.close()


@pytest.fixture
def bench(engine: Engine, store: Store) -> Bench:
    return Bench(store, engine, WordGuard(), sampling=lambda: Sampling(max_new_tokens=400, seed=1))


def test_both_sides_are_judged_and_the_turn_is_kept(bench: Bench, server: ServerState) -> None:
    turn = bench.ask("How are you?")
    assert (turn.reply.status, turn.reply.content) == ("done", "Hello there, friend.")
    assert isinstance(bench.guard, WordGuard)
    judged = bench.guard.judged
    assert judged[0] == ("How are you?", None)
    assert judged[-1] == ("How are you?", "Hello there, friend.")
    kept = turn.reply.generations[-1]
    assert (kept.model, kept.precision, kept.num_prompt, kept.num_reused) == (
        "tiny",
        "remote",
        11,
        4,
    )
    bench.ask("And now?", key=bench.key, parent_id=turn.reply.id)
    said = [message["content"] for message in server.requests[-1]["messages"]]
    assert said == ["How are you?", "Hello there, friend.", "And now?"]


def test_a_refused_prompt_never_leaves_this_machine(bench: Bench, server: ServerState) -> None:
    assert bench.ask("something forbidden").prompt.status == "blocked"
    assert server.requests == []


def test_an_unsafe_answer_is_cut_and_the_server_is_left(bench: Bench, server: ServerState) -> None:
    server.words = ["fine "] * 40 + ["forbidden "] + ["more "] * 300_000
    turn = bench.ask("How are you?")
    assert turn.reply.status == "cut"
    assert "forbidden" not in turn.reply.content
    assert server.left.wait(20)


def test_a_server_that_dies_midway_leaves_what_it_wrote(bench: Bench, server: ServerState) -> None:
    server.words, server.cut_after = ["fine "] * 40, 30
    turn = bench.ask("How are you?")
    assert turn.reply.status == "error"
    assert turn.reply.error_code == "ServerUnreachable"
    assert turn.reply.content == "fine " * 30
    assert len(server.requests) == 1


def test_the_settings_name_a_server(
    server_address: str, server: ServerState, tmp_path: Path
) -> None:
    server.key = "secret-key"
    services = Services(Settings(data=tmp_path, model=server_address))
    services.credentials.put(server_address, "secret-key")
    engine = load_engine(services.settings)
    assert engine.info().model == "tiny"
    engine.close()
    services.credentials.forget(server_address)
    with pytest.raises(ServerRefused, match="wants a key"):
        load_engine(services.settings)
    with pytest.raises(CheckpointMissing, match="is not the address"):
        load_engine(Settings(data=tmp_path, model="http://"))
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "credentials.json").stat().st_mode) == 0o600


def test_a_server_can_be_changed_to_and_is_there_after_a_new_start(
    server_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = Services(Settings(data=tmp_path))
    services.guard.replace(WordGuard)
    services.engine.replace(TellingEngine)
    services.start()
    services.engine.wait(Event())
    services.running.use(server_address)
    assert services.engine.wait(Event()).info().model == "tiny"
    services.close()
    again = Services(Settings(data=tmp_path))
    again.start()
    assert again.running.name == server_address
    again.close()
