"""What may be asked of a conversation: a new prompt, another answer, a branch, or to go on.

Each kind is a value. `stored` writes what it asks for into the store before anything is computed;
`as_requested` gives the task what this one request asks for beside the usual.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from app.task import Begun, Task
from storage.records import OWNER_ID, Conversation, Turn
from storage.store import Store

MAX_ALTERNATIVES = 8
MAX_PROMPT_CHARS = 2_000_000
# Why a turn was not started: the key of a sentence.
Refusal = Literal["empty", "too_long", "running", "queue_full", "quota", "not_ready", "closed"]


class JobRefused(Exception):
    """A turn was not started."""

    def __init__(self, code: Refusal) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Send:
    """A new prompt. No `key` begins a conversation; editing a prompt sends under its parent.

    One that is begun `temporary` is never stored.
    """

    key: str | None
    parent_id: int | None
    text: str
    client_key: str
    temporary: bool = False


@dataclass(frozen=True, slots=True)
class Again:
    """Another version of the reply to a prompt; `anyway`, although the guard refused the prompt.

    `beginning` is how it starts; of a `count` above one all are written at the same time.
    """

    key: str
    prompt_id: int
    choices: Mapping[str, object] | None = None  # in place of the conversation's
    system_prompt: str | None = None
    anyway: bool = False
    beginning: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True)
class Branch:
    """Another version of a reply: as it was for `num_chars`, then `begun`, then on from there."""

    key: str
    reply_id: int
    num_chars: int
    begun: Begun


@dataclass(frozen=True, slots=True)
class Continue:
    """Write on where a stopped, interrupted or length-ended reply broke off.

    `anyway` also where the guard ended it: first what was held back, if that is kept.
    """

    key: str
    reply_id: int
    anyway: bool = False


Request = Send | Again | Branch | Continue


def check_request(request: Request) -> None:
    """Refuse a prompt that is empty or too long. Raises `JobRefused`."""
    if not isinstance(request, Send):
        return
    if not request.text.strip():
        raise JobRefused("empty")
    if len(request.text) > MAX_PROMPT_CHARS:
        raise JobRefused("too_long")


def stored(store: Store, user_id: int, request: Request) -> tuple[Conversation, Turn]:
    """Write the messages that `request` asks for; the conversation and the turn to answer.

    Raises `StorageError`.
    """
    match request:
        case Send(key, parent_id, text, client_key):
            temporary = request.temporary
            key = key or store.create_conversation(user_id, temporary=temporary).key
            turn = store.begin_turn(
                user_id, key, parent_id=parent_id, text=text, client_key=client_key
            )
        case Again(key, prompt_id):
            turn = store.begin_reply(user_id, key, prompt_id=prompt_id, beginning=request.beginning)
        case Branch(key, reply_id, num_chars):
            turn = store.begin_branch(user_id, key, reply_id=reply_id, num_chars=num_chars)
        case Continue(key, reply_id):
            turn = store.resume_reply(user_id, key, reply_id=reply_id, although_cut=request.anyway)
    conversation = store.conversation(user_id, key)
    if isinstance(request, Again):
        conversation = _as_asked(conversation, request)
    return conversation, turn


def _as_asked(conversation: Conversation, request: Again) -> Conversation:
    """The conversation with what this one answer is to be made with; nothing is stored."""
    if request.choices is not None:
        conversation = replace(conversation, choices=request.choices)
    if request.system_prompt is not None:
        conversation = replace(conversation, system_prompt=request.system_prompt)
    return conversation


def as_requested(store: Store, task: Task, request: Request) -> Task:
    """The task with what this request alone asks for.

    Only the owner may ask to see what the guard stopped, and only if the policy allows it; for
    anybody else the guard judges as always.
    """
    if isinstance(request, Branch):
        return replace(task, begun=request.begun)
    if not isinstance(request, Again | Continue) or not request.anyway:
        return task
    user_id = task.conversation.user_id
    task = replace(task, override=user_id == OWNER_ID and task.policy.may_override)
    if isinstance(request, Continue) and task.override:
        held = store.withheld(user_id, request.key, request.reply_id)
        task = replace(task, begun=Begun((), held))
    return task


def num_beside(request: Request) -> int:
    """How many answers are written beside the one that is shown."""
    return min(request.count, MAX_ALTERNATIVES) - 1 if isinstance(request, Again) else 0
