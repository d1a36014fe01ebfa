"""Rows read from the pages of a file are those that SQLite reads."""

import random
import shutil
from pathlib import Path

import pytest

from storage.connection import connect, sqlite3
from storage.folder import DATABASE
from storage.pages import Pages, Value
from storage.records import OWNER_ID
from storage.store import Store
from tests.storage import make

VALUES = [
    None, 0, 1, -1, 127, -128, 128, 32767, -32768, 2**23 - 1, -(2**23), 2**31, -(2**31), 2**47 - 1,
    -(2**47), 2**63 - 1, -(2**63), 0.0, 1.5, -2.25, 1e300, float("inf"), "", "a", "学习🦙\x00", b"",
    b"\x00\xff", "x" * 3000, "x" * 4061, "x" * 4062, "y" * 100_000, b"z" * 20_000,
]  # fmt: skip


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_values_of_every_kind_and_length(tmp_path: Path, page_size: int) -> None:
    path = tmp_path / "any.db"
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA page_size = {page_size}")
    db.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, marker, value)")
    db.execute("CREATE TABLE keyed (marker, value, PRIMARY KEY (marker, value)) WITHOUT ROWID")
    chance = random.Random(3)
    expected: list[tuple[int, Value]] = [(n, value) for n, value in enumerate(VALUES, 1)]
    expected += [(n, chance.choice(VALUES)) for n in range(1000, 1200)]
    expected += [(n, 5) for n in (-(2**63), -1, 2**63 - 1)]
    db.executemany("INSERT INTO rows VALUES (?, 'row', ?)", expected)
    keyed = {(f"key{n}", "k" * (n * 7)) for n in range(300)}
    db.executemany("INSERT INTO keyed VALUES (?, ?)", sorted(keyed))
    db.commit()
    db.close()
    pages = Pages.read(path)
    rows = list(pages.rows())
    found = {rowid: values[2] for rowid, values in rows if values[1:2] == ["row"]}
    assert {n: repr(value) for n, value in found.items()} == {n: repr(v) for n, v in expected}
    assert {tuple(v) for rowid, v in rows if rowid is None and len(v) == 2} >= keyed
    assert pages.num_broken == 0


def _messages(path: Path) -> dict[int, str]:
    return {
        rowid: str(values[6])
        for rowid, values in Pages.read(path).rows()
        if rowid is not None and len(values) == 12 and values[4] in ("user", "assistant")
    }


@pytest.fixture
def live(folder: Path, tmp_path: Path) -> tuple[Path, dict[int, str]]:
    """Copies of a database and its WAL, with commits that only the WAL has."""
    store: Store = make.open_store(folder)
    store._writer.call(lambda db: db.execute("PRAGMA wal_autocheckpoint = 0"), outside=True)
    key = store.create_conversation(OWNER_ID).key
    parent_id = None
    for n in range(20):
        parent_id = make.turn(
            store, key, f"p{n} " + "x" * 900 * n, f"r{n}", parent_id=parent_id
        ).reply.id
    expected = {message.id: message.content for message in store.path(OWNER_ID, key)}
    copy = tmp_path / "copy.db"
    shutil.copy(folder / DATABASE, copy)
    shutil.copy(folder / (DATABASE + "-wal"), tmp_path / "copy.db-wal")
    assert (tmp_path / "copy.db-wal").stat().st_size > 0
    return copy, expected


def test_what_was_committed_to_the_wal_is_read(live: tuple[Path, dict[int, str]]) -> None:
    path, expected = live
    assert _messages(path) == expected
    path.write_bytes(b"")
    assert _messages(path) == expected, "here the WAL holds every page"


@pytest.mark.parametrize("how", ["flip", "cut", "salt", "header", "uncommitted"])
def test_a_wal_counts_up_to_the_first_frame_that_fails(
    live: tuple[Path, dict[int, str]], how: str
) -> None:
    path, expected = live
    wal = path.with_name(path.name + "-wal")
    data = bytearray(wal.read_bytes())
    frame = 24 + 4096
    middle = 32 + (len(data) - 32) // frame // 2 * frame
    if how == "flip":
        data[middle + 100] ^= 1
    elif how == "cut":
        del data[middle + 1000 :]
    elif how == "salt":
        data[middle + 8] ^= 1
    elif how == "header":
        data[24] ^= 1
    else:
        data += data[-frame:]  # its checksum does not follow from the one before
    wal.write_bytes(data)
    oracle = path.with_name("oracle.db")
    shutil.copy(path, oracle)
    shutil.copy(wal, oracle.with_name("oracle.db-wal"))
    found = _messages(path)
    assert found == _by_sqlite(oracle)
    assert found == expected if how == "uncommitted" else len(found) < len(expected)


def _by_sqlite(path: Path) -> dict[int, str]:
    db = connect(path, "read")
    try:
        return dict(db.execute("SELECT id, content FROM message").fetchall())
    except sqlite3.OperationalError as error:
        assert "no such table" in str(error)
        return {}
    finally:
        db.close()


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_never_a_crash(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    path = tmp_path / "noise.db"
    page = bytearray(chance.randbytes(4096 * 20))
    for at in range(0, len(page), 4096):
        page[at] = chance.choice([0x0D, 0x0A, 0x02, 0x05])
    path.write_bytes(page)
    path.with_name("noise.db-wal").write_bytes(chance.randbytes(9000))
    pages = Pages.read(path)
    rows = list(pages.rows())
    assert pages.num_broken > len(rows)
