"""Backups are verified, pruned, made under load, and restored."""

import os
import threading
import time
from pathlib import Path

import pytest

from storage import backup
from storage.connection import connect
from storage.folder import BACKUPS, DATABASE
from storage.records import OWNER_ID, DatabaseDamaged, FolderUnwritable
from storage.store import Store
from tests.storage import make


def _names(folder: Path, count: int, reason: str) -> list[str]:
    folder.mkdir(exist_ok=True)
    names = [f"corral-202601{day:02d}-120000-{reason}.db" for day in range(1, count + 1)]
    for name in names:
        (folder / name).write_bytes(b"")
    return names


def test_a_backup_holds_everything_and_is_private(store: Store) -> None:
    key = store.create_conversation(OWNER_ID).key
    make.turn(store, key, "Hello", "Hi")
    made = store.backup()
    assert made.parent == store.folder / BACKUPS
    if os.name == "posix":
        assert made.stat().st_mode & 0o777 == 0o600
        assert made.parent.stat().st_mode & 0o777 == 0o700
    original = store._writer.call(make.rows)
    copy = connect(made, "immutable")
    assert make.rows(copy) == original
    copy.close()
    assert [path.name for path in made.parent.iterdir()] == [made.name], "one file, no WAL"


def test_backups_of_the_same_second_do_not_overwrite_each_other(store: Store) -> None:
    assert len({store.backup(reason="x") for _ in range(3)}) == 3


@pytest.mark.parametrize("count", [3, pytest.param(50, marks=pytest.mark.full)])
def test_a_backup_under_load_is_a_moment_of_it(store: Store, folder: Path, count: int) -> None:
    key = store.create_conversation(OWNER_ID).key
    ended = threading.Event()

    def write() -> None:
        parent_id, n = None, 0
        while not ended.is_set():
            parent_id = make.turn(store, key, f"p{n}", f"r{n}", parent_id=parent_id).reply.id
            n += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        made = [store.backup() for _ in range(count)]
    finally:
        ended.set()
        thread.join()
    whole = make.contents(store, key)
    for path in made:
        copy = connect(path, "immutable")
        contents = [row[0] for row in copy.execute("SELECT content FROM message ORDER BY id")]
        copy.close()
        if contents and contents[-1] == "":
            contents.pop()  # a reply that was being written
        assert contents == whole[: len(contents)]


def test_the_newest_seven_daily_backups_three_of_updates_and_all_others_are_kept(
    store: Store,
) -> None:
    folder = store.folder / BACKUPS
    daily, updates = _names(folder, 9, "daily"), _names(folder, 5, "update")
    before = _names(folder, 2, "before-m002_x")
    (folder / "notes.txt").write_text("mine")
    made = store.backup_daily()
    assert made is not None
    assert store.backup_daily() is None, "once a day"
    kept = {path.name for path in folder.iterdir()}
    assert kept == {*daily[-6:], *updates[-3:], *before, made.name, "notes.txt"}


def test_a_backup_whose_process_was_ended_is_removed_a_day_later(store: Store) -> None:
    folder = store.folder / BACKUPS
    store.backup()
    old, fresh = folder / "corral-20260101-120000-daily.partial", folder / "now.partial"
    for path in (old, fresh):
        path.write_bytes(b"half")
    day_old = time.time() - backup.ABANDONED_SECONDS - 1
    os.utime(old, (day_old, day_old))
    backup.prune(folder)
    assert not old.exists()
    assert fresh.exists()
    assert len(backup.listed(folder)) == 1


def test_a_damaged_source_gives_no_backup(store: Store, tmp_path: Path) -> None:
    key = store.create_conversation(OWNER_ID).key
    make.turn(store, key, "Hello", "Hi")
    store._writer.call(lambda db: db.execute("PRAGMA foreign_keys = OFF"), outside=True)
    store._writer.call(lambda db: db.execute("DELETE FROM message WHERE role = 'user'"))
    with pytest.raises(DatabaseDamaged, match="failed its check"):
        store.backup(tmp_path / "elsewhere")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderUnwritable, match="file"):
        store.backup(tmp_path / "file" / "inside")


def test_a_restore_brings_back_the_moment_and_keeps_what_was_there(
    store: Store, folder: Path
) -> None:
    key = store.create_conversation(OWNER_ID, title="then").key
    make.turn(store, key, "Hello", "Hi")
    made = store.backup()
    store.create_conversation(OWNER_ID, title="since")
    store.close()
    moved_to = backup.restore(made, folder / DATABASE)
    restored = make.open_store(folder)
    assert [found.title for found in restored.conversations(OWNER_ID)] == ["then"]
    assert make.contents(restored, key) == ["Hello", "Hi"]
    restored.close()
    old = connect(moved_to, "immutable")
    assert [row[0] for row in old.execute("SELECT title FROM conversation")] == ["then", "since"]
    old.close()


def test_a_broken_backup_is_not_restored(store: Store, folder: Path, tmp_path: Path) -> None:
    made = store.backup()
    broken = tmp_path / "broken.db"
    broken.write_bytes(made.read_bytes()[:9000])
    store.close()
    before = (folder / DATABASE).read_bytes()
    with pytest.raises(DatabaseDamaged):
        backup.restore(broken, folder / DATABASE)
    assert (folder / DATABASE).read_bytes() == before
