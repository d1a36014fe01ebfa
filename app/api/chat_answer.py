"""A chat completion in OpenAI's shape: as one object, or in chunks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from app.api.answering import Piece
from app.api.calls import Head, usage
from app.api.tools import Reading
from engine.base import TokenLogprob, Tool


@dataclass(slots=True)
class Choice:
    """One reply as it was received."""

    text: str = ""
    tokens: list[TokenLogprob] = field(default_factory=list)
    last: Piece = field(default_factory=Piece)

    def add(self, piece: Piece) -> None:
        self.text += piece.text
        self.tokens += piece.tokens
        self.last = piece


def whole(
    head: Head,
    fingerprint: str | None,
    choices: Sequence[Choice],
    tools: Sequence[Tool],
    *,
    logprobs: bool,
) -> dict[str, object]:
    """All replies as one object."""
    return {
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "system_fingerprint": fingerprint,
        "choices": [
            _choice(number, choice, Reading(tools), logprobs=logprobs)
            for number, choice in enumerate(choices)
        ],
        "usage": _usage([choice.last for choice in choices]),
    }


def _choice(number: int, choice: Choice, reading: Reading, *, logprobs: bool) -> dict[str, object]:
    finish = choice.last.finish or "stop"
    text = reading.push(choice.text) + reading.finish(finish)
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if reading.calls:
        message |= {"content": None, "tool_calls": reading.calls}
    return {
        "index": number,
        "message": message,
        "logprobs": _logprobs(choice.tokens) if logprobs else None,
        "finish_reason": "tool_calls" if reading.calls else finish,
        **_code(choice.last),
    }


def _code(piece: Piece) -> dict[str, object]:
    """What the code checks said of each fenced block, beside OpenAI's fields; nothing without."""
    blocks = piece.code.blocks if piece.code else ()
    if not blocks:
        return {}
    return {
        "code_blocks": [
            {
                "state": block.state,
                "findings": [asdict(finding) for finding in block.findings],
                **({"reason": block.reason} if block.reason else {}),
            }
            for block in blocks
        ]
    }


async def chunks(
    items: AsyncIterator[tuple[int, Piece]],
    head: Head,
    num_choices: int,
    tools: Sequence[Tool],
    logprobs: bool,
    wants_usage: bool,
) -> AsyncIterator[str]:
    """Each event's JSON, as OpenAI sends them: role first, then text, then why it ended."""
    parts = [_Parts(number, Reading(tools), logprobs) for number in range(num_choices)]

    def chunk(choices: list[dict[str, object]], **more: object) -> str:
        start = {"id": head.id, "object": "chat.completion.chunk", "created": head.created}
        return json.dumps({**start, "model": head.model, "choices": choices, **more})

    async for number, piece in items:
        for choice in parts[number].of(piece):
            yield chunk([choice])
    if wants_usage:
        yield chunk([], usage=_usage([each.last for each in parts]))


class _Parts:
    """One choice, delta by delta."""

    def __init__(self, number: int, reading: Reading, logprobs: bool) -> None:
        self._number, self._reading, self._logprobs = number, reading, logprobs
        self._tokens: list[TokenLogprob] = []  # of text that is not shown yet
        self._begun = False
        self.last = Piece()

    def of(self, piece: Piece) -> list[dict[str, object]]:
        """What a piece of reply adds."""
        self.last = piece
        self._tokens += piece.tokens
        found = []
        if not self._begun:
            self._begun = True
            found.append(self._part({"role": "assistant", "content": ""}))
        text = self._reading.push(piece.text)
        if piece.finish:
            text += self._reading.finish(piece.finish)
        if text:
            found.append(self._part({"content": text}, shows=True))
        if not piece.finish:
            return found
        finish: str = piece.finish
        if calls := self._reading.calls:
            told = [{"index": at, **call} for at, call in enumerate(calls)]
            found.append(self._part({"tool_calls": told}))
            finish = "tool_calls"
        found.append(self._part({}, shows=True, finish=finish) | _code(piece))
        return found

    def _part(
        self, delta: dict[str, object], *, shows: bool = False, finish: str | None = None
    ) -> dict[str, object]:
        """`shows` sends the log-probabilities that wait along with it."""
        tokens = None
        if shows and self._logprobs and self._tokens:
            tokens, self._tokens = _logprobs(self._tokens), []
        return {"index": self._number, "delta": delta, "logprobs": tokens, "finish_reason": finish}


def _usage(lasts: Sequence[Piece]) -> dict[str, int]:
    """All choices have one prompt."""
    return usage(max(last.num_prompt for last in lasts), sum(last.num_new for last in lasts))


def _logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, object]:
    return {
        "content": [
            {
                **_named(token.text, token.logprob),
                "top_logprobs": [_named(text, value) for _, text, value in token.alternatives],
            }
            for token in tokens
        ],
        "refusal": None,
    }


def _named(text: str, logprob: float) -> dict[str, object]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode("utf-8", "replace"))}
