"""Copies of the database that are known to be good.

A backup is made with SQLite's online backup while the store runs, then opened, checked and only
then renamed to its final name: a file in `backups/` is a sound database.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path

from storage.connection import Database, connect, sqlite3, translate
from storage.folder import BACKUPS, make_private
from storage.records import DatabaseDamaged, FolderUnwritable

KEEP = {"daily": 7, "update": 3}  # of each reason; those of others stay
ABANDONED_SECONDS = 86_400.0
_NAME = re.compile(r"corral-(\d{8}-\d{6})-([a-z0-9_-]+)\.db")


def make(path: Path, folder: Path, *, reason: str = "daily") -> Path:
    """Back up the database at `path` into `folder`; return the verified copy.

    Raises `DatabaseDamaged` if the copy does not pass its check (it is then not kept).
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True, parents=True)
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        final = _free_name(folder, f"corral-{stamp}-{reason}")
        partial = final.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        make_private(partial)
    except OSError as error:
        raise FolderUnwritable(
            f"The backup folder {folder} cannot be written to ({error.strerror})."
        ) from error
    try:
        _copy(path, partial)
        verify(partial)
        partial.replace(final)
    except sqlite3.Error as error:
        raise translate(error) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return final


def restore(source: Path, path: Path) -> Path:
    """Put a verified copy of the backup `source` at `path`; return where the old one now lies.

    The caller holds the folder's lock. Raises `DatabaseDamaged` if the backup is not sound.
    """
    fresh = path.with_suffix(".restore")
    make_private(fresh)
    try:
        verify(source)
        shutil.copyfile(source, fresh)
        verify(fresh)
        moved_to = _free_name(path.parent, f"{path.stem}-before-restore")
        for ending in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                beside(path, ending).replace(beside(moved_to, ending))
        fresh.replace(path)
    except sqlite3.Error as error:
        raise translate(error) from error
    finally:
        fresh.unlink(missing_ok=True)
    return moved_to


def beside(path: Path, ending: str) -> Path:
    """The WAL or shared memory of a database, or itself."""
    return path.with_name(path.name + ending)


def verify(path: Path) -> None:
    """Raise `DatabaseDamaged` unless every page, index and foreign key of `path` is sound."""
    db = connect(path, "immutable")
    try:
        problems = [row[0] for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
        problems += [str(tuple(row)) for row in db.execute("PRAGMA foreign_key_check")]
    finally:
        db.close()
    if problems:
        raise DatabaseDamaged(f"The copy {path.name} failed its check: {problems[0]}.")


def listed(folder: Path) -> list[Path]:
    """Backups, newest first."""
    return sorted((p for p in folder.glob("corral-*.db") if _NAME.fullmatch(p.name)), reverse=True)


def due(folder: Path) -> bool:
    """Whether today (UTC) has no daily backup yet."""
    today = time.strftime("%Y%m%d", time.gmtime())
    return not any(p.name.startswith(f"corral-{today}") for p in _made_for(folder, "daily"))


def prune(folder: Path) -> None:
    """Delete what is beyond the newest `KEEP`, and unfinished ones that nobody works on."""
    for reason, keep in KEEP.items():
        for old in _made_for(folder, reason)[keep:]:
            with suppress(OSError):
                old.unlink()
    for unfinished in folder.glob("*.partial"):  # its process was ended over it
        with suppress(OSError):
            if time.time() - unfinished.stat().st_mtime > ABANDONED_SECONDS:
                unfinished.unlink()


def holding(folder: Path, key: str) -> list[Path]:
    """Which copies in a data folder hold a conversation; what cannot be read counts as such."""
    copies = [
        *listed(folder / BACKUPS),
        *sorted(folder.glob("*-damaged-*.db")),
        *sorted(folder.glob("*-before-restore*.db")),
    ]
    return [path for path in copies if _holds(path, key)]


def _made_for(folder: Path, reason: str) -> list[Path]:
    return [p for p in listed(folder) if p.stem.endswith(f"-{reason}")]


def _holds(path: Path, key: str) -> bool:
    try:
        db = connect(path, "immutable")
        try:
            found = db.execute("SELECT 1 FROM conversation WHERE key = ?", (key,)).fetchone()
        finally:
            db.close()
    except sqlite3.Error:
        return True
    return found is not None


def _copy(source: Path, target: Path) -> None:
    reader = connect(source, "read")
    try:
        writer = sqlite3.connect(str(target), isolation_level=None)
        try:
            reader.conn.backup(writer, pages=1024)
            # The copy is one file: opened later it needs no WAL beside it.
            writer.execute("PRAGMA journal_mode = DELETE")
        finally:
            writer.close()
    finally:
        reader.close()
    with target.open("rb+") as file:
        os.fsync(file.fileno())


def _free_name(folder: Path, stem: str) -> Path:
    path, n = folder / f"{stem}.db", 1
    while path.exists():
        n += 1
        path = folder / f"{stem}-{n}.db"
    return path


def counts(db: Database) -> dict[str, int]:
    """Rows per kind, for reports."""
    tables = ("user", "conversation", "message", "verdict", "generation")
    return {t: db.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in tables}
