"""Connections: which SQLite, which pragmas, and what its errors mean in our words.

`sqlite3` is taken from sqlite-utils, which prefers `pysqlite3` (a SQLite without the WAL-reset
bug of 3.7.0 to 3.51.2) and falls back to the interpreter's own. Everything else in storage/
imports it from here, so that error classes always belong to the build that raised them.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sqlite_utils import Database

if TYPE_CHECKING:
    import sqlite3
else:
    from sqlite_utils.utils import sqlite3

from storage.records import (
    Conflict,
    DatabaseBusy,
    DatabaseDamaged,
    DiskFull,
    FolderUnwritable,
    NotFound,
    StorageError,
    StoreClosed,
)

__all__ = [
    "Database",
    "Readers",
    "connect",
    "connect_memory",
    "sqlite3",
    "sqlite_version",
    "translate",
]

_BUSY_MILLISECONDS = 5_000
_EVERY_CONNECTION = (
    "PRAGMA foreign_keys = ON",  # off by default, and sqlite-utils leaves it so
    "PRAGMA cell_size_check = ON",
    f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}",
    "PRAGMA temp_store = MEMORY",  # what was said never reaches a temporary file
    "PRAGMA cache_size = -32768",
)
_WRITER = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # a commit survives power loss; group commit pays for it
    "PRAGMA secure_delete = ON",
    f"PRAGMA journal_size_limit = {64 << 20}",
)
_READER = ("PRAGMA query_only = ON", "PRAGMA wal_autocheckpoint = 0")

FULL = "The disk is full. Everything written so far is kept; free some space and send again."
DAMAGED = "The database file is damaged. Restart Corral: it saves what can be read."

_NOT_UTF8 = "Could not decode to UTF-8"

Mode = Literal["write", "read", "immutable"]


def sqlite_version() -> str:
    """The version of the SQLite library in use, for diagnostics."""
    return str(sqlite3.sqlite_version)


def connect(path: Path, mode: Mode = "write") -> Database:
    """Open `path` with the pragmas of its mode. Raises `sqlite3.Error`.

    "write" creates the file if need be. "read" sees a live database and its WAL. "immutable" reads
    a file that nobody writes and whose folder may be read-only. No object is shared between
    threads at the same time; `check_same_thread` is off because readers come from a pool.
    """
    query = {"write": "mode=rwc", "read": "mode=rw", "immutable": "mode=ro&immutable=1"}[mode]
    is_new = mode == "write" and not (path.exists() and path.stat().st_size)
    return _connected(f"{path.absolute().as_uri()}?{query}", mode, is_new)


def connect_memory(name: str, mode: Mode = "write") -> Database:
    """As `connect`, to a database in this process's memory; it ends with its last connection.

    Connections are separate, as they are to a file. Needs SQLite 3.36 (the VFS "memdb").
    """
    return _connected(f"file:/{name}?vfs=memdb", mode, is_new=False)


def _connected(uri: str, mode: Mode, is_new: bool) -> Database:
    connection = sqlite3.connect(
        uri,
        uri=True,
        isolation_level=None,  # we say BEGIN IMMEDIATE ourselves
        check_same_thread=False,
        timeout=_BUSY_MILLISECONDS / 1000,
    )
    try:
        if _full_text_is_innocuous():
            connection.execute("PRAGMA trusted_schema = OFF")
        if is_new:
            # Has to come first, and only once: a purge can then give room back to the disk.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        for pragma in _EVERY_CONNECTION + (_WRITER if mode == "write" else _READER):
            connection.execute(pragma)
        return Database(connection, execute_plugins=False)
    except UnicodeDecodeError as error:  # a damaged schema, quoted in SQLite's own message
        connection.close()
        malformed = sqlite3.DatabaseError("database disk image is malformed")
        malformed.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise malformed from error
    except BaseException:
        connection.close()
        raise


@cache
def _full_text_is_innocuous() -> bool:
    """Whether this SQLite lets a trigger write to FTS5 under `trusted_schema = OFF`; 3.40 not."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.executescript(
            "PRAGMA trusted_schema = OFF; CREATE TABLE t (x); CREATE VIRTUAL TABLE f USING fts5(x);"
            "CREATE TRIGGER i AFTER INSERT ON t BEGIN INSERT INTO f (x) VALUES (new.x); END;"
            "INSERT INTO t VALUES ('x');"
        )
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True


class Readers:
    """A pool of query-only connections, made by `connect_one`; each is lent to one thread."""

    def __init__(
        self, connect_one: Callable[[], Database], *, on_damage: Callable[[], None]
    ) -> None:
        self._connect_one = connect_one
        self._on_damage = on_damage
        self._idle: queue.LifoQueue[Database] = queue.LifoQueue()
        self._closed = False

    @contextmanager
    def snapshot(self) -> Iterator[Database]:
        """Lend a connection inside one read transaction. Raises `StorageError`."""
        if self._closed:
            raise StoreClosed("The store was closed.")
        try:
            db = self._take()
            try:
                db.conn.execute("BEGIN")
                yield db
            finally:
                self._give(db)
        except (sqlite3.Error, OverflowError) as error:
            ours = translate(error)
            if isinstance(ours, DatabaseDamaged):
                self._on_damage()
            raise ours from error

    def close(self) -> None:
        """Close what is idle; connections still lent close when they come back."""
        self._closed = True
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return

    def _take(self) -> Database:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return self._connect_one()

    def _give(self, db: Database) -> None:
        try:
            if db.conn.in_transaction:
                db.conn.execute("ROLLBACK")
        except sqlite3.Error:
            db.close()
            return
        self._idle.put(db)
        if self._closed:
            self.close()


def translate(error: Exception) -> StorageError:
    """Our error for one of SQLite's: the same sentence on every build."""
    if isinstance(error, StorageError):
        return error
    if isinstance(error, OverflowError):  # an id beyond 64 bits, from an address typed by hand
        return NotFound("There is no such row.")
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    text = str(error)
    match code:
        case sqlite3.SQLITE_FULL:
            return DiskFull(FULL)
        case sqlite3.SQLITE_IOERR:
            return StorageError(f"The disk reported a read or write error ({_name(error)}).")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return DatabaseBusy("Another program holds the database. Close it, then try again.")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return DatabaseDamaged(DAMAGED)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return FolderUnwritable(
                "The database cannot be written to. Check the data folder's permissions."
            )
        case sqlite3.SQLITE_CONSTRAINT:
            return Conflict(f"The database refused the change: {text}.")
    if text.startswith(_NOT_UTF8):
        error.args = (f"{_NOT_UTF8}.",)  # the rest quotes what was said, and would reach the log
        return DatabaseDamaged(DAMAGED)
    if isinstance(error, sqlite3.ProgrammingError) and "closed" in text:
        return StoreClosed("The store was closed.")
    return StorageError(f"The database reported an error: {text}.")


def _name(error: Exception) -> str:
    return str(getattr(error, "sqlite_errorname", "unknown"))
