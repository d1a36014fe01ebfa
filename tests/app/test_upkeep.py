"""Backups and the trash are looked after while Corral runs; a failure stops neither."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from app.upkeep import start_upkeep
from storage.records import DiskFull
from storage.store import Store


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_backup_is_made_at_once_and_not_twice_a_day(tmp_path: Path) -> None:
    store, closing = Store.open(tmp_path), Event()
    thread = start_upkeep(store, purge_trash=store.purge_trash, closing=closing, every_seconds=0.01)
    until(lambda: len(list((tmp_path / "backups").glob("*.db"))) == 1)
    time.sleep(0.1)
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
