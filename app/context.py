"""From the path of a conversation to the messages a model sees, made to fit its context.

Whole oldest turns go first, unless the user chose that the conversation stops there; the system
prompt and the newest prompt always stay. Once turns have to go, enough go to leave room for the
next few (hysteresis): otherwise every later turn would move the beginning of the prompt and nothing
in the KV cache could be used again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from engine.base import Message
from engine.errors import ContextFull
from storage.records import MessageRecord, VerdictRecord

Overflow = Literal["drop", "stop"]  # the oldest turns, or the conversation

KEEP_WHEN_DROPPING = 0.6  # share of the room that is filled again after turns had to go
SHORTEST_REPLY = 32  # tokens; a prompt that leaves less than this is refused


class ConversationFull(Exception):
    """The conversation no longer fits, and the user chose that nothing is left out."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What the model will read, and how many messages of the path no longer fit."""

    messages: Sequence[Message]
    num_tokens: int
    num_left_out: int


def fit(
    path: Sequence[MessageRecord],
    *,
    system_prompt: str,
    count_tokens: Callable[[Sequence[Message]], int],
    context_length: int,
    num_reserved: int,
    fingerprint: str = "",
    overflow: Overflow = "drop",
) -> Fitted:
    """Choose what of `path` (root first, ending with the prompt to answer) the model reads.

    `num_reserved` tokens are kept free for the reply, unless the newest prompt alone needs them.
    Raises `ContextFull` if that prompt leaves no room for even the shortest reply, and
    `ConversationFull` if older turns would have to go where `overflow` is "stop".
    """
    room = context_length - max(num_reserved, SHORTEST_REPLY)
    head: list[Message] = [{"role": "system", "content": system_prompt}] if system_prompt else []
    starts = [i for i, record in enumerate(path) if record.role == "user"]

    def measured(start: int) -> tuple[list[Message], int]:
        messages = head + as_messages(path[start:], fingerprint)
        return messages, count_tokens(messages)

    before = _left_out_before(path) if overflow == "drop" else 0
    first = next((k for k, start in enumerate(starts) if start >= before), len(starts) - 1)
    messages, num_tokens = measured(starts[first])
    if num_tokens > room and overflow == "stop" and len(starts) > 1:
        raise ConversationFull
    if num_tokens > room:
        target = int(room * KEEP_WHEN_DROPPING)
        first, messages, num_tokens = _drop(starts, first, measured, target)
        if num_tokens > context_length - SHORTEST_REPLY:  # and only the newest prompt is left
            raise ContextFull(num_tokens, context_length)
    return Fitted(messages, num_tokens, starts[first])


def reserved(max_new_tokens: int, context_length: int) -> int:
    """How many tokens to keep free for a reply: what it may take, at most a quarter."""
    return min(max_new_tokens, context_length // 4)


def with_draft(path: Sequence[MessageRecord], text: str) -> list[MessageRecord]:
    """`path` with a prompt that is still being written: what it would take if it were sent."""
    let_through = VerdictRecord("prompt", "", "", "allow", 0.0)
    leaf = path[-1].id if path else None
    conversation_id = path[-1].conversation_id if path else 0
    draft = MessageRecord(
        *(0, conversation_id, leaf, "user", "done", text, 0, 0), verdicts=(let_through,)
    )
    return [*path, draft]


def as_messages(path: Sequence[MessageRecord], fingerprint: str = "") -> list[Message]:
    """The messages of `path` as a model may see them.

    A prompt that was refused, or never judged because the process died first, stays out with what
    stands under it. So does one whose answer was cut before anything was shown: it would only
    provoke the same again. A cut answer enters as far
    as it was shown. Prompts that follow each other without an answer in between become one, since
    chat formats alternate.
    """
    messages: list[Message] = []
    for at, record in enumerate(path):
        if record.role == "system" or not record.content or record.status == "blocked":
            continue
        answer = path[at + 1] if at + 1 < len(path) else None
        if record.role == "user":
            if not any(verdict.stage == "prompt" for verdict in record.verdicts):
                continue
            if answer and (answer.status == "blocked" or _cut_to_nothing(answer)):
                continue
            if messages and messages[-1]["role"] == "user":
                earlier = messages.pop()["content"]
                messages.append({"role": "user", "content": f"{earlier}\n\n{record.content}"})
                continue
        elif not messages or messages[-1]["role"] != "user":
            continue
        messages.append(_message(record, fingerprint))
    return messages


def _message(record: MessageRecord, fingerprint: str) -> Message:
    if record.role == "assistant" and (ids := own_ids(record, fingerprint)):
        return {"role": "assistant", "content": record.content, "ids": ids}
    return {"role": record.role, "content": record.content}


def own_ids(record: MessageRecord, fingerprint: str) -> Sequence[int]:
    """The token ids that the model of `fingerprint` wrote for all of a reply; else none."""
    ids = [token for run in record.generations for token in run.token_ids]
    same_model = all(run.fingerprint == fingerprint for run in record.generations)
    return ids if fingerprint and same_model else ()


def _cut_to_nothing(record: MessageRecord) -> bool:
    return record.status == "cut" and not record.content


def _left_out_before(path: Sequence[MessageRecord]) -> int:
    """How many messages the last answered turn on this path left out: begin there again."""
    for record in reversed(path):
        if record.generations:
            return record.generations[-1].num_left_out
    return 0


def _drop(
    starts: Sequence[int],
    first: int,
    measured: Callable[[int], tuple[list[Message], int]],
    target: int,
) -> tuple[int, list[Message], int]:
    """The earliest turn after `first` from which on everything takes at most `target` tokens.

    Token counts fall as turns go, so bisection finds it in O(log n) counts. If no turn but the
    newest fits, that one is returned whatever it takes.
    """
    low, high = first + 1, len(starts) - 1
    while low < high:
        middle = (low + high) // 2
        if measured(starts[middle])[1] <= target:
            high = middle
        else:
            low = middle + 1
    at = min(max(low, first), len(starts) - 1)
    messages, num_tokens = measured(starts[at])
    return at, messages, num_tokens
