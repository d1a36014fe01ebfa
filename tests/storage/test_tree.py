"""Turns, streamed replies, versions and paths."""

from pathlib import Path

import pytest

from storage.records import OWNER_ID, Conflict, NotFound, StoreClosed
from storage.store import Store
from tests.storage import make
from tests.waiting import until


@pytest.fixture
def key(store: Store) -> str:
    return store.create_conversation(OWNER_ID).key


def test_a_turn_is_a_prompt_and_an_empty_reply_that_becomes_the_leaf(
    store: Store, key: str
) -> None:
    turn = store.begin_turn(OWNER_ID, key, parent_id=None, text="Hello", client_key="a")
    assert (turn.prompt.role, turn.prompt.status, turn.prompt.content) == ("user", "done", "Hello")
    assert (turn.reply.role, turn.reply.status, turn.reply.content) == (
        "assistant",
        "streaming",
        "",
    )
    assert turn.reply.parent_id == turn.prompt.id
    assert store.conversation(OWNER_ID, key).active_leaf_id == turn.reply.id
    assert store.path(OWNER_ID, key) == [turn.prompt, turn.reply]


def test_the_same_client_key_gives_the_same_turn(store: Store, key: str) -> None:
    first = store.begin_turn(OWNER_ID, key, parent_id=None, text="Hello", client_key="a")
    again = store.begin_turn(OWNER_ID, key, parent_id=None, text="Hello", client_key="a")
    assert again == first
    with pytest.raises(Conflict, match="other words"):
        store.begin_turn(OWNER_ID, key, parent_id=None, text="Bye", client_key="a")
    other = store.create_conversation(OWNER_ID).key
    assert (
        store.begin_turn(OWNER_ID, other, parent_id=None, text="x", client_key="a").prompt.id
        != first.prompt.id
    )


def test_the_first_prompt_names_the_conversation(store: Store, key: str) -> None:
    first = make.turn(store, key, "# **What** is a llama?\nTell me.", "An animal.")
    assert store.conversation(OWNER_ID, key).title == "What is a llama?"
    make.turn(store, key, "And an alpaca?", "Too.", parent_id=first.reply.id)
    assert store.conversation(OWNER_ID, key).title == "What is a llama?"
    named = store.create_conversation(OWNER_ID, title="Mine").key
    make.turn(store, named, "Hello", "Hi")
    assert store.conversation(OWNER_ID, named).title == "Mine"


def test_streamed_text_shows_once_committed_and_is_joined_at_the_end(
    store: Store, key: str
) -> None:
    turn = make.turn(store, key, "Hello", None)
    for piece in ("Hi", " ", "there", "", "!"):
        store.append(turn.reply.id, piece)
    make.flush(store)
    assert store.path(OWNER_ID, key)[-1].content == "Hi there!"
    assert store.message(OWNER_ID, key, turn.reply.id).status == "streaming"
    reply = make.finish(store, turn.reply.id, " Bye.")
    assert (reply.content, reply.status) == ("Hi there! Bye.", "done")
    assert store.path(OWNER_ID, key)[-1] == reply


def test_streamed_text_is_committed_without_any_other_call(store: Store, key: str) -> None:
    turn = make.turn(store, key, "Hello", None)
    store.append(turn.reply.id, "soon")
    until(lambda: store.path(OWNER_ID, key)[-1].content == "soon")


def test_evidence_comes_back_as_it_was_given(store: Store, key: str) -> None:
    turn = make.turn(store, key, "Hello", None)
    generation = make.generation()
    store.add_verdict(turn.prompt.id, make.BLOCK)
    reply = store.finish_reply(
        turn.reply.id, status="done", generation=generation, verdicts=[make.ALLOW]
    )
    assert reply.generations == (generation,)
    (final,) = reply.verdicts
    assert final.at > 0
    assert (final.stage, final.action, final.score) == ("final", "allow", 0.1)
    (prompt_verdict,) = store.message(OWNER_ID, key, turn.prompt.id).verdicts
    assert (prompt_verdict.category, prompt_verdict.threshold) == ("weapons", 0.5)


def test_a_reply_is_done_only_with_a_final_verdict_that_does_not_block(
    store: Store, key: str
) -> None:
    turn = make.turn(store, key, "Hello", None)
    store.append(turn.reply.id, "text")
    for verdicts in ([], [make.BLOCK]):
        with pytest.raises(Conflict, match="final verdict"):
            store.finish_reply(turn.reply.id, status="done", generation=None, verdicts=verdicts)
    with pytest.raises(Conflict, match="final verdict"):
        store.set_status(turn.reply.id, "done")
    unchanged = store.message(OWNER_ID, key, turn.reply.id)
    assert (unchanged.status, unchanged.content, unchanged.verdicts) == ("streaming", "text", ())
    assert make.finish(store, turn.reply.id, "").status == "done"


def test_a_finished_reply_cannot_be_finished_again_and_takes_no_more_text(
    store: Store, key: str
) -> None:
    turn = make.turn(store, key, "Hello", "Hi")
    with pytest.raises(Conflict, match="already finished"):
        store.finish_reply(turn.reply.id, status="stopped", generation=None)
    store.append(turn.reply.id, "late")
    make.flush(store)
    assert make.contents(store, key) == ["Hello", "Hi"]


def test_editing_a_prompt_makes_a_version_and_selecting_brings_a_branch_back(
    store: Store, key: str
) -> None:
    one = make.turn(store, key, "one", "first")
    two = make.turn(store, key, "two", "second", parent_id=one.reply.id)
    edited = make.turn(store, key, "two, better", "other", parent_id=one.reply.id)
    assert make.contents(store, key) == ["one", "first", "two, better", "other"]
    prompt = store.path(OWNER_ID, key)[2]
    assert (prompt.version, prompt.num_versions) == (2, 2)
    assert prompt.sibling_ids == (two.prompt.id, edited.prompt.id)
    store.select_version(OWNER_ID, key, two.prompt.id)
    assert make.contents(store, key) == ["one", "first", "two", "second"]
    assert store.path(OWNER_ID, key)[2].version == 1


def test_editing_the_first_prompt_makes_a_second_root(store: Store, key: str) -> None:
    one = make.turn(store, key, "one", "first")
    other = make.turn(store, key, "uno", "primero")
    assert store.path(OWNER_ID, key)[0].sibling_ids == (one.prompt.id, other.prompt.id)
    store.select_version(OWNER_ID, key, one.prompt.id)
    assert make.contents(store, key) == ["one", "first"]


def test_answering_again_makes_versions_of_the_reply(store: Store, key: str) -> None:
    one = make.turn(store, key, "one", "first")
    again = store.begin_reply(OWNER_ID, key, prompt_id=one.prompt.id)
    assert again.prompt.id == one.prompt.id
    make.finish(store, again.reply.id, "better")
    reply = store.path(OWNER_ID, key)[-1]
    assert (reply.content, reply.version, reply.num_versions) == ("better", 2, 2)
    with pytest.raises(Conflict, match="Only a prompt"):
        store.begin_reply(OWNER_ID, key, prompt_id=again.reply.id)


def test_selecting_goes_down_to_the_newest_leaf(store: Store, key: str) -> None:
    one = make.turn(store, key, "one", "first")
    make.turn(store, key, "a", "A", parent_id=one.reply.id)
    newest = make.turn(store, key, "b", "B", parent_id=one.reply.id)
    make.turn(store, key, "elsewhere", "E")
    selected = store.select_version(OWNER_ID, key, one.prompt.id)
    assert selected.active_leaf_id == newest.reply.id


def test_a_stopped_reply_goes_on_and_needs_a_new_final_verdict(store: Store, key: str) -> None:
    turn = make.turn(store, key, "count", "one, two", status="stopped")
    resumed = store.resume_reply(OWNER_ID, key, reply_id=turn.reply.id)
    assert resumed.prompt.id == turn.prompt.id
    assert (resumed.reply.status, resumed.reply.content) == ("streaming", "one, two")
    with pytest.raises(Conflict, match="final verdict"):
        store.finish_reply(turn.reply.id, status="done", generation=None)
    store.append(turn.reply.id, ", three")
    reply = store.finish_reply(
        turn.reply.id,
        status="done",
        generation=make.generation(from_char=8),
        verdicts=[make.ALLOW],
    )
    assert reply.content == "one, two, three"
    assert [g.from_char for g in reply.generations] == [0, 8]
    assert [v.stage for v in reply.verdicts] == ["partial", "final"]


def test_a_cut_reply_or_one_with_successors_cannot_go_on(store: Store, key: str) -> None:
    cut = make.turn(store, key, "a", "b", status="cut")
    with pytest.raises(Conflict, match="cannot be continued"):
        store.resume_reply(OWNER_ID, key, reply_id=cut.reply.id)
    with pytest.raises(Conflict, match="cannot be continued"):
        store.resume_reply(OWNER_ID, key, reply_id=cut.prompt.id)
    done = make.turn(store, key, "c", "d")
    make.turn(store, key, "e", "f", parent_id=done.reply.id)
    with pytest.raises(Conflict, match="went on"):
        store.resume_reply(OWNER_ID, key, reply_id=done.reply.id)


def test_a_prompt_follows_a_finished_reply(store: Store, key: str) -> None:
    turn = make.turn(store, key, "Hello", None)
    for parent_id, words in ((turn.prompt.id, "follows a reply"), (turn.reply.id, "being written")):
        with pytest.raises(Conflict, match=words):
            store.begin_turn(OWNER_ID, key, parent_id=parent_id, text="x", client_key="k")
    with pytest.raises(NotFound):
        store.begin_turn(OWNER_ID, key, parent_id=999, text="x", client_key="k")
    elsewhere = store.create_conversation(OWNER_ID).key
    finished = make.finish(store, turn.reply.id, "Hi")
    with pytest.raises(NotFound):
        store.begin_turn(OWNER_ID, elsewhere, parent_id=finished.id, text="x", client_key="k")
    assert store.path(OWNER_ID, elsewhere) == []


def test_the_last_messages_of_a_path(store: Store, key: str) -> None:
    parent_id = None
    for n in range(5):
        parent_id = make.turn(store, key, f"p{n}", f"r{n}", parent_id=parent_id).reply.id
    whole = store.path(OWNER_ID, key)
    assert [m.content for m in whole] == [f"{kind}{n}" for n in range(5) for kind in "pr"]
    for last in (1, 3, 10, 40):
        assert store.path(OWNER_ID, key, last=last) == whole[-last:]
    assert store.path(OWNER_ID, key, last=0) == []
    assert store.path(OWNER_ID, key, leaf_id=whole[3].id) == whole[:4]
    with pytest.raises(NotFound):
        store.path(OWNER_ID, key, leaf_id=10**30)


def test_statuses(store: Store, key: str) -> None:
    turn = make.turn(store, key, "bad words", None)
    store.set_status(turn.prompt.id, "blocked")
    store.append(turn.reply.id, "partly")
    store.set_status(turn.reply.id, "blocked")
    prompt, reply = store.path(OWNER_ID, key)
    assert (prompt.status, reply.status, reply.content) == ("blocked", "blocked", "partly")
    with pytest.raises(Conflict, match="resuming"):
        store.set_status(turn.reply.id, "streaming")
    with pytest.raises(NotFound):
        store.set_status(10**30, "blocked")
    failed = make.turn(store, key, "again", None)
    ended = store.finish_reply(
        failed.reply.id, status="error", generation=None, error_code="device_out_of_memory"
    )
    assert (ended.status, ended.error_code) == ("error", "device_out_of_memory")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \t\n\r\n",
        "nul\x00in\x00side",
        "\x00",
        "Ünïcödé 学习 🦙 \U0010ffff \u202e\u200d\ufeff",
        "e\u0301 versus \u00e9",
        "<|eot_id|> ${print(1)} `x` <script>",
        "\x02\x03\x1f\x7f",
        "x" * 1_000_000,
        "学🦙\n" * 120_000,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_text_comes_back_exactly(store: Store, folder: Path, key: str, text: str) -> None:
    turn = make.turn(store, key, text, None)
    half = len(text) // 2
    store.append(turn.reply.id, text[:half])
    make.flush(store)
    reply = make.finish(store, turn.reply.id, text[half:])
    assert turn.prompt.content == reply.content == text
    store.close()
    reopened = make.open_store(folder)
    assert make.contents(reopened, key) == [text, text]
    reopened.close()


def test_half_a_surrogate_pair_becomes_a_replacement_character(store: Store, key: str) -> None:
    turn = make.turn(store, key, "a\ud83eb \ud83e\udd99", "\udd99!")
    assert (turn.prompt.content, turn.reply.content) == ("a\ufffdb 🦙", "\ufffd!")
    renamed = store.rename(OWNER_ID, key, "\ud83e")
    assert renamed.title == "\ufffd"
    with pytest.raises(NotFound):
        store.conversation(OWNER_ID, "\ud83e")


def test_a_purged_conversation_takes_no_more(store: Store, key: str) -> None:
    turn = make.turn(store, key, "Hello", None)
    store.purge(OWNER_ID, key)
    store.append(turn.reply.id, "late")
    make.flush(store)
    with pytest.raises(NotFound):
        store.finish_reply(turn.reply.id, status="stopped", generation=None)
    with pytest.raises(NotFound):
        store.add_verdict(turn.reply.id, make.ALLOW)
    later = make.turn(store, store.create_conversation(OWNER_ID).key, "Hello", None)
    assert later.prompt.id > turn.reply.id, "ids are never used twice"


def test_a_closed_store_says_so(folder: Path) -> None:
    store = make.open_store(folder)
    store.close()
    store.close()
    with pytest.raises(StoreClosed):
        store.create_conversation(OWNER_ID)
    with pytest.raises(StoreClosed):
        store.conversations(OWNER_ID)
    with pytest.raises(StoreClosed):
        store.append(1, "x")
