"""Group commit, failures at every write, and a full disk."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from storage.ballast import Ballast
from storage.records import OWNER_ID, Conflict, DatabaseBusy, DiskFull, StorageError
from storage.store import Store
from tests.storage import faults, make


def test_one_refusal_does_not_undo_its_neighbours(store: Store) -> None:
    key = store.create_conversation(OWNER_ID).key
    entered, release = threading.Event(), threading.Event()

    def hold(db: object) -> None:
        entered.set()
        release.wait(30)

    blocker = store._writer.submit(hold)
    assert entered.wait(30)
    good = store._writer.submit(lambda db: db.execute("UPDATE conversation SET title = 'kept'"))
    refused = store._writer.submit(lambda db: db.execute("UPDATE message SET id = NULL, role = 5"))
    bug = store._writer.submit(lambda db: 1 // 0)
    constraint = store._writer.submit(
        lambda db: db.execute(
            "INSERT INTO user (id, name, role, created_at) VALUES (1, 'x', 'y', 0)"
        )
    )
    release.set()
    blocker.result()
    good.result()
    refused.result()
    with pytest.raises(ZeroDivisionError):
        bug.result()
    with pytest.raises(Conflict):
        constraint.result()
    assert store.conversation(OWNER_ID, key).title == "kept"


def test_many_threads_write_and_nothing_is_lost(store: Store) -> None:
    key = store.create_conversation(OWNER_ID).key
    turns = [make.turn(store, key, f"p{n}", None) for n in range(8)]

    def stream(n: int) -> None:
        for piece in range(200):
            store.append(turns[n].reply.id, f"{n}:{piece} ")
            if piece % 50 == 0:
                store.set_setting(OWNER_ID, f"s{n}.{piece}", "x")
        make.finish(store, turns[n].reply.id, "")

    threads = [threading.Thread(target=stream, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n, turn in enumerate(turns):
        expected = "".join(f"{n}:{piece} " for piece in range(200))
        assert store.message(OWNER_ID, key, turn.reply.id).content == expected
    assert len(store.settings(OWNER_ID)) == 32


def test_no_call_leaves_a_transaction_open(store: Store) -> None:
    key = store.create_conversation(OWNER_ID).key
    make.turn(store, key, "a", "b")
    with pytest.raises(StorageError):
        store.rename(OWNER_ID, "none", "x")
    assert store._writer.call(lambda db: db.conn.in_transaction, outside=True) is False


def _scenario(store: Store, acknowledged: dict[str, object]) -> None:
    """A day in the life of a conversation; notes what was acknowledged as it goes."""
    key = store.create_conversation(OWNER_ID, title="t").key
    acknowledged["key"] = key
    turn = store.begin_turn(OWNER_ID, key, parent_id=None, text="prompt", client_key="c")
    acknowledged["prompt"] = turn.prompt.id
    store.add_verdict(turn.prompt.id, make.ALLOW)
    store.append(turn.reply.id, "one ")
    make.flush(store)
    acknowledged["text"] = "one "
    store.append(turn.reply.id, "two")
    reply = store.finish_reply(
        turn.reply.id, status="done", generation=make.generation(), verdicts=[make.ALLOW]
    )
    acknowledged["reply"] = reply
    acknowledged["renamed"] = store.rename(OWNER_ID, key, "renamed").title
    store.record(OWNER_ID, "x")
    acknowledged["audit"] = 1


def _check(folder: Path, acknowledged: dict[str, object]) -> None:
    """Everything that was acknowledged is there, and the database is sound."""
    store = make.open_store(folder)
    try:
        assert store.repair is None
        assert store._writer.call(_problems) == []
        if "key" not in acknowledged:
            return
        key = str(acknowledged["key"])
        path = store.path(OWNER_ID, key)
        if "prompt" in acknowledged:
            assert path[0].id == acknowledged["prompt"]
        if "reply" in acknowledged:
            assert path[1] == acknowledged["reply"]
        elif "text" in acknowledged:
            assert path[1].content.startswith(str(acknowledged["text"]))
        assert all(message.status != "streaming" for message in path)
        if "renamed" in acknowledged:
            assert store.conversation(OWNER_ID, key).title == "renamed"
        if "audit" in acknowledged:
            assert [entry.action for entry in store.audit()] == ["x"]
    finally:
        store.close()


def _problems(db: object) -> list[str]:
    from storage import health

    return health.problems(db)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", sorted(faults.MESSAGES))
@pytest.mark.parametrize("step", [8, pytest.param(1, marks=pytest.mark.full)])
def test_whichever_write_fails_nothing_acknowledged_is_lost(
    tmp_path: Path, kind: str, step: int
) -> None:
    """Fails the n-th write statement for n = 1, 1 + step, ... until a run has no failure left."""
    plan = faults.Plan()
    nth = 1
    while True:
        folder = tmp_path / str(nth)
        acknowledged: dict[str, object] = {}
        fired = plan.fired
        with faults.failing_writes(plan):
            store = make.open_store(folder)
            plan.arm(nth, kind)
            try:
                _scenario(store, acknowledged)
            except StorageError as error:
                assert isinstance(error, DiskFull) or kind != "SQLITE_FULL"
                assert isinstance(error, DatabaseBusy) or kind != "SQLITE_BUSY"
            plan.disarm()
            # The store goes on.
            assert store.create_conversation(OWNER_ID, title="after").title == "after"
            store.close()
        _check(folder, acknowledged)
        if plan.fired == fired:
            break
        nth += step
    assert nth > 40, "the scenario has at least forty writes"


@pytest.mark.parametrize("kind", ["SQLITE_IOERR", "SQLITE_BUSY"])
def test_streamed_text_waits_for_a_disk_that_recovers(folder: Path, kind: str) -> None:
    plan = faults.Plan()
    with faults.failing_writes(plan):
        store = make.open_store(folder)
        key = store.create_conversation(OWNER_ID).key
        turn = make.turn(store, key, "p", None)
        plan.arm(1, kind)
        store.append(turn.reply.id, "kept ")
        while not plan.fired:
            threading.Event().wait(0.01)
        store.append(turn.reply.id, "in order")
        assert make.finish(store, turn.reply.id, "").content == "kept in order"
        store.close()


def _fill(store: Store, key: str, parent_id: int | None) -> tuple[list[str], DiskFull]:
    """Turns until the disk is full: the prompts that were acknowledged, and the refusal."""
    acknowledged: list[str] = []
    for n in range(10_000):
        text = f"{n} " + "x" * 3000
        try:
            turn = store.begin_turn(
                OWNER_ID, key, parent_id=parent_id, text=text, client_key=str(n)
            )
        except DiskFull as error:
            return acknowledged, error
        acknowledged.append(text)
        try:
            parent_id = make.finish(store, turn.reply.id, "y" * 500).id
        except DiskFull as error:
            return acknowledged, error
    raise AssertionError("the disk was never full")


def _limit(store: Store, extra_pages: int | None) -> None:
    def set_limit(db: object) -> None:
        execute: Callable[[str], object] = db.execute  # type: ignore[attr-defined]
        pages = db.execute("PRAGMA page_count").fetchone()[0]  # type: ignore[attr-defined]
        limit = 2**30 if extra_pages is None else pages + extra_pages
        execute(f"PRAGMA max_page_count = {limit}")

    store._writer.call(set_limit, outside=True)


LEVELS = [3, 17, 40]


@pytest.mark.parametrize(
    "level",
    [*LEVELS, *(pytest.param(n, marks=pytest.mark.full) for n in range(5, 105) if n not in LEVELS)],
)
def test_a_full_disk_keeps_what_was_acknowledged_and_recovers(folder: Path, level: int) -> None:
    store = make.open_store(folder)
    key = store.create_conversation(OWNER_ID).key
    _limit(store, level)
    acknowledged, error = _fill(store, key, None)
    assert "free some space" in str(error)
    assert store.full
    for _ in range(3):
        with pytest.raises(DiskFull):
            store.begin_turn(
                OWNER_ID, key, parent_id=None, text="z" * 500_000, client_key="too much"
            )
    prompts = [m.content for m in store.path(OWNER_ID, key) if m.role == "user"]
    assert prompts == acknowledged
    _limit(store, None)
    make.turn(store, key, "room again", "yes")
    assert not store.full
    store.close()
    reopened = make.open_store(folder)
    assert make.contents(reopened, key) == ["room again", "yes"]
    assert reopened._writer.call(_problems) == []
    reopened.close()


def test_a_ballast_is_made_only_where_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ballast = Ballast(tmp_path / "ballast", 1 << 20)
    assert ballast.restore()
    assert (tmp_path / "ballast").stat().st_size == 1 << 20
    assert ballast.release()
    assert ballast.spent
    assert not ballast.release(), "there is none to give twice"
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    assert not ballast.restore()
    assert ballast.spent
    monkeypatch.undo()
    assert ballast.restore()
    assert not ballast.spent
