"""SQLite's errors in our words, and readers that are lent to one thread at a time."""

import threading
from functools import partial
from pathlib import Path

import pytest

from storage import records
from storage.connection import Readers, connect, sqlite3, translate
from storage.records import StorageError

EXTENDED = {"SQLITE_CONSTRAINT_UNIQUE": 2067, "SQLITE_IOERR_WRITE": 778}


def _error(name: str, kind: type[Exception] | None = None, text: str = "x") -> Exception:
    error = (kind or sqlite3.OperationalError)(text)
    error.sqlite_errorcode = EXTENDED.get(name) or getattr(sqlite3, name)  # type: ignore[attr-defined]
    error.sqlite_errorname = name  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SQLITE_FULL", records.DiskFull),
        ("SQLITE_BUSY", records.DatabaseBusy),
        ("SQLITE_LOCKED", records.DatabaseBusy),
        ("SQLITE_CORRUPT", records.DatabaseDamaged),
        ("SQLITE_NOTADB", records.DatabaseDamaged),
        ("SQLITE_READONLY", records.FolderUnwritable),
        ("SQLITE_CANTOPEN", records.FolderUnwritable),
        ("SQLITE_CONSTRAINT_UNIQUE", records.Conflict),
        ("SQLITE_IOERR_WRITE", records.StorageError),
        ("SQLITE_ERROR", records.StorageError),
    ],
)
def test_errors_in_our_words(name: str, expected: type[StorageError]) -> None:
    ours = translate(_error(name))
    assert type(ours) is expected
    assert str(ours).endswith(".")


def test_what_is_ours_stays_and_what_was_said_goes() -> None:
    ours = records.NotFound("gone")
    assert translate(ours) is ours
    assert type(translate(OverflowError("too large"))) is records.NotFound
    assert type(translate(sqlite3.ProgrammingError("Cannot operate on a closed database."))) is (
        records.StoreClosed
    )
    undecodable = sqlite3.OperationalError(
        "Could not decode to UTF-8 column 'c' with text 'secret'"
    )
    assert type(translate(undecodable)) is records.DatabaseDamaged
    assert "secret" not in str(undecodable)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "some.db"
    db = connect(path)
    db.execute("CREATE TABLE t (x)")
    db.execute("INSERT INTO t VALUES (1)")
    db.close()
    return path


def _count(readers: Readers) -> int:
    with readers.snapshot() as db:
        return int(db.execute("SELECT count(*) FROM t").fetchone()[0])


def test_a_reader_is_used_again_and_closed_with_the_pool(database: Path) -> None:
    readers = Readers(partial(connect, database, "read"), on_damage=lambda: None)
    with readers.snapshot() as first:
        with readers.snapshot() as second:
            assert first is not second
        with readers.snapshot() as third:
            assert third is second
    with readers.snapshot() as lent:
        readers.close()
        assert lent.execute("SELECT x FROM t").fetchall() == [(1,)], "what is lent stays open"
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        lent.execute("SELECT 1")
    with pytest.raises(records.StoreClosed):
        _count(readers)


def test_a_snapshot_does_not_move(database: Path) -> None:
    readers = Readers(partial(connect, database, "read"), on_damage=lambda: None)
    writer = connect(database)
    with readers.snapshot() as db:
        assert db.execute("SELECT count(*) FROM t").fetchone() == (1,)
        writer.execute("INSERT INTO t VALUES (2)")
        assert db.execute("SELECT count(*) FROM t").fetchone() == (1,)
    assert _count(readers) == 2
    writer.close()
    readers.close()


def test_damage_is_noted(database: Path) -> None:
    noted: list[str] = []
    readers = Readers(partial(connect, database, "read"), on_damage=lambda: noted.append("damaged"))
    with pytest.raises(records.DatabaseDamaged), readers.snapshot():
        raise _error("SQLITE_CORRUPT", sqlite3.DatabaseError)
    with pytest.raises(StorageError), readers.snapshot():
        raise _error("SQLITE_ERROR")
    assert noted == ["damaged"]
    readers.close()


def test_readers_serve_many_threads(database: Path) -> None:
    readers = Readers(partial(connect, database, "read"), on_damage=lambda: None)
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.extend(_count(readers) for _ in range(50)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 400
    readers.close()
