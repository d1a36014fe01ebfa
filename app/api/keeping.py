"""`store: true`: a call becomes a conversation like those of the page.

The client's word is all there is for earlier replies: they are kept as unchecked.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict

from app.api.answering import Piece
from engine.base import EngineInfo, Message, Sampling
from safety.base import Verdict
from storage.records import Generation, Status, Turn, VerdictRecord
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
    verdicts = []
    if (decision := piece.decision) is not None:
        verdict = decision.verdict or Verdict(decision.score)
        verdicts.append(
            VerdictRecord(
                stage="final",
                guard=verdict.guard,
                guard_version=verdict.version,
                action=decision.action,
                score=decision.score,
                category=decision.category,
                threshold=decision.threshold,
                scores=dict(verdict.scores),
                policy_version=decision.policy_version,
                reason=verdict.failed,
                upto_char=len(text),
                seconds=verdict.seconds,
            )
        )
    generation = Generation(
        model=info.model,
        fingerprint=info.fingerprint,
        device=info.device,
        precision=info.precision,
        sampling=asdict(sampling),
        seed=piece.seed,
        num_prompt=0,  # counted already, as every call is
        num_new=0,
        num_reused=0,
        queue_seconds=0.0,
        first_token_seconds=0.0,
        total_seconds=0.0,
        tokens_per_second=0.0,
        finish_reason=piece.finish,
    )
    blocked = piece.finish == "content_filter"
    status: Status = "cut" if blocked else "done"
    store.finish_reply(reply_id, status=status, generation=generation, verdicts=verdicts)
