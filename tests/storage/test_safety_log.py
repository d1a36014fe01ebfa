"""The safety log holds no text and outlives messages; held-back text does neither."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from storage.records import OWNER_ID, Conflict, SafetyEvent, StorageError
from storage.store import Store
from tests.storage import make

EVENT = SafetyEvent(
    0, "final", "words", "1", "p1", "block", "withheld", 0.9, "hate", 0.5, 0.8, {"hate": 0.9}
)


def test_a_line_outlives_the_conversation_and_holds_no_text(store: Store) -> None:
    key = store.create_conversation(OWNER_ID).key
    turn = make.turn(store, key, "qzprompt words", "qzreply words", status="stopped")
    line = replace(EVENT, message_id=turn.reply.id, digest=store.digest("qzreply words"))
    store.record_safety(line)
    store.purge(OWNER_ID, key)
    (kept,) = store.safety_events()
    assert kept == replace(line, id=kept.id, at=kept.at, user_id=OWNER_ID)
    assert b"qzreply" not in (store.folder / "corral.db").read_bytes()


def test_lines_can_neither_be_changed_nor_removed(store: Store) -> None:
    store.record_safety(replace(EVENT, user_id=OWNER_ID))
    for statement in ("DELETE FROM safety_event", "UPDATE safety_event SET score = 0"):
        with pytest.raises(StorageError, match="append-only"):
            store._writer.call(lambda db, s=statement: db.execute(s))


def test_lines_are_found_by_user_outcome_and_category(store: Store) -> None:
    make.add_user(store, "guest")
    store.record_safety(replace(EVENT, user_id=OWNER_ID))
    store.record_safety(replace(EVENT, user_id=OWNER_ID, outcome="appealed"))
    store.record_safety(replace(EVENT, user_id=2, category="privacy", stage="partial"))
    assert [e.user_id for e in store.safety_events()] == [2, 1, 1]
    assert [e.outcome for e in store.safety_events(outcome="appealed")] == ["appealed"]
    assert [e.user_id for e in store.safety_events(category="privacy")] == [2]
    assert len(store.judged_messages(OWNER_ID)) == 1
    assert store.judged_messages(2) == []  # a partial check is not a whole message


def test_the_same_text_has_the_same_digest_here_and_another_elsewhere(
    store: Store, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Store.open(tmp_path_factory.mktemp("other"))
    try:
        assert store.digest("a text") == store.digest("a text") != other.digest("a text")
    finally:
        other.close()


def test_what_was_held_back_is_no_part_of_anything_and_goes_in_time(store: Store) -> None:
    key = store.create_conversation(OWNER_ID).key
    turn = store.begin_turn(OWNER_ID, key, parent_id=None, text="hi", client_key="a")
    store.append(turn.reply.id, "shown")
    store.finish_reply(turn.reply.id, status="cut", generation=None, withheld="qzheld")
    assert store.withheld(OWNER_ID, key, turn.reply.id) == "qzheld"
    out = io.StringIO()
    store.export(out)
    assert "shown" in out.getvalue()
    assert "qzheld" not in out.getvalue()
    assert store.search(OWNER_ID, "qzheld") == []
    assert store.drop_withheld(older_than_days=1) == 0
    assert store.drop_withheld(older_than_days=0) == 1
    assert store.withheld(OWNER_ID, key, turn.reply.id) == ""


def test_a_cut_answer_goes_on_only_if_somebody_says_so(store: Store) -> None:
    key = store.create_conversation(OWNER_ID).key
    turn = make.turn(store, key, "hi", "there", status="cut")
    with pytest.raises(Conflict):
        store.resume_reply(OWNER_ID, key, reply_id=turn.reply.id)
    resumed = store.resume_reply(OWNER_ID, key, reply_id=turn.reply.id, although_cut=True)
    assert resumed.reply.status == "streaming"
