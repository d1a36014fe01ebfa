"""Lists, titles, pins, the trash, and what a purge leaves behind: nothing."""

from pathlib import Path

import pytest

from storage import health
from storage.records import OWNER_ID, Conflict, NotFound
from storage.store import Store
from storage.text import title_from
from tests.storage import make


def test_a_new_conversation_is_empty_and_has_a_random_key(store: Store) -> None:
    made = store.create_conversation(OWNER_ID, title="Llamas", system_prompt="Be brief.")
    assert made == store.conversation(OWNER_ID, made.key)
    assert (made.title, made.system_prompt, made.active_leaf_id) == ("Llamas", "Be brief.", None)
    assert len(made.key) >= 22
    assert store.create_conversation(OWNER_ID).key != made.key
    assert store.path(OWNER_ID, made.key) == []
    with pytest.raises(NotFound, match="no such user"):
        store.create_conversation(99)


def test_the_list_is_pinned_first_then_newest_turn_first(store: Store) -> None:
    a, b, c = (store.create_conversation(OWNER_ID, title=t).key for t in "abc")
    make.turn(store, a, "Hello", "Hi")
    store.pin(OWNER_ID, b, True)
    assert [found.title for found in store.conversations(OWNER_ID)] == ["b", "a", "c"]
    assert store.pin(OWNER_ID, b, False).pinned is False
    assert [found.title for found in store.conversations(OWNER_ID)] == ["a", "c", "b"]
    assert [found.title for found in store.conversations(OWNER_ID, limit=1, offset=1)] == ["c"]
    store.rename(OWNER_ID, c, "renamed")
    assert [found.title for found in store.conversations(OWNER_ID)] == ["a", "renamed", "b"]


def test_the_trash_keeps_everything_until_it_is_restored(store: Store) -> None:
    key = store.create_conversation(OWNER_ID).key
    turn = make.turn(store, key, "Hello", "Hi")
    trashed = store.trash(OWNER_ID, key)
    assert trashed.trashed_at is not None
    assert store.trash(OWNER_ID, key) == trashed
    assert store.conversations(OWNER_ID) == []
    assert store.conversations(OWNER_ID, shelf="trash") == [trashed]
    assert make.contents(store, key) == ["Hello", "Hi"]
    with pytest.raises(Conflict, match="trash"):
        store.begin_turn(OWNER_ID, key, parent_id=turn.reply.id, text="x", client_key="x")
    with pytest.raises(Conflict, match="trash"):
        store.begin_reply(OWNER_ID, key, prompt_id=turn.prompt.id)
    assert store.restore(OWNER_ID, key).trashed_at is None
    assert [found.key for found in store.conversations(OWNER_ID)] == [key]
    assert store.conversations(OWNER_ID, shelf="trash") == []


def test_purging_the_trash_takes_only_what_is_old(store: Store) -> None:
    old, young, kept = (store.create_conversation(OWNER_ID).key for _ in range(3))
    store.trash(OWNER_ID, old)
    store.trash(OWNER_ID, young)
    store._writer.call(
        lambda db: db.execute(
            "UPDATE conversation SET trashed_at = trashed_at - 31 * 86400000 WHERE key = ?", (old,)
        )
    )
    assert len(store.purge_trash()) == 1
    with pytest.raises(NotFound):
        store.conversation(OWNER_ID, old)
    assert [found.key for found in store.conversations(OWNER_ID, shelf="trash")] == [young]
    assert len(store.purge_trash(older_than_days=0)) == 1
    assert [found.key for found in store.conversations(OWNER_ID)] == [kept]


def _traces(folder: Path, words: list[str]) -> list[str]:
    """Which words still stand in the database or its WAL."""
    bytes_there = b"".join(path.read_bytes() for path in sorted(folder.glob("corral.db*")))
    lowered = bytes_there.lower()
    return [word for word in words if word.encode() in lowered]


def test_a_purge_leaves_no_trace_in_rows_index_free_pages_or_wal(
    store: Store, folder: Path
) -> None:
    secrets = ["qzprompttext", "qzreplytext", "qztitle", "qzsystem", "qzchunk", "qzguardreason"]
    gone = store.create_conversation(OWNER_ID, title="qztitle", system_prompt="qzsystem").key
    kept = store.create_conversation(OWNER_ID, title="kept").key
    filler = " ".join(f"word{n}" for n in range(3000))
    for n in range(10):
        make.turn(store, kept, f"keptword{n} {filler}", filler)
    first = make.turn(store, gone, f"qzprompttext {filler}", f"{filler} qzreplytext")
    store.add_verdict(first.prompt.id, make.replace_reason(make.BLOCK, "qzguardreason"))
    running = make.turn(store, gone, "x", None, parent_id=first.reply.id)
    store.append(running.reply.id, "qzchunk")
    make.flush(store)
    assert _traces(folder, secrets) == secrets
    assert store.purge(OWNER_ID, gone) == []
    assert _traces(folder, secrets) == []
    assert store.search(OWNER_ID, "qzprompttext") == []
    assert len(store.search(OWNER_ID, "keptword3")) == 1
    with pytest.raises(NotFound):
        store.purge(OWNER_ID, gone)


def test_a_purge_gives_its_room_back(store: Store, folder: Path) -> None:
    store._writer.call(health.empty_wal, outside=True)
    before = (folder / "corral.db").stat().st_size
    key = store.create_conversation(OWNER_ID).key
    make.turn(store, key, "x" * 300_000, "word " * 60_000)
    make.turn(store, store.create_conversation(OWNER_ID).key, "kept", "kept")
    store.purge(OWNER_ID, key)
    assert (folder / "corral.db").stat().st_size < before + 100_000


def test_a_purge_names_the_backups_that_still_hold_the_conversation(store: Store) -> None:
    before = store.backup()
    key = store.create_conversation(OWNER_ID, title="x").key
    holding = store.backup()
    unreadable = store.backup()
    unreadable.write_bytes(b"\x00" * 100)
    assert before.exists()
    assert set(store.purge(OWNER_ID, key)) == {holding, unreadable}


@pytest.mark.parametrize(
    ("prompt", "title"),
    [
        ("Hello", "Hello"),
        ("  \n\n  second line  counts \n third", "second line counts"),
        ("```\ncode()\n```", "code()"),
        ("> - **bold** [link](x)", "- bold link (x)"),
        ("nul\x00here", "nul here"),
        ("###", ""),
        ("", ""),
        ("word " * 30, "word " * 11 + "word…"),
        ("w" * 200, "w" * 60 + "…"),
        ("学习" * 40, "学习" * 15 + "…"),
    ],
)
def test_titles_are_the_first_words(prompt: str, title: str) -> None:
    assert title_from(prompt) == title


def test_a_draft_is_kept_until_it_is_sent_and_goes_with_its_conversation(
    store: Store, folder: Path
) -> None:
    key = store.create_conversation(OWNER_ID).key
    store.keep_draft(OWNER_ID, None, "for a new one")
    store.keep_draft(OWNER_ID, key, "words in the making")
    assert (store.draft(OWNER_ID, None), store.draft(OWNER_ID, key)) == (
        *("for a new one", "words in the making"),
    )
    with pytest.raises(NotFound):
        store.keep_draft(OWNER_ID, "no such key", "x")
    store.begin_turn(OWNER_ID, key, parent_id=None, text="other words", client_key="")
    assert store.draft(OWNER_ID, key) == "words in the making"
    store.purge(OWNER_ID, key)
    assert store.draft(OWNER_ID, key) == ""
    again = store.create_conversation(OWNER_ID).key
    store.keep_draft(OWNER_ID, again, "sent")
    store.begin_turn(OWNER_ID, again, parent_id=None, text="sent", client_key="")
    assert store.draft(OWNER_ID, again) == ""
