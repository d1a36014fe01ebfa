"""The audit only grows, and shows what was done to it behind its back."""

import random
from pathlib import Path

import pytest

from storage.connection import connect, sqlite3
from storage.folder import DATABASE
from storage.records import OWNER_ID
from storage.store import Store
from tests.storage import make


def _filled(folder: Path, num_entries: int) -> None:
    store = make.open_store(folder)
    for n in range(num_entries):
        store.record(OWNER_ID if n % 2 else None, "login", f"user:{n}", '{"ok": true}')
    assert store.audit_intact()
    store.close()


def test_lines_come_back_newest_first(store: Store) -> None:
    store.record(OWNER_ID, "share.start", "link", "x")
    store.record(None, "share.end")
    second, first = store.audit()
    assert (first.id, first.actor, first.action, first.target) == (1, 1, "share.start", "link")
    assert (second.id, second.actor, second.detail) == (2, None, "")
    assert store.audit(limit=1) == [second]


def test_triggers_refuse_changes(folder: Path) -> None:
    _filled(folder, 3)
    db = connect(folder / DATABASE)
    for sql in ("DELETE FROM audit", "UPDATE audit SET action = 'x' WHERE id = 2"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            db.execute(sql)
    db.close()


def _tamper(folder: Path, chance: random.Random) -> None:
    """Change the audit as somebody with the file and a SQLite shell would."""
    db = connect(folder / DATABASE)
    db.execute("DROP TRIGGER audit_keeps")
    db.execute("DROP TRIGGER audit_stays")
    number = chance.randint(1, 20)
    if chance.random() < 0.4:
        db.execute("DELETE FROM audit WHERE id = ?", (number,))
    elif chance.random() < 0.2:
        db.execute("DELETE FROM audit WHERE id > ?", (number - 1,))
    else:
        column = chance.choice(["at", "actor", "action", "target", "detail", "previous", "hash"])
        value: object = {"at": 5, "actor": 77}.get(column, "forged")
        value = bytes(32) if column in ("previous", "hash") else value
        if column == "previous" and number == 1:
            column = "hash"
        db.execute(f"UPDATE audit SET {column} = ? WHERE id = ?", (value, number))
    db.close()


@pytest.mark.parametrize("count", [25, pytest.param(1000, marks=pytest.mark.full)])
def test_every_edit_and_deletion_shows(folder: Path, tmp_path: Path, count: int) -> None:
    _filled(folder, 20)
    sound = (folder / DATABASE).read_bytes()
    chance = random.Random(7)
    for n in range(count):
        (folder / DATABASE).write_bytes(sound)
        _tamper(folder, chance)
        store = Store.open(folder, readonly=True)
        assert not store.audit_intact(), f"change {n} went unseen"
        store.close()
