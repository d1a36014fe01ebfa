"""Temporary conversations: everything can be done with them, nothing of them is written down."""

from pathlib import Path

import pytest

from storage.records import OWNER_ID, NotFound, SafetyEvent
from storage.store import Store
from storage.temporary import MOST_PER_USER
from tests.storage import make
from tests.storage.make import CANARY, holds


def begin(store: Store, text: str = CANARY) -> str:
    """A temporary conversation with one answered prompt; its key."""
    key = store.create_conversation(OWNER_ID, temporary=True).key
    make.turn(store, key, text, f"{text} in reply")
    return key


def test_it_is_a_conversation_like_any_other_until_it_ends(store: Store) -> None:
    key = begin(store)
    prompt, reply = store.path(OWNER_ID, key)
    assert (prompt.content, reply.content) == (CANARY, f"{CANARY} in reply")
    assert 2**52 < prompt.id < reply.id < 2**53
    again = store.begin_reply(OWNER_ID, key, prompt_id=prompt.id).reply
    store.append(again.id, "other words")
    store.finish_reply(again.id, status="stopped", generation=None)
    assert store.path(OWNER_ID, key)[-1].content == "other words"
    store.select_version(OWNER_ID, key, reply.id)
    made = store.compare(OWNER_ID, key, first_id=reply.id, second_id=again.id, blind=False)
    store.rate(OWNER_ID, made.id, helpfulness=2, safety=None)
    assert store.comparison(OWNER_ID, made.id).helpfulness == 2
    assert store.rename(OWNER_ID, key, "other").title == "other"
    assert store.document(OWNER_ID, key)["messages"][0]["content"] == CANARY
    assert store.temporary.end(OWNER_ID, key)
    with pytest.raises(NotFound):
        store.path(OWNER_ID, key)
    assert not store.temporary.end(OWNER_ID, key)


def test_it_stands_in_no_list_and_in_no_file(store: Store, folder: Path) -> None:
    begin(store)
    kept = store.create_conversation(OWNER_ID).key
    make.turn(store, kept, "words that stay", "indeed")
    assert [one.key for one in store.conversations(OWNER_ID)] == [kept]
    assert store.search(OWNER_ID, CANARY) == []
    assert len(store.dates(OWNER_ID)) == 1
    store.backup()
    assert holds(folder, "words that stay"), "the search finds what is there"
    assert holds(folder, CANARY) == []
    store.close()
    assert holds(folder, CANARY) == []


def test_what_it_used_and_how_it_was_judged_counts_as_ever(store: Store) -> None:
    key = store.create_conversation(OWNER_ID, temporary=True).key
    turn = store.begin_turn(OWNER_ID, key, parent_id=None, text="x", client_key="")
    event = SafetyEvent(turn.reply.id, "final", "words", "1", "1", "allow", "shown", 0.1)
    run = make.generation(num_prompt=7, num_new=5)
    store.people.set_quota(OWNER_ID, 100)
    store.finish_reply(
        turn.reply.id, status="done", generation=run, verdicts=[make.ALLOW], events=[event]
    )
    store.temporary.end(OWNER_ID, key)
    assert store.people.tokens_left(OWNER_ID) == 100 - 12
    (line,) = store.safety_events(user_id=OWNER_ID)
    assert (line.message_id, line.outcome) == (turn.reply.id, "shown")


def test_a_copy_is_temporary_too(store: Store) -> None:
    key = begin(store)
    copy = store.copy(OWNER_ID, key, title="copy").key
    assert store.temporary.holds(OWNER_ID, copy)
    assert [m.content for m in store.path(OWNER_ID, copy)][0] == CANARY
    assert store.conversations(OWNER_ID) == []


def test_it_is_nobody_elses_and_there_are_not_too_many(store: Store) -> None:
    first = begin(store)
    assert not store.temporary.holds(2, first)
    assert not store.temporary.end(2, first)
    with pytest.raises(NotFound):
        store.path(2, first)
    others = [
        store.create_conversation(OWNER_ID, temporary=True).key for _ in range(MOST_PER_USER - 1)
    ]
    store.temporary.keep_alive(OWNER_ID, first)
    one_more = store.create_conversation(OWNER_ID, temporary=True).key
    assert not store.temporary.holds(OWNER_ID, others[0]), "the one that nobody looked at"
    assert all(store.temporary.holds(OWNER_ID, key) for key in (first, *others[1:], one_more))
    assert {key for _, key in store.temporary.left_alone(0)} == {first, *others[1:], one_more}
    assert store.temporary.left_alone(3600) == []
