"""A user reaches nothing of another one's, through any public method."""

import inspect
import io
from collections.abc import Callable

import pytest

from storage.records import OWNER_ID, Feedback, NotFound, StorageError
from storage.store import Store
from tests.storage import make

STRANGER = 2

# Methods for the server's own use: they take ids that the store handed out, or concern everybody.
SERVER_ONLY = {
    "append", "add_verdict", "set_status", "finish_reply", "purge_trash", "session_user",
    "add_session", "revoke_session", "record", "audit", "audit_intact", "backup", "backup_daily",
    "export", "open", "close", "full", "record_safety", "safety_events", "digest", "drop_withheld",
    "remove_person",
}  # fmt: skip
# Methods that take a user and no object: they show that user's own things.
OWN_VIEW = {
    "create_conversation", "conversations", "search", "user", "setting", "settings", "set_setting",
    "usage", "revoke_sessions", "saved", "save", "rated", "liked", "recent_runs",
    "judged_messages", "dates", "tags", "add_document", "draft",
}  # fmt: skip
# Methods that take a user and an id of their own kind: see test_opinions.py.
BY_OWN_ID = {"comparison", "rate", "remove_saved"}

Call = Callable[[Store, int, str, int, int], object]

# Methods that name an object: (store, user, key, prompt id, reply id).
BY_OBJECT: dict[str, Call] = {
    "conversation": lambda s, u, k, p, r: s.conversation(u, k),
    "rename": lambda s, u, k, p, r: s.rename(u, k, "mine now"),
    "pin": lambda s, u, k, p, r: s.pin(u, k, True),
    "trash": lambda s, u, k, p, r: s.trash(u, k),
    "restore": lambda s, u, k, p, r: s.restore(u, k),
    "path_length": lambda s, u, k, p, r: s.path_length(u, k),
    "path": lambda s, u, k, p, r: s.path(u, k, leaf_id=r, last=40),
    "message": lambda s, u, k, p, r: s.message(u, k, r),
    "select_version": lambda s, u, k, p, r: s.select_version(u, k, p),
    "begin_turn": lambda s, u, k, p, r: s.begin_turn(u, k, parent_id=r, text="x", client_key="x"),
    "begin_reply": lambda s, u, k, p, r: s.begin_reply(u, k, prompt_id=p),
    "resume_reply": lambda s, u, k, p, r: s.resume_reply(u, k, reply_id=r),
    "choose": lambda s, u, k, p, r: s.choose(u, k, system_prompt="x", choices={}),
    "begin_branch": lambda s, u, k, p, r: s.begin_branch(u, k, reply_id=r, num_chars=1),
    "set_feedback": lambda s, u, k, p, r: s.set_feedback(u, k, r, Feedback(1)),
    "compare": lambda s, u, k, p, r: s.compare(u, k, first_id=r, second_id=r + 9, blind=False),
    "withheld": lambda s, u, k, p, r: s.withheld(u, k, r),
    "tag": lambda s, u, k, p, r: s.tag(u, k, ["mine"]),
    "archive": lambda s, u, k, p, r: s.archive(u, k, True),
    "copy": lambda s, u, k, p, r: s.copy(u, k),
    "document": lambda s, u, k, p, r: s.document(u, k),
    "remove_branch": lambda s, u, k, p, r: s.remove_branch(u, k, r),
    "restore_branch": lambda s, u, k, p, r: s.restore_branch(u, k, r),
    "keep_draft": lambda s, u, k, p, r: s.keep_draft(u, k, "x"),
    "purge": lambda s, u, k, p, r: s.purge(u, k),
}


def test_every_public_method_is_listed_here() -> None:
    public = {name for name, _ in inspect.getmembers(Store) if not name.startswith("_")}
    assert public == SERVER_ONLY | OWN_VIEW | BY_OWN_ID | set(BY_OBJECT)


def _fingerprint(store: Store) -> dict[str, list[object]]:
    return store._writer.call(make.rows)


@pytest.fixture
def target(store: Store) -> tuple[str, int, int]:
    """The owner's conversation with a stopped reply; user 2 exists."""
    make.add_user(store, "stranger")
    key = store.create_conversation(OWNER_ID, title="private").key
    turn = make.turn(store, key, "secret words", "secret reply", status="stopped")
    return key, turn.prompt.id, turn.reply.id


@pytest.mark.parametrize("method", sorted(BY_OBJECT))
def test_another_users_object_is_not_found_and_not_touched(
    store: Store, target: tuple[str, int, int], method: str
) -> None:
    before = _fingerprint(store)
    for user_id in (STRANGER, 3, 0, -1, 10**30):
        with pytest.raises(NotFound) as absent:
            BY_OBJECT[method](store, user_id, "no-such-key", *target[1:])
        with pytest.raises(NotFound) as foreign:
            BY_OBJECT[method](store, user_id, *target)
        assert str(foreign.value) == str(absent.value), "the two must look alike"
    assert _fingerprint(store) == before


@pytest.mark.parametrize("method", sorted(BY_OBJECT))
def test_another_users_messages_are_not_reached_through_a_conversation_of_ones_own(
    store: Store, target: tuple[str, int, int], method: str
) -> None:
    own = store.create_conversation(STRANGER).key
    mine = make.turn(store, own, "mine", "mine", user_id=STRANGER)
    _, prompt_id, reply_id = target
    takes_message = {"path", "message", "select_version", "begin_turn", "begin_reply"}
    takes_message |= {"resume_reply", "begin_branch", "set_feedback", "compare"}
    if method in takes_message:
        with pytest.raises(NotFound):
            BY_OBJECT[method](store, STRANGER, own, prompt_id, reply_id)
        assert make.contents(store, own, STRANGER) == ["mine", "mine"]
    else:
        BY_OBJECT[method](store, STRANGER, own, mine.prompt.id, mine.reply.id)
    assert make.contents(store, target[0]) == ["secret words", "secret reply"]


def test_lists_search_settings_and_usage_are_ones_own(
    store: Store, target: tuple[str, int, int]
) -> None:
    store.set_setting(OWNER_ID, "theme", "dark")
    store.keep_draft(OWNER_ID, target[0], "not sent yet")
    store.trash(OWNER_ID, store.create_conversation(OWNER_ID).key)
    assert store.conversations(STRANGER) == []
    assert store.conversations(STRANGER, shelf="trash") == []
    assert store.search(STRANGER, "secret") == []
    assert store.search(STRANGER, "private") == []
    assert len(store.search(OWNER_ID, "secret")) == 2
    assert store.settings(STRANGER) == {}
    assert store.setting(STRANGER, "theme") is None
    assert store.draft(STRANGER, target[0]) == ""
    out = io.StringIO()
    assert store.export(out, user_id=STRANGER) == 0
    assert "secret" not in out.getvalue()


def test_the_database_itself_refuses_a_message_in_anothers_conversation(
    store: Store, target: tuple[str, int, int]
) -> None:
    conversation = store.conversation(OWNER_ID, target[0])
    own = store.conversation(STRANGER, store.create_conversation(STRANGER).key)
    for user_id, conversation_id, parent_id in (
        (STRANGER, conversation.id, None),
        (STRANGER, own.id, target[1]),
    ):
        with pytest.raises(StorageError, match="FOREIGN KEY"):
            store._writer.call(
                lambda db, row=(user_id, conversation_id, parent_id): db.execute(  # type: ignore[misc]
                    "INSERT INTO message (user_id, conversation_id, parent_id, role, status, "
                    "created_at, updated_at) VALUES (?, ?, ?, 'user', 'done', 0, 0)",
                    row,
                )
            )
