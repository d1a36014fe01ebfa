"""Random histories against a plain-Python model: chats, turns, versions, trash, crashes."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from storage import health
from storage.folder import DATABASE
from storage.records import OWNER_ID, Conflict, NotFound, Status
from storage.text import title_from
from tests.storage import make

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ENDINGS = st.sampled_from(["done", "stopped", "cut", "error"])


@dataclass
class Node:
    parent: int | None
    role: str
    status: str
    content: str


@dataclass
class Chat:
    title: str = ""
    leaf: int | None = None
    trashed: bool = False
    pinned: bool = False
    nodes: dict[int, Node] = field(default_factory=dict)

    def path(self) -> list[int]:
        found, at = [], self.leaf
        while at is not None:
            found.append(at)
            at = self.nodes[at].parent
        return found[::-1]

    def children(self, parent: int | None) -> list[int]:
        return sorted(n for n, node in self.nodes.items() if node.parent == parent)

    def newest_below(self, top: int) -> int:
        newest = top
        for child in self.children(top):
            newest = max(newest, self.newest_below(child))
        return newest

    def of(self, role: str, *statuses: str) -> list[int]:
        return sorted(
            n
            for n, node in self.nodes.items()
            if node.role == role and (not statuses or node.status in statuses)
        )


class Machine(RuleBasedStateMachine):
    """Each rule does the same to the store and to the model; invariants compare them."""

    chats = Bundle("chats")

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="corral-machine-"))
        self.folder = self.root / "0"
        self.store = make.open_store(self.folder)
        self.model: dict[str, Chat] = {}
        self.num_crashes = 0

    def teardown(self) -> None:
        assert self.store._writer.call(health.problems) == []
        self.store.close()
        shutil.rmtree(self.root)

    # Rules

    @rule(target=chats, title=TEXT)
    def new_chat(self, title: str) -> str:
        key = self.store.create_conversation(OWNER_ID, title=title).key
        self.model[key] = Chat(title=title)
        return key

    @rule(key=chats, text=TEXT, pick=st.integers(0, 99))
    def send(self, key: str, text: str, pick: int) -> None:
        """A prompt after some finished reply: at the end, or an edit in the middle."""
        chat = self.model[key]
        finished = chat.of("assistant", "done", "stopped", "cut", "error", "interrupted")
        places: list[int | None] = [None, *finished]
        parent_id = chat.leaf if chat.leaf in finished and pick % 2 else places[pick % len(places)]
        if chat.trashed:
            with pytest.raises(Conflict):
                self._begin(key, parent_id, text)
            return
        turn = self._begin(key, parent_id, text)
        chat.nodes[turn[0]] = Node(parent_id, "user", "done", text)
        chat.nodes[turn[1]] = Node(turn[0], "assistant", "streaming", "")
        chat.leaf = turn[1]
        if parent_id is None and not chat.title:
            chat.title = title_from(text)

    def _begin(self, key: str, parent_id: int | None, text: str) -> tuple[int, int]:
        client_key = f"{len(self.model[key].nodes)}"
        turn, again = (
            self.store.begin_turn(
                OWNER_ID, key, parent_id=parent_id, text=text, client_key=client_key
            )
            for _ in range(2)
        )
        assert turn == again
        return turn.prompt.id, turn.reply.id

    @rule(key=chats, pick=st.integers(0, 99), piece=TEXT)
    def append(self, key: str, pick: int, piece: str) -> None:
        chat = self.model[key]
        if running := chat.of("assistant", "streaming"):
            reply = running[pick % len(running)]
            self.store.append(reply, piece)
            chat.nodes[reply].content += piece

    @rule(key=chats, pick=st.integers(0, 99), status=ENDINGS)
    def finish(self, key: str, pick: int, status: Status) -> None:
        chat = self.model[key]
        if running := chat.of("assistant", "streaming"):
            reply = running[pick % len(running)]
            ended = make.finish(self.store, reply, "", status=status)
            assert ended.content == chat.nodes[reply].content
            chat.nodes[reply].status = status

    @rule(key=chats, pick=st.integers(0, 99))
    def again(self, key: str, pick: int) -> None:
        chat = self.model[key]
        if not chat.trashed and (prompts := chat.of("user")):
            prompt = prompts[pick % len(prompts)]
            reply = self.store.begin_reply(OWNER_ID, key, prompt_id=prompt).reply.id
            chat.nodes[reply] = Node(prompt, "assistant", "streaming", "")
            chat.leaf = reply

    @rule(key=chats, pick=st.integers(0, 99))
    def go_on(self, key: str, pick: int) -> None:
        chat = self.model[key]
        replies = chat.of("assistant")
        if chat.trashed or not replies:
            return
        reply = replies[pick % len(replies)]
        node = chat.nodes[reply]
        if node.status in ("streaming", "cut") or chat.children(reply):
            with pytest.raises(Conflict):
                self.store.resume_reply(OWNER_ID, key, reply_id=reply)
            return
        assert self.store.resume_reply(OWNER_ID, key, reply_id=reply).reply.content == node.content
        node.status, chat.leaf = "streaming", reply

    @rule(key=chats, pick=st.integers(0, 99))
    def select(self, key: str, pick: int) -> None:
        chat = self.model[key]
        if chat.nodes:
            node = sorted(chat.nodes)[pick % len(chat.nodes)]
            chat.leaf = chat.newest_below(node)
            assert self.store.select_version(OWNER_ID, key, node).active_leaf_id == chat.leaf

    @rule(key=chats, title=TEXT)
    def rename(self, key: str, title: str) -> None:
        self.model[key].title = title
        self.store.rename(OWNER_ID, key, title)

    @rule(key=chats, pinned=st.booleans())
    def pin(self, key: str, pinned: bool) -> None:
        self.model[key].pinned = pinned
        self.store.pin(OWNER_ID, key, pinned)

    @rule(key=chats)
    def trash(self, key: str) -> None:
        self.model[key].trashed = True
        self.store.trash(OWNER_ID, key)

    @rule(key=chats)
    def restore(self, key: str) -> None:
        self.model[key].trashed = False
        self.store.restore(OWNER_ID, key)

    @rule(key=consumes(chats))
    def purge(self, key: str) -> None:
        late = self.model.pop(key).of("assistant", "streaming")
        self.store.purge(OWNER_ID, key)
        for reply in late:
            self.store.append(reply, "late")
        with pytest.raises(NotFound):
            self.store.path(OWNER_ID, key)

    @rule()
    def restart(self) -> None:
        self.store.close()
        self._reopen()

    @precondition(lambda self: self.num_crashes < 3)
    @rule()
    def crash(self) -> None:
        """Go on with the files as they are once everything acknowledged is committed."""
        make.flush(self.store)
        self.num_crashes += 1
        folder = self.root / str(self.num_crashes)
        folder.mkdir()
        for name in (DATABASE, DATABASE + "-wal"):
            shutil.copy(self.folder / name, folder / name)
        self.store.close()
        self.folder = folder
        self._reopen()

    def _reopen(self) -> None:
        self.store = make.open_store(self.folder)
        assert self.store.repair is None
        num_running = 0
        for chat in self.model.values():
            for reply in chat.of("assistant", "streaming"):
                chat.nodes[reply].status = "interrupted"
                num_running += 1
        assert self.store.num_interrupted == num_running

    # Invariants

    @invariant()
    def lists_are_equal(self) -> None:
        for trashed in (False, True):
            listed = self.store.conversations(
                OWNER_ID, shelf="trash" if trashed else "open", limit=10_000
            )
            expected = {k: c.title for k, c in self.model.items() if c.trashed == trashed}
            assert {found.key: found.title for found in listed} == expected
            if not trashed:
                pins = [found.pinned for found in listed]
                assert pins == sorted(pins, reverse=True)

    @invariant()
    def paths_are_equal(self) -> None:
        make.flush(self.store)
        for key, chat in self.model.items():
            found = self.store.path(OWNER_ID, key)
            assert [message.id for message in found] == chat.path()
            for message in found:
                node = chat.nodes[message.id]
                siblings = chat.children(node.parent)
                assert (message.role, message.status, message.content) == (
                    node.role,
                    node.status,
                    node.content,
                )
                assert list(message.sibling_ids) == siblings
                assert siblings[message.version - 1] == message.id
            assert self.store.path(OWNER_ID, key, last=2) == found[-2:]

    @invariant()
    def search_finds_what_is_finished(self) -> None:
        words = {"a", "学"}
        for word in words:
            expected = {
                number
                for chat in self.model.values()
                if not chat.trashed
                for number, node in chat.nodes.items()
                if node.status != "streaming" and _has_word(node.content, word)
            }
            hits = self.store.search(OWNER_ID, word, limit=10_000)
            assert {hit.message_id for hit in hits if hit.message_id is not None} >= expected


def _has_word(content: str, word: str) -> bool:
    return word in content.split(" ") if word.isascii() else word in content


def _run(examples: int, steps: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_random_histories() -> None:
    _run(examples=8, steps=25)


@pytest.mark.full
def test_fifty_thousand_random_steps() -> None:
    _run(examples=1000, steps=50)
