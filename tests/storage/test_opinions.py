"""Thumbs, preferences, saved prompts and choices: kept, changed, removed, and one's own alone."""

import pytest

from storage.records import OWNER_ID, Conflict, Feedback, NotFound
from storage.store import Store
from tests.storage import make

STRANGER = 2


def _two_answers(store: Store) -> tuple[str, int, int]:
    key = store.create_conversation(OWNER_ID).key
    turn = make.turn(store, key, "Which?", "This.")
    other = store.begin_reply(OWNER_ID, key, prompt_id=turn.prompt.id)
    store.append(other.reply.id, "That.")
    store.finish_reply(other.reply.id, status="stopped", generation=make.generation())
    return key, turn.reply.id, other.reply.id


def test_choices_are_kept_and_exported_as_given(store: Store) -> None:
    key = store.create_conversation(OWNER_ID, choices={"language": "zh-Hant"}).key
    assert store.conversation(OWNER_ID, key).choices == {"language": "zh-Hant"}
    store.choose(OWNER_ID, key, system_prompt="Be 简短.", choices={"sampling": {"top_k": 3}})
    found = store.conversation(OWNER_ID, key)
    assert (found.system_prompt, found.choices) == ("Be 简短.", {"sampling": {"top_k": 3}})


def test_feedback_is_replaced_and_taken_back(store: Store) -> None:
    key, first, _ = _two_answers(store)
    store.set_feedback(OWNER_ID, key, first, Feedback(1, "good"))
    store.set_feedback(OWNER_ID, key, first, Feedback(-1, "on second thought"))
    assert store.message(OWNER_ID, key, first).feedback == Feedback(-1, "on second thought")
    assert store.liked(OWNER_ID) == []
    store.set_feedback(OWNER_ID, key, first, Feedback(1))
    assert store.liked(OWNER_ID) == [(key, first)]
    store.set_feedback(OWNER_ID, key, first, Feedback())
    assert store.message(OWNER_ID, key, first).feedback is None


def test_only_two_answers_to_one_prompt_are_compared(store: Store) -> None:
    key, first, second = _two_answers(store)
    prompt_id = store.message(OWNER_ID, key, first).parent_id or 0
    elsewhere = make.turn(store, key, "Other", "Else.", parent_id=first)
    for pair in (
        (first, first),
        (first, prompt_id),
        (prompt_id, first),
        (first, elsewhere.reply.id),
    ):
        with pytest.raises(Conflict):
            store.compare(OWNER_ID, key, first_id=pair[0], second_id=pair[1], blind=False)
    made = store.compare(OWNER_ID, key, first_id=first, second_id=second, blind=False)
    again = store.compare(OWNER_ID, key, first_id=second, second_id=first, blind=False)
    assert made == again
    assert store.rated(OWNER_ID) == []
    rated = store.rate(OWNER_ID, made.id, helpfulness=-3, safety=1, note="clearer")
    assert store.rated(OWNER_ID) == [(key, rated)]
    assert store.comparison(OWNER_ID, made.id).helpfulness == -3
    store.rate(OWNER_ID, made.id, helpfulness=None, safety=None)
    assert store.rated(OWNER_ID) == []


def test_opinions_go_with_their_conversation(store: Store) -> None:
    key, first, second = _two_answers(store)
    made = store.compare(OWNER_ID, key, first_id=first, second_id=second, blind=True)
    store.rate(OWNER_ID, made.id, helpfulness=4, safety=None)
    store.set_feedback(OWNER_ID, key, first, Feedback(1))
    store.remove_branch(OWNER_ID, key, first)
    assert (store.rated(OWNER_ID), store.liked(OWNER_ID)) == ([], [])
    store.restore_branch(OWNER_ID, key, first)
    assert (len(store.rated(OWNER_ID)), len(store.liked(OWNER_ID))) == (1, 1)
    store.trash(OWNER_ID, key)
    assert (store.rated(OWNER_ID), store.liked(OWNER_ID)) == ([], [])
    store.purge(OWNER_ID, key)
    counts = [
        store._writer.call(
            lambda db, t=table: db.execute(f"SELECT count(*) FROM {t}").fetchone()[0]
        )  # type: ignore[misc]
        for table in ("feedback", "comparison")
    ]
    assert counts == [0, 0]


def test_what_was_saved_is_replaced_by_name_and_removed_by_its_owner_alone(store: Store) -> None:
    make.add_user(store, "stranger")
    store.save(OWNER_ID, "prompt", "Sum up", "Sum up {{text}}", use_case="summarization")
    (kept,) = store.save(OWNER_ID, "prompt", "Sum up", "Briefly: {{text}}", use_case="extraction")
    assert (kept.body, kept.use_case) == ("Briefly: {{text}}", "extraction")
    assert store.saved(OWNER_ID, "persona") == store.saved(STRANGER, "prompt") == []
    with pytest.raises(NotFound):
        store.remove_saved(STRANGER, kept.id)
    store.remove_saved(OWNER_ID, kept.id)
    assert store.saved(OWNER_ID, "prompt") == []


def test_a_stranger_reaches_no_comparison(store: Store) -> None:
    make.add_user(store, "stranger")
    key, first, second = _two_answers(store)
    made = store.compare(OWNER_ID, key, first_id=first, second_id=second, blind=False)
    with pytest.raises(NotFound):
        store.comparison(STRANGER, made.id)
    with pytest.raises(NotFound):
        store.rate(STRANGER, made.id, helpfulness=1, safety=1)
    assert store.comparison(OWNER_ID, made.id) == made


def test_a_branch_begins_as_the_answer_beside_it(store: Store) -> None:
    key, first, _ = _two_answers(store)
    turn = store.begin_branch(OWNER_ID, key, reply_id=first, num_chars=3)
    assert (turn.reply.content, turn.reply.status, turn.reply.num_versions) == (
        "Thi",
        "streaming",
        3,
    )
    assert store.conversation(OWNER_ID, key).active_leaf_id == turn.reply.id
    with pytest.raises(Conflict):
        store.begin_branch(OWNER_ID, key, reply_id=turn.reply.id, num_chars=1)


def test_recent_runs_are_ones_own_and_in_order(store: Store) -> None:
    make.add_user(store, "stranger")
    _two_answers(store)
    runs = store.recent_runs(OWNER_ID, since=0)
    assert [run.model for run in runs] == ["tiny"] * len(runs) and runs
    assert store.recent_runs(OWNER_ID, since=2**62) == []
    assert store.recent_runs(STRANGER, since=0) == []
