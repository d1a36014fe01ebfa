"""Backups and the trash are looked after while Corral runs; a failure stops neither."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest

from app.upkeep import start_upkeep
from storage.records import DiskFull
from storage.store import Store
from tests.waiting import until


def test_a_backup_is_made_at_once_and_not_twice_a_day(tmp_path: Path) -> None:
    store, closing = Store.open(tmp_path), Event()
    rounds: list[None] = []
    thread = start_upkeep(
        store, purge_trash=lambda: rounds.append(None), closing=closing, every_seconds=0.01
    )
    until(lambda: len(list((tmp_path / "backups").glob("*.db"))) == 1)
    before = len(rounds)
    until(lambda: len(rounds) > before + 10)
    closing.set()
    thread.join(10)
    assert not thread.is_alive()
    store.close()
    assert len(list((tmp_path / "backups").glob("*.db"))) == 1


def test_a_failure_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, closing = Store.open(tmp_path), Event()
    attempts: list[int] = []

    def fail() -> None:
        attempts.append(1)
        raise DiskFull("no room")

    monkeypatch.setattr(store, "backup_daily", fail)
    thread = start_upkeep(store, purge_trash=store.purge_trash, closing=closing, every_seconds=0.01)
    until(lambda: len(attempts) > 2)
    closing.set()
    thread.join(10)
    store.close()
