"""Damaged databases: no crash, no silent loss, and the owner is told."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from storage import health
from storage.connection import connect, sqlite3
from storage.folder import DATABASE, SUSPECT
from storage.records import OWNER_ID, DatabaseDamaged, DatabaseNewer, StorageError
from storage.salvage import RECOVERED_TITLE
from storage.store import Store
from tests.storage import make

PAGE = 4096


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with 30 conversations of 8 messages, cleanly closed."""
    folder = tmp_path_factory.mktemp("sound") / "data"
    store = make.open_store(folder)
    for n in range(30):
        key = store.create_conversation(OWNER_ID, title=f"title {n}").key
        parent_id = None
        for turn in range(4):
            prompt = f"prompt {n}.{turn} " + "x" * (n * 300)
            parent_id = make.turn(
                store, key, prompt, f"reply {n}.{turn}", parent_id=parent_id
            ).reply.id
    store.set_setting(OWNER_ID, "theme", "dark")
    store.close()
    return folder


@pytest.fixture
def copy(sound: Path, folder: Path) -> Path:
    shutil.copytree(sound, folder)
    return folder


def _all(store: Store) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for conversation in store.conversations(OWNER_ID, limit=1000):
        contents = [message.content for message in store.path(OWNER_ID, conversation.key)]
        found.setdefault(conversation.title, []).extend(contents)
    return found


def _start_checks_everything(folder: Path) -> None:
    (folder / SUSPECT).touch()


def _flip_bits(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 10, 200])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _truncate(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def _zero_pages(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 3, 20])):
        page = chance.randrange(len(data) // PAGE)
        data[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)


def _swap_pages(data: bytearray, chance: random.Random) -> None:
    one, two = (chance.randrange(len(data) // PAGE) * PAGE for _ in range(2))
    data[one : one + PAGE], data[two : two + PAGE] = data[two : two + PAGE], data[one : one + PAGE]


def _garble_header(data: bytearray, chance: random.Random) -> None:
    data[:100] = chance.randbytes(100)


def _zero_page_with(data: bytearray, words: bytes) -> None:
    for at in range(0, len(data), PAGE):
        if words in data[at : at + PAGE]:
            data[at : at + PAGE] = bytes(PAGE)


KINDS: list[Callable[[bytearray, random.Random], None]] = [
    _flip_bits,
    _truncate,
    _zero_pages,
    _swap_pages,
    _garble_header,
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__.strip("_"))
@pytest.mark.parametrize("count", [4, pytest.param(100, marks=pytest.mark.full)])
def test_damage_is_survived_and_told(
    sound: Path, tmp_path: Path, kind: Callable[[bytearray, random.Random], None], count: int
) -> None:
    original = (sound / DATABASE).read_bytes()
    chance = random.Random(kind.__name__)
    before = Store.open(sound, readonly=True)
    whole = _all(before)
    before.close()
    repaired = 0
    for n in range(count):
        folder = tmp_path / str(n)
        folder.mkdir()
        data = bytearray(original)
        kind(data, chance)
        (folder / DATABASE).write_bytes(data)
        _start_checks_everything(folder)
        store = make.open_store(folder)
        found = _all(store)
        if store.repair is None:
            # Bits of text that no checksum covers may differ; rows may not be missing.
            assert sum(map(len, found.values())) == sum(map(len, whole.values()))
        else:
            repaired += 1
            assert store.repair.moved_to.read_bytes() == bytes(data), "the damaged file is kept"
            assert str(store.repair.kept.num_messages) in store.repair.report()
            assert sum(map(len, found.values())) <= store.repair.kept.num_messages
        assert store._writer.call(health.problems) == []
        make.turn(store, store.create_conversation(OWNER_ID).key, "goes", "on")
        store.close()
        shutil.rmtree(folder)
    print(f"{count} damaged by {kind.__name__}, {repaired} repaired")


def test_a_lost_header_loses_nothing(copy: Path) -> None:
    before = Store.open(copy, readonly=True)
    whole = _all(before)
    before.close()
    path = copy / DATABASE
    data = path.read_bytes()
    path.write_bytes(bytes(100) + data[100:])
    store = make.open_store(copy)
    assert store.repair is not None
    assert _all(store) == whole
    assert store.setting(OWNER_ID, "theme") == "dark"
    reply = store.path(OWNER_ID, store.conversations(OWNER_ID)[0].key)[-1]
    assert reply.status == "done"
    assert reply.generations == (make.generation(),)
    assert len(store.search(OWNER_ID, "reply 7.2")) == 1
    assert "The damaged file was kept" in store.repair.moved_to.with_suffix(".txt").read_text()
    assert [entry.action for entry in store.audit()] == ["repair"]
    store.close()
    again = make.open_store(copy)
    assert again.repair is None
    again.close()


def test_what_the_wal_holds_is_saved_too(copy: Path, tmp_path: Path) -> None:
    store = make.open_store(copy)
    key = store.create_conversation(OWNER_ID, title="only in the WAL").key
    make.turn(store, key, "late", "later")
    streaming = make.turn(store, key, "last", None)
    store.append(streaming.reply.id, "unfinished")
    make.flush(store)
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for name in (DATABASE, DATABASE + "-wal"):
        shutil.copy(copy / name, crashed / name)
    store.close()
    data = bytearray((crashed / DATABASE).read_bytes())
    _zero_page_with(data, b"prompt 7.")
    (crashed / DATABASE).write_bytes(data)
    saved = make.open_store(crashed)
    assert saved.repair is not None
    assert _all(saved)["only in the WAL"] == ["last", "unfinished"]
    assert saved.path(OWNER_ID, key)[-1].status == "interrupted"
    assert {f"title {n}" for n in range(30)} <= set(_all(saved))
    saved.close()


def test_the_newest_sound_backup_fills_what_is_lost_but_not_what_was_purged(copy: Path) -> None:
    store = make.open_store(copy)
    purged = store.create_conversation(OWNER_ID, title="to be purged").key
    make.turn(store, purged, "gone", "gone")
    store.backup()
    store.purge(OWNER_ID, purged)
    store.create_conversation(OWNER_ID, title="after the backup")
    whole = _all(store)
    store.close()
    path = copy / DATABASE
    data = bytearray(path.read_bytes())
    _zero_page_with(data, b"prompt 7.")
    data[:16] = bytes(16)
    path.write_bytes(data)
    saved = make.open_store(copy)
    assert saved.repair is not None
    assert saved.repair.kept.num_from_backup > 0
    assert "came from" in saved.repair.report()
    assert _all(saved) == whole
    saved.close()


def test_without_a_backup_messages_whose_conversation_is_lost_are_kept(copy: Path) -> None:
    path = copy / DATABASE
    db = connect(path)
    db.execute("PRAGMA foreign_keys = OFF")
    db.execute("DELETE FROM conversation WHERE title = 'title 3'")
    db.execute("DELETE FROM message WHERE content LIKE 'prompt 5.0%'")
    db.close()
    _start_checks_everything(copy)
    store = make.open_store(copy)
    assert store.repair is not None
    assert "refers to" in store.repair.reason
    found = _all(store)
    assert found[RECOVERED_TITLE][1] == "reply 3.0"
    assert len(found[RECOVERED_TITLE]) == 8
    assert found["title 5"][0] == "reply 5.0", "its prompt is lost: the reply is a root now"
    store.close()


def test_no_report_quotes_what_was_said(
    copy: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy / DATABASE
    data = path.read_bytes()
    path.write_bytes(data.replace(b"prompt 2.1 ", b"prompt 2.1\xff", 1))
    _start_checks_everything(copy)
    store = make.open_store(copy)
    assert store.repair is not None
    told = store.repair.report() + repr(store.audit()) + caplog.text + str(capsys.readouterr())
    assert "UTF-8" in told
    assert "prompt 2" not in told
    assert _all(store)["title 2"][2].startswith("prompt 2.1\ufffdx"), "the rest of it is kept"


@pytest.mark.parametrize("content", [b"", b"\x00" * 5000, b"hello, I am a text file\n" * 400])
def test_a_file_that_is_no_database_is_moved_aside(folder: Path, content: bytes) -> None:
    folder.mkdir()
    (folder / DATABASE).write_bytes(content)
    store = make.open_store(folder)
    assert store.conversations(OWNER_ID) == []
    if content.strip(b"\x00"):
        assert store.repair is not None
        assert store.repair.moved_to.read_bytes() == content
    store.close()


def test_another_programs_database_is_left_alone(folder: Path) -> None:
    folder.mkdir()
    other = sqlite3.connect(folder / DATABASE)
    other.execute("CREATE TABLE recipes (name TEXT)")
    other.close()
    before = (folder / DATABASE).read_bytes()
    for readonly in (True, False):
        with pytest.raises(StorageError, match="another program's"):
            Store.open(folder, readonly=readonly)
    assert (folder / DATABASE).read_bytes() == before
    assert not list(folder.glob("*damaged*"))


def test_a_newer_corrals_database_is_left_alone(copy: Path) -> None:
    db = connect(copy / DATABASE)
    db.execute(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) "
        "VALUES ('corral', 'm999_future', '2030')"
    )
    db.close()
    before = (copy / DATABASE).read_bytes()
    for readonly in (True, False):
        with pytest.raises(DatabaseNewer, match="m999_future"):
            Store.open(copy, readonly=readonly)
    assert (copy / DATABASE).read_bytes() == before


def test_damage_found_while_running_is_repaired_at_the_next_start(copy: Path) -> None:
    path = copy / DATABASE
    db = connect(path)
    root = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'message'").fetchone()[0]
    db.close()
    data = bytearray(path.read_bytes())
    data[(root - 1) * PAGE : root * PAGE] = b"\xff" * PAGE
    path.write_bytes(data)
    store = make.open_store(copy)  # closed properly before: nothing is checked
    key = store.conversations(OWNER_ID)[0].key
    with pytest.raises(DatabaseDamaged, match="Restart Corral"):
        store.path(OWNER_ID, key)
    store.close()
    repaired = make.open_store(copy)
    assert repaired.repair is not None
    assert len(_all(repaired)) == 30
    assert all(len(contents) == 8 for contents in _all(repaired).values())
    repaired.close()
    clean = make.open_store(copy)
    assert clean.repair is None
    clean.close()
