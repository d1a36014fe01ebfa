"""Copies, forks and imports hold what the original held; what is removed comes back."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.documents import DocumentInvalid
from storage.records import OWNER_ID, Conflict, Feedback
from storage.store import Store
from tests.storage import make

HOSTILE = "${print(1)} `tick` <script>alert(1)</script> \x00 美洲驼 \U0001f999 </textarea>"


def _rich(store: Store) -> str:
    """A conversation with two branches, verdicts, a generation, opinions and tags."""
    key = store.create_conversation(OWNER_ID, title=HOSTILE, system_prompt="Be brief").key
    first = make.turn(store, key, HOSTILE, "an answer")
    store.begin_reply(OWNER_ID, key, prompt_id=first.prompt.id)
    other = store.path(OWNER_ID, key)[-1]
    store.append(other.id, "another")
    store.finish_reply(
        other.id, status="done", generation=make.generation(), verdicts=(make.ALLOW,)
    )
    store.set_feedback(OWNER_ID, key, other.id, Feedback(1, "good"))
    compared = store.compare(OWNER_ID, key, first_id=first.reply.id, second_id=other.id, blind=True)
    store.rate(OWNER_ID, compared.id, helpfulness=3, safety=None, note=HOSTILE)
    store.tag(OWNER_ID, key, ["work", HOSTILE[:30], "work"])
    return key


def test_a_document_comes_back_as_it_went_out(store: Store, tmp_path: Path) -> None:
    key = _rich(store)
    out = json.loads(json.dumps(store.document(OWNER_ID, key)))
    other = make.open_store(tmp_path / "other")
    made = other.add_document(OWNER_ID, out)
    assert json.loads(json.dumps(other.document(OWNER_ID, made.key))) == out
    with pytest.raises(Conflict):
        other.add_document(OWNER_ID, out)
    assert [hit.message_id for hit in other.search(OWNER_ID, "another")] != []


def test_comparisons_of_anything_but_two_answers_are_left_out(store: Store) -> None:
    out = store.document(OWNER_ID, _rich(store))
    (right,) = out["comparisons"]
    wrong = (
        3,
        {},
        {**right, "second": right["first"]},
        {**right, "first": 1},
        {**right, "first": 99},
    )
    nonsense = {**right, "helpfulness": 9, "safety": True, "note": 5, "at": "x"}
    made = store.add_document(OWNER_ID, {**out, "key": "", "comparisons": [*wrong, nonsense]})
    (kept,) = store.document(OWNER_ID, made.key)["comparisons"]
    assert (kept["helpfulness"], kept["safety"], kept["note"]) == (None, None, "")


def test_a_copy_and_a_fork_are_conversations_of_their_own(store: Store) -> None:
    key = _rich(store)
    copy = store.copy(OWNER_ID, key, title="second")
    before, after = store.document(OWNER_ID, key), store.document(OWNER_ID, copy.key)
    assert copy.title == "second" and copy.key != key
    assert after["messages"] == before["messages"]
    first_reply = store.path(OWNER_ID, key)[-1].sibling_ids[0]
    fork = store.copy(OWNER_ID, key, upto_id=first_reply, title="fork")
    path = store.path(OWNER_ID, fork.key)
    assert [m.content for m in path] == [HOSTILE, "an answer"]
    assert path[-1].num_versions == 1 and path[-1].status == "done"


def test_a_removed_branch_is_out_of_sight_and_comes_back(store: Store) -> None:
    key = store.create_conversation(OWNER_ID).key
    first = make.turn(store, key, "one", "first word")
    make.turn(store, key, "two", "second word", parent_id=first.reply.id)
    before = store.document(OWNER_ID, key)
    second = store.path(OWNER_ID, key)[2]
    store.remove_branch(OWNER_ID, key, second.id)
    assert [m.content for m in store.path(OWNER_ID, key)] == ["one", "first word"]
    assert store.search(OWNER_ID, "second") == []
    store.restore_branch(OWNER_ID, key, second.id)
    assert store.document(OWNER_ID, key)["messages"] == before["messages"]
    assert len(store.search(OWNER_ID, "second")) == 1


def test_an_only_answer_goes_with_its_prompt_and_a_version_alone(store: Store) -> None:
    key = _rich(store)
    shown = store.path(OWNER_ID, key)[-1]
    store.remove_branch(OWNER_ID, key, shown.id)
    left = store.path(OWNER_ID, key)
    assert [m.content for m in left] == [HOSTILE, "an answer"] and left[-1].num_versions == 1
    store.remove_branch(OWNER_ID, key, left[-1].id)
    assert store.path(OWNER_ID, key) == []
    store.restore_branch(OWNER_ID, key, left[0].id)
    assert [m.content for m in store.path(OWNER_ID, key)] == [HOSTILE, "an answer"]


def test_what_was_removed_before_stays_removed(store: Store) -> None:
    key = _rich(store)
    shown = store.path(OWNER_ID, key)[-1]
    store.remove_branch(OWNER_ID, key, shown.id)
    prompt = store.path(OWNER_ID, key)[0]
    store.remove_branch(OWNER_ID, key, prompt.id)
    store.restore_branch(OWNER_ID, key, prompt.id)
    assert store.path(OWNER_ID, key)[-1].num_versions == 1


def test_archive_and_tags_say_where_a_conversation_is_listed(store: Store) -> None:
    key = store.create_conversation(OWNER_ID, title="a").key
    other = store.create_conversation(OWNER_ID, title="b").key
    store.tag(OWNER_ID, key, [" work ", "", "Ärger", "work"])
    assert store.conversation(OWNER_ID, key).tags == ("work", "Ärger")
    assert store.tags(OWNER_ID) == ["work", "Ärger"]
    assert [c.key for c in store.conversations(OWNER_ID, tag="work")] == [key]
    assert len(store.dates(OWNER_ID)) == 2 and len(store.dates(OWNER_ID, tag="work")) == 1
    store.archive(OWNER_ID, key, True)
    assert [c.key for c in store.conversations(OWNER_ID)] == [other]
    assert [c.key for c in store.conversations(OWNER_ID, shelf="archive")] == [key]
    store.archive(OWNER_ID, key, False)
    assert len(store.conversations(OWNER_ID)) == 2


def test_an_unjudged_reply_is_entered_as_not_checked(store: Store) -> None:
    messages = [
        {"id": 1, "parent": None, "role": "user", "status": "done", "content": "hi"},
        {"id": 2, "parent": 1, "role": "assistant", "status": "done", "content": "ho"},
        {"id": 3, "parent": 1, "role": "assistant", "status": "done", "content": "no",
         "verdicts": [{"stage": "final", "guard": "g", "guard_version": "1", "action": "block",
                       "score": 0.9}]},
    ]  # fmt: skip
    made = store.add_document(OWNER_ID, {"messages": messages, "active_leaf": 2})
    path = store.path(OWNER_ID, made.key)
    assert [[v.action for v in m.verdicts] for m in path] == [[], ["unchecked"]]
    blocked = store.message(OWNER_ID, made.key, path[1].sibling_ids[1])
    assert blocked.status == "cut"


@pytest.mark.parametrize(
    "document",
    [{}, {"messages": "x"}, {"messages": [{"id": 2, "parent": 1, "role": "user"}]}],
)
def test_what_is_no_conversation_changes_nothing(store: Store, document: dict[str, Any]) -> None:
    before = store._writer.call(make.rows)
    with pytest.raises(DocumentInvalid):
        store.add_document(OWNER_ID, document)
    assert store._writer.call(make.rows) == before


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
_OPTIONAL = (
    *("parent", "status", "content", "verdicts", "generations", "feedback"),
    *("created_at", "removed_at", "error_code"),
)
_MESSAGE = st.fixed_dictionaries(
    {"id": st.integers(0, 6) | _JSON, "role": st.sampled_from(["user", "assistant"]) | _JSON},
    optional=dict.fromkeys(_OPTIONAL, _JSON),
)


@settings(max_examples=60, deadline=None)
@given(messages=st.lists(_MESSAGE, max_size=5), rest=st.dictionaries(st.text(), _JSON, max_size=3))
def test_no_document_breaks_the_store(
    shared: Store, messages: list[Any], rest: dict[str, Any]
) -> None:
    try:
        made = shared.add_document(OWNER_ID, {**rest, "messages": messages})
    except (DocumentInvalid, Conflict):
        return
    shared.path(OWNER_ID, made.key)
    shared.document(OWNER_ID, made.key)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make.open_store(tmp_path_factory.mktemp("shared"))
