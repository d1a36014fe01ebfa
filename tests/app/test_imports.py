"""Exports of other programs are read as far as they can be, and each conversation is reported."""

import io
import json
import zipfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.imports.files import ImportInvalid, read
from app.imports.tree import Found
from storage.records import OWNER_ID
from storage.store import Store
from tests.app.chat_exports import HOSTILE, chatgpt


def claude() -> dict[str, Any]:
    return {
        "uuid": "c1", "name": "Claude's", "created_at": "2026-01-02T03:04:05.678Z",
        "chat_messages": [
            {"uuid": "m1", "sender": "human", "text": "old", "created_at": "2026-01-02T03:04:05Z",
             "content": [{"type": "text", "text": HOSTILE}]},
            {"uuid": "m2", "sender": "assistant", "text": "plain text only", "content": []},
            {"uuid": "m3", "sender": "human", "text": "", "content": [{"type": "image"}]},
        ],
    }  # fmt: skip


def open_webui() -> dict[str, Any]:
    messages = {
        "u": {"id": "u", "parentId": None, "role": "user", "content": HOSTILE, "timestamp": 1.7e9},
        "a": {"id": "a", "parentId": "u", "role": "assistant", "content": "one"},
        "b": {"id": "b", "parentId": "u", "role": "assistant", "content": "two"},
    }
    history = {"messages": messages, "currentId": "a"}
    marks = {"pinned": True, "archived": True, "meta": {"tags": ["work"]}}
    return {"id": "w", "title": "Web", "created_at": 1_700_000_000, **marks,
            "chat": {"history": history}}  # fmt: skip


def parsed(*rows: Any) -> list[Found]:
    return list(read(json.dumps(list(rows)).encode()))


def entered(store: Store, found: Found) -> list[tuple[str, str, int]]:
    assert found.document is not None
    key = store.add_document(OWNER_ID, found.document).key
    return [(m.role, m.content, m.num_versions) for m in store.path(OWNER_ID, key)]


def test_chatgpt_keeps_its_branches_and_shows_the_open_one(store: Store) -> None:
    (found,) = parsed(chatgpt())
    assert (found.source, found.title, found.num_left_out) == ("chatgpt", "Llamas", 1)
    assert entered(store, found) == [("user", HOSTILE, 1), ("assistant", "first", 2)]
    kept = store.conversations(OWNER_ID)[0]
    assert (kept.created_at, kept.updated_at) == (1_700_000_000_000, 1_700_000_060_000)
    assert len(store.search(OWNER_ID, "then")) == 1  # on the branch that is not shown


def test_claude_takes_parts_before_the_old_text(store: Store) -> None:
    (found,) = parsed(claude())
    assert entered(store, found) == [("user", HOSTILE, 1), ("assistant", "plain text only", 1)]


def test_open_webui_brings_tags_pin_and_archive(store: Store) -> None:
    (found,) = parsed(open_webui())
    assert entered(store, found) == [("user", HOSTILE, 1), ("assistant", "one", 2)]
    kept = store.conversations(OWNER_ID, shelf="archive")[0]
    assert (kept.tags, kept.pinned) == (("work",), True)
    plain = {"title": "old", "chat": {"messages": [{"role": "user", "content": "hi"}]}}
    path = entered(store, parsed(plain)[0])
    assert path == [("user", "hi", 1), ("assistant", "", 1)]  # one can go on


def test_our_own_export_comes_back_and_only_once(store: Store) -> None:
    entered(store, parsed(chatgpt())[0])
    out = io.StringIO()
    assert store.export(out, user_id=OWNER_ID) == 1
    (found,) = read(out.getvalue().encode())
    assert found.source == "corral" and found.document is not None
    other = {**found.document, "key": "new"}
    made = store.add_document(OWNER_ID, other)
    again = json.loads(json.dumps(store.document(OWNER_ID, made.key)))
    assert {**again, "user": "", "key": ""} == {**found.document, "user": "", "key": ""}


def test_one_bad_conversation_does_not_spoil_the_others() -> None:
    found = parsed({"title": "odd"}, 7, chatgpt(), {"title": "bare", "mapping": {"x": None}})
    problems = [(f.document is None, f.problem) for f in found]
    assert problems == [(True, "unknown"), (True, "unknown"), (False, ""), (True, "no_messages")]


def test_the_zip_it_came_in_is_read() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("export/conversations.json", json.dumps([chatgpt()]))
        archive.writestr("export/user.json", "{}")
    assert [f.title for f in read(packed.getvalue())] == ["Llamas"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "unreadable"),
        (b"\0\xff", "unreadable"),
        (b"[]", "empty"),
        (b"[" * 99_999, "unreadable"),
    ],
)
def test_what_is_no_export_is_refused_with_a_reason(content: bytes, code: str) -> None:
    with pytest.raises(ImportInvalid) as refused:
        list(read(content))
    assert refused.value.code == code


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_nothing_in_an_export_can_break_the_reader(data: st.DataObject) -> None:
    """Any value anywhere in a real export is read, or passed over."""
    row = data.draw(st.sampled_from([chatgpt, claude, open_webui]))()
    place: Any = row
    for _ in range(data.draw(st.integers(1, 6))):
        inner = place.values() if isinstance(place, dict) else place
        nested = [one for one in inner if isinstance(one, dict | list) and one]
        if not nested or data.draw(st.booleans()):
            break
        place = data.draw(st.sampled_from(nested))
    keys = [*place] if isinstance(place, dict) else [*range(len(place))]
    place[data.draw(st.sampled_from(keys))] = data.draw(_JSON)
    for found in parsed(row):
        assert found.document is None or found.document["messages"]
