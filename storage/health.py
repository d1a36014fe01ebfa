"""Is the database sound, and what to do when it is not."""

from __future__ import annotations

import logging
import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from storage import audit, backup
from storage.connection import Database, connect, sqlite3, translate
from storage.folder import BACKUPS, make_private
from storage.records import DatabaseDamaged, StorageError
from storage.salvage import Kept, salvage
from storage.schema import migrations

log = logging.getLogger(__name__)

_MERGE_PAGES = 500
_MAX_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class Repair:
    """A damaged database was moved to `moved_to`; `kept` of it is in a new one."""

    moved_to: Path
    reason: str
    kept: Kept
    backup: Path | None

    @property
    def sentences(self) -> tuple[str, ...]:
        """What happened, a sentence each, for the owner."""
        kept = self.kept
        told = [
            f"The database was damaged ({self.reason}).",
            f"Saved into a new one: messages {kept.num_messages}, "
            f"conversations {kept.num_conversations}.",
        ]
        if self.backup and kept.num_from_backup:
            told.append(f"{kept.num_from_backup} of them came from {self.backup.name}.")
        if kept.num_broken:
            told.append(f"{kept.num_broken} entries could not be read.")
        return (*told, f"The damaged file was kept as {self.moved_to.name}.")

    def report(self) -> str:
        """The sentences as one text."""
        return " ".join(self.sentences)


def problems(db: Database, *, quick: bool = False) -> list[str]:
    """What is wrong with an open database, in SQLite's words and ours; empty if it is sound.

    `quick` leaves out the contents of indexes, the foreign keys and the audit. Damage that keeps
    SQLite from looking at all is reported, not raised.
    """
    try:
        found = [
            str(row[0])
            for row in db.execute(f"PRAGMA {'quick' if quick else 'integrity'}_check(20)")
            if row[0] != "ok"
        ]
        if quick or found:
            return found
        found += [
            f"row {row[1]} of {row[0]} refers to a row of {row[2]} that is not there"
            for row in db.execute("PRAGMA foreign_key_check")
        ]
        for table in ("user", "conversation", "message", "message_chunk", "setting"):
            for _ in db.execute(f"SELECT * FROM {table}"):
                pass  # SQLite does not check that text is UTF-8; reading it does
        entries = db.execute("SELECT count(*) FROM search_entry").fetchone()[0]
        indexed = db.execute("SELECT count(*) FROM search_index_docsize").fetchone()[0]
        if entries != indexed:
            found.append(f"the search index has {indexed} of {entries} entries")
        if not audit.intact(db):
            found.append("the audit was changed behind Corral's back")
    except sqlite3.Error as error:
        translate(error)  # takes what was said out of it
        return [str(error)]
    return found[:_MAX_PROBLEMS]


def repair(path: Path, reason: str) -> Repair:
    """Save what can be read of a damaged database into a new one, and put it in its place.

    The damaged files are kept under another name. Raises `StorageError` if that is not possible;
    nothing was changed then.
    """
    fresh = path.with_suffix(".salvage")
    try:
        _remove(fresh)
        make_private(fresh)
        source = _newest_sound_backup(path.parent / BACKUPS)
        moved_to = _free_name(path)
        kept = _salvage(path, source, fresh, f"{moved_to.name}: {reason}")
        _keep(path, moved_to)
        fresh.replace(path)
    except sqlite3.Error as error:
        raise translate(error) from error
    except OSError as error:
        raise StorageError(f"The damaged database could not be repaired ({error}).") from error
    finally:
        with suppress(OSError):
            _remove(fresh)
    made = Repair(moved_to, reason, kept, source)
    moved_to.with_suffix(".txt").write_text(made.report() + "\n", encoding="utf-8")
    log.warning("the database was damaged and has been repaired: %s", kept)
    return made


def merge_index(db: Database) -> bool:
    """One step of merging the search index, so that purged words leave it; True if more remains.

    FTS5 keeps the words of deleted rows until their segments are merged. Small steps let streamed
    text in between; a negative page count starts a merge of everything, as 'optimize' would.
    """
    before = db.conn.total_changes
    db.execute(
        "INSERT INTO search_index (search_index, rank) VALUES ('merge', ?)", (-_MERGE_PAGES,)
    )
    return db.conn.total_changes - before >= 2


def shrink(db: Database) -> None:
    """Give free pages back to the disk. Outside a transaction."""
    # A script runs to its end; `execute` would stop after the first page on the older build.
    db.conn.executescript("PRAGMA incremental_vacuum")


def empty_wal(db: Database) -> bool:
    """Move everything from the WAL into the database and truncate it. Outside a transaction.

    False if a reader still held it; the next purge or the close of the store does it then.
    """
    row = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return bool(row[0] == 0)


def _salvage(path: Path, source: Path | None, fresh: Path, note: str) -> Kept:
    db = connect(fresh)
    try:
        migrations.apply(db)
        kept = salvage(path, source, db)
        audit.record(db, None, "repair", note, "")
        left = problems(db)
        db.execute("PRAGMA journal_mode = DELETE")
    finally:
        db.close()
    if left:
        raise DatabaseDamaged(f"The saved database failed its check: {left[0]}.")
    return kept


def _keep(path: Path, moved_to: Path) -> None:
    """Give the damaged files a second name; only then take the WAL from beside the first.

    Killed at any point, the database is in place or a complete one with its WAL lies aside.
    """
    wal = backup.beside(path, "-wal")
    if wal.exists():
        shutil.copy2(wal, backup.beside(moved_to, "-wal"))
    try:
        os.link(path, moved_to)
    except OSError:  # a filesystem without links
        shutil.copy2(path, moved_to)
    for ending in ("-wal", "-shm"):
        backup.beside(path, ending).unlink(missing_ok=True)


def _free_name(path: Path) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    name, n = path.with_name(f"{path.stem}-damaged-{stamp}.db"), 1
    while name.exists():
        n += 1
        name = path.with_name(f"{path.stem}-damaged-{stamp}-{n}.db")
    return name


def _newest_sound_backup(folder: Path) -> Path | None:
    for path in backup.listed(folder):
        with suppress(StorageError, sqlite3.Error):
            backup.verify(path)
            return path
    return None


def _remove(path: Path) -> None:
    for ending in ("", "-wal", "-shm", "-journal"):
        backup.beside(path, ending).unlink(missing_ok=True)
