"""`store: true`: a call becomes a conversation like those of the page.

The client's word is all there is for earlier replies: they are kept as unchecked.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from app.api.answering import Piece
from app.draft import run_of
from app.judging import recorded
from engine.base import EngineInfo, Message, Sampling, Statistics
from storage.records import Status, Turn, VerdictRecord
from storage.store import Store


def keep(
    store: Store,
    user_id: int,
    messages: Sequence[Message],
    replies: Sequence[tuple[str, Piece]],
    info: EngineInfo,
    sampling: Sampling,
) -> str:
    """Store what was said; the conversation's key. Blocks. Raises `StorageError`."""
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
    key = store.create_conversation(user_id, system_prompt=system).key
    said = [m for m in messages if m["role"] != "system"]
    parent: int | None = None
    turn: Turn | None = None
    for message, following in zip(said, [*said[1:], None], strict=True):
        if message["role"] != "user":
            continue
        turn = store.begin_turn(
            user_id, key, parent_id=parent, text=message["content"], client_key=secrets.token_hex(8)
        )
        store.set_status(turn.prompt.id, "done")
        if following is not None:
            parent = turn.reply.id
            text = following["content"] if following["role"] == "assistant" else ""
            _finish_earlier(store, turn.reply.id, text)
    assert turn is not None, "a request ends with a prompt"
    for number, (text, piece) in enumerate(replies):
        if number:
            turn = store.begin_reply(user_id, key, prompt_id=turn.prompt.id)
        _finish(store, turn.reply.id, text, piece, info, sampling)
    return key


def _finish_earlier(store: Store, reply_id: int, text: str) -> None:
    store.append(reply_id, text)
    verdict = VerdictRecord(
        stage="final",
        guard="none",
        guard_version="",
        action="unchecked",
        score=0.0,
        reason="A client of the API sent it.",
        upto_char=len(text),
    )
    store.finish_reply(reply_id, status="done", generation=None, verdicts=[verdict])


def _finish(
    store: Store, reply_id: int, text: str, piece: Piece, info: EngineInfo, sampling: Sampling
) -> None:
    store.append(reply_id, text)
    verdicts = [piece.code] if piece.code else []
    if (decision := piece.decision) is not None:
        verdicts.append(recorded("final", decision, decision.policy_version, len(text)))
    # No tokens: they are counted already, as those of every call are.
    cost = Statistics(0, 0, 0, 0.0, 0.0, 0.0, seed=piece.seed)
    status: Status = "cut" if piece.finish == "content_filter" else "done"
    store.finish_reply(
        reply_id,
        status=status,
        generation=run_of(info, sampling, cost, piece.finish),
        verdicts=verdicts,
    )
