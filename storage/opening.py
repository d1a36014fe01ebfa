"""Bringing a database into service: repair, migrations after a backup, interrupted replies."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from storage import backup, health, turns
from storage.clock import now
from storage.connection import Database, connect, sqlite3, translate
from storage.folder import BACKUPS, SUSPECT, make_private
from storage.health import Repair
from storage.records import DatabaseDamaged, DatabaseNewer, StorageError
from storage.schema import migrations

APPLICATION_ID = 0x436F7272  # "Corr", in the file's header
_QUICK_CHECK_BYTES = 256 << 20  # above this, only the daily backup checks (about 1 s per 500 MB)


@dataclass(slots=True)
class Opened:
    """What opening found: how many replies were interrupted, and a repair if one was needed."""

    num_interrupted: int = 0
    repair: Repair | None = None


def open_for_writing(path: Path, opened: Opened) -> Database:
    """A sound, migrated, recovered database. A damaged one is repaired first.

    Raises `DatabaseNewer` and what `translate` gives.
    """
    try:
        return _open(path, opened)
    except DatabaseDamaged as error:
        opened.repair = health.repair(path, str(error.__cause__ or error))
    suspect = path.with_name(SUSPECT)
    suspect.unlink(missing_ok=True)
    return _open(path, opened)


def check_readable(db: Database, path: Path) -> None:
    """Raise if this is another program's database, or a newer Corral's."""
    tables = set(db.table_names())
    if tables and "_sqlite_migrations" not in tables:
        raise StorageError(
            f"{path} is another program's database. Nothing was changed. "
            "Choose another folder with --data DIR."
        )
    ours = {step.name for step in migrations._migrations}
    if newer := [step.name for step in migrations.applied(db) if step.name not in ours]:
        raise DatabaseNewer(
            f"This data folder was written by a newer Corral (it has {newer[-1]}). "
            "Nothing was changed. Update Corral, or choose another folder with --data DIR."
        )


def end_run(db: Database) -> None:
    """Note that this run closed its database properly."""
    db.execute("UPDATE run_mark SET clean_end_at = ? WHERE id = 1", (now(),))


def _open(path: Path, opened: Opened) -> Database:
    make_private(path)
    try:
        _look(path)
        db = connect(path)
    except sqlite3.Error as error:
        raise translate(error) from error
    try:
        if migrations.applied(db):
            _check_if_unclean(db, path)
        _migrate(db, path)
        opened.num_interrupted = _in_transaction(db, _begin_run)
        return db
    except sqlite3.Error as error:
        db.close()
        raise translate(error) from error
    except BaseException:
        db.close()
        raise


def _look(path: Path) -> None:
    """Check whose database it is before anything, a pragma even, writes to it."""
    db = connect(path, "read")
    try:
        check_readable(db, path)
    finally:
        db.close()


def _check_if_unclean(db: Database, path: Path) -> None:
    suspect = path.with_name(SUSPECT)
    if suspect.exists():
        found = health.problems(db)
    elif path.stat().st_size <= _QUICK_CHECK_BYTES and _ended_unclean(db):
        found = health.problems(db, quick=True)
    else:
        found = []
    if found:
        raise DatabaseDamaged(found[0])
    with suppress(OSError):
        suspect.unlink()


def _ended_unclean(db: Database) -> bool:
    return db.execute("SELECT 1 FROM run_mark WHERE clean_end_at IS NULL").fetchone() is not None


def _migrate(db: Database, path: Path) -> None:
    """Apply what is pending; before changing a database that holds something, back it up."""
    pending = migrations.pending(db)
    if not pending:
        return
    if migrations.applied(db):
        backup.make(path, path.parent / BACKUPS, reason=f"before-{pending[0].name}")
    migrations.apply(db)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    if found := health.problems(db):
        raise DatabaseDamaged(found[0])


def _begin_run(db: Database) -> int:
    db.execute(
        "INSERT INTO run_mark (id, pid, started_at) VALUES (1, ?, ?) ON CONFLICT (id) "
        "DO UPDATE SET pid = excluded.pid, started_at = excluded.started_at, clean_end_at = NULL",
        (os.getpid(), now()),
    )
    return turns.interrupt_all(db)


def _in_transaction(db: Database, work: Callable[[Database], int]) -> int:
    db.conn.execute("BEGIN IMMEDIATE")
    try:
        result = work(db)
        db.conn.execute("COMMIT")
        return result
    except BaseException:
        if db.conn.in_transaction:
            db.conn.execute("ROLLBACK")
        raise
