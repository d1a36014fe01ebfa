"""The schema: fresh equals migrated, strict, indexed for every hot query, guarded by triggers."""

import gzip
from pathlib import Path

import pytest
from sqlite_utils import Migrations

from storage import backup, opening, schema, tree
from storage.connection import Database, connect, sqlite3
from storage.folder import BACKUPS, DATABASE
from storage.records import OWNER_ID, StorageError
from storage.store import Store
from tests.storage import make
from tests.storage.release import PROMPT, RELEASED, REPLY


def _catalogue(db: Database) -> list[tuple[object, ...]]:
    return sorted(
        tuple(row) for row in db.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema")
    )


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    folder = tmp_path / "fresh"
    make.open_store(folder).close()
    return folder / DATABASE


def _pending_step(db: Database) -> None:
    db.execute("ALTER TABLE conversation ADD COLUMN mood TEXT")


def _with_a_next_step(monkeypatch: pytest.MonkeyPatch, step: object = _pending_step) -> None:
    grown = Migrations("corral")
    grown._migrations = [*schema.migrations._migrations]
    grown(name="m900_next")(step)  # type: ignore[arg-type,type-var]
    monkeypatch.setattr(opening, "migrations", grown)


def _released() -> list[Path]:
    return sorted(RELEASED.glob("*.db.gz"))


def test_there_is_a_fixture_of_every_released_schema() -> None:
    steps = [step.name for step in schema.migrations._migrations]
    assert [path.name.removesuffix(".db.gz") for path in _released()] == steps


@pytest.mark.parametrize("packed", _released(), ids=lambda path: path.name)
def test_a_released_schema_migrates_to_the_fresh_one(
    packed: Path, folder: Path, fresh: Path
) -> None:
    folder.mkdir()
    (folder / DATABASE).write_bytes(gzip.decompress(packed.read_bytes()))
    store = make.open_store(folder)
    assert store.repair is None
    (conversation,) = store.conversations(OWNER_ID)
    assert make.contents(store, conversation.key) == [PROMPT, REPLY]
    assert store.setting(OWNER_ID, "theme") == "dark"
    assert store.audit_intact()
    assert [hit.message_id for hit in store.search(OWNER_ID, "美洲驼")] == [None, 1]
    store.close()
    migrated, made = connect(folder / DATABASE), connect(fresh)
    assert _catalogue(migrated) == _catalogue(made)
    migrated.close()
    made.close()


def test_a_migration_is_preceded_by_a_backup(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make.open_store(folder)
    store.create_conversation(OWNER_ID, title="before")
    store.close()
    _with_a_next_step(monkeypatch)
    store = make.open_store(folder)
    assert [found.title for found in store.conversations(OWNER_ID)] == ["before"]
    (made,) = backup.listed(folder / BACKUPS)
    assert made.stem.endswith("before-m900_next")
    copy = connect(made, "immutable")
    assert "mood" not in [column.name for column in copy.table("conversation").columns]
    copy.close()


def test_a_migration_that_fails_changes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make.open_store(folder)
    store.create_conversation(OWNER_ID, title="before")
    store.close()

    def failing(db: Database) -> None:
        db.execute("DELETE FROM conversation")
        db.execute("this is no SQL")

    with monkeypatch.context() as patched:
        _with_a_next_step(patched, failing)
        with pytest.raises(StorageError):
            make.open_store(folder)
    store = make.open_store(folder)
    assert store.repair is None
    assert [found.title for found in store.conversations(OWNER_ID)] == ["before"]


def test_every_table_of_ours_is_strict(fresh: Path) -> None:
    db = connect(fresh)
    loose = [
        row[0]
        for row in db.execute(
            "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' "
            "AND strict = 0 AND name NOT LIKE 'sqlite_%' AND name NOT LIKE 'search_index%'"
        )
    ]
    db.close()
    assert loose == ["_sqlite_migrations"]


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("INSERT INTO message (user_id, conversation_id, role, status, created_at, updated_at) "
         "VALUES (1, 1, 'assistant', 'done', 0, 0)", "final verdict"),
        ("UPDATE message SET status = 'done' WHERE role = 'assistant'", "final verdict"),
        ("UPDATE message SET status = 'odd'", "CHECK"),
        ("UPDATE message SET parent_id = 77", "FOREIGN KEY"),
        ("UPDATE conversation SET active_leaf_id = 77", "FOREIGN KEY"),
        ("UPDATE conversation SET user_id = 77", "FOREIGN KEY"),
        ("UPDATE search_entry SET body = 'x'", "never changed"),
        ("UPDATE message SET created_at = 'yesterday'", "cannot store TEXT"),
    ],
)  # fmt: skip
def test_the_database_refuses(store: Store, sql: str, words: str) -> None:
    key = store.create_conversation(OWNER_ID).key
    make.turn(store, key, "Hello", "Hi", status="stopped")
    store._writer.call(lambda db: db.execute("DELETE FROM verdict"))
    with pytest.raises(StorageError, match=words):
        store._writer.call(lambda db: db.execute(sql))


def test_pragmas_of_writer_and_readers(store: Store) -> None:
    def values(db: Database) -> list[object]:
        names = ("foreign_keys", "query_only", "secure_delete", "synchronous", "journal_mode")
        return [db.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert store._writer.call(values, outside=True) == [1, 0, 1, 2, "wal"]
    with store._readers.snapshot() as db:
        keys, query_only, _, _, journal = values(db)
        assert (keys, query_only, journal) == (1, 1, "wal")
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            db.execute("DELETE FROM message")


def _plans(store: Store, monkeypatch: pytest.MonkeyPatch, call: object) -> str:
    """How SQLite would run every query that a call makes."""
    statements: list[tuple[str, object]] = []
    real = Database.execute

    def spy(db: Database, sql: str, parameters: object = None) -> object:
        statements.append((sql, parameters))
        return real(db, sql, parameters)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(Database, "execute", spy)
        call()  # type: ignore[operator]
    lines = []
    with store._readers.snapshot() as db:
        for sql, parameters in statements:
            for row in db.conn.execute(f"EXPLAIN QUERY PLAN {sql}", parameters or ()):
                lines.append(row[3])
    assert statements
    return "\n".join(lines)


def test_hot_queries_walk_indexes_and_sort_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = store.create_conversation(OWNER_ID).key
    make.turn(store, key, "Hello", "Hi")
    for call in (
        lambda: store.conversations(OWNER_ID),
        lambda: store.conversations(OWNER_ID, shelf="trash"),
        lambda: store.search(OWNER_ID, "hello"),
        lambda: store.session_user(bytes(32)),
    ):
        plan = _plans(store, monkeypatch, call)
        assert "TEMP B-TREE" not in plan
        scans = [line for line in plan.splitlines() if line.startswith("SCAN")]
        assert all("VIRTUAL TABLE INDEX" in line for line in scans), plan
    top = store.path(OWNER_ID, key)[0].id
    for call in (
        lambda: store.path(OWNER_ID, key, last=40),
        lambda: store.message(OWNER_ID, key, top),
    ):
        plan = _plans(store, monkeypatch, call)
        scans = [line for line in plan.splitlines() if line.startswith("SCAN")]
        # The recursive steps and the id lists of what is shown; never a table.
        assert all(line.split()[1] in ("CONSTANT", "up", "i", "p") for line in scans), plan


def test_selecting_a_version_walks_the_tree_and_not_the_conversation(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = store.create_conversation(OWNER_ID).key
    top = make.turn(store, key, "Hello", "Hi").prompt.id
    conversation = store.conversation(OWNER_ID, key)

    def select() -> None:
        with store._readers.snapshot() as db, pytest.raises(sqlite3.OperationalError):
            tree.select_version(db, conversation, top)

    plan = _plans(store, monkeypatch, select)
    assert "message_tree (conversation_id=? AND parent_id=?)" in plan
    assert "message_tree (conversation_id=?)" not in plan
