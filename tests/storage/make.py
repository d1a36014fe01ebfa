"""Small values for tests of the store."""

from dataclasses import replace
from pathlib import Path

from storage.connection import Database
from storage.records import OWNER_ID, Generation, MessageRecord, Status, Turn, VerdictRecord
from storage.store import Store

CANARY = "zanzibarium-canary-52"
ALLOW = VerdictRecord("final", "word-list", "1", "allow", 0.1)
BLOCK = VerdictRecord("final", "word-list", "1", "block", 0.9, category="weapons", threshold=0.5)


def replace_reason(verdict: VerdictRecord, reason: str) -> VerdictRecord:
    return replace(verdict, reason=reason)


_opened: list[Store] = []


def open_store(folder: Path) -> Store:
    """A store with a small ballast; `close_all` closes it if the test did not come to it."""
    store = Store.open(folder, ballast_bytes=1 << 20)
    _opened.append(store)
    return store


def close_all() -> None:
    while _opened:
        _opened.pop().close()


def generation(**changes: object) -> Generation:
    values: dict[str, object] = {
        "model": "tiny",
        "fingerprint": "f00d",
        "device": "cpu",
        "precision": "fp32",
        "sampling": {"temperature": 0.7, "stop": ["###"]},
        "seed": 2**64 - 1,
        "num_prompt": 5,
        "num_reused": 2,
        "num_new": 3,
        "queue_seconds": 0.0,
        "first_token_seconds": 0.25,
        "total_seconds": 0.5,
        "tokens_per_second": 8.0,
        "finish_reason": "stop",
        "token_ids": (1, 128_009, 0),
        "at": 1_700_000_000_000,
    }
    return Generation(**{**values, **changes})  # type: ignore[arg-type]


def turn(
    store: Store,
    key: str,
    text: str,
    reply: str | None,
    *,
    parent_id: int | None = None,
    status: Status = "done",
    user_id: int = OWNER_ID,
) -> Turn:
    """A turn, with its reply written and finished unless `reply` is None."""
    begun = store.begin_turn(user_id, key, parent_id=parent_id, text=text, client_key="")
    if reply is None:
        return begun
    return Turn(begun.prompt, finish(store, begun.reply.id, reply, status=status))


def finish(store: Store, reply_id: int, text: str, *, status: Status = "done") -> MessageRecord:
    store.append(reply_id, text)
    return store.finish_reply(reply_id, status=status, generation=generation(), verdicts=[ALLOW])


def add_user(store: Store, name: str, role: str = "user") -> int:
    def insert(db: Database) -> int:
        cursor = db.execute(
            "INSERT INTO user (name, role, created_at) VALUES (?, ?, 0)", (name, role)
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    return store._writer.call(insert)


def rows(db: Database) -> dict[str, list[object]]:
    """All rows of all of our tables."""
    tables = [name for name in db.table_names() if not name.startswith("search_index")]
    return {name: sorted(map(repr, db.execute(f"SELECT * FROM [{name}]"))) for name in tables}


def flush(store: Store) -> None:
    """Wait until everything appended so far is committed."""
    store._writer.call(lambda db: None)


def contents(store: Store, key: str, user_id: int = OWNER_ID) -> list[str]:
    return [message.content for message in store.path(user_id, key)]


def holds(folder: Path, text: str) -> list[Path]:
    """The files below `folder` in which `text` stands, in any of the ways it may be encoded."""
    spelled = [text.encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be")]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if any(one in path.read_bytes() for one in spelled)]
