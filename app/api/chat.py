"""`POST /v1/chat/completions`: messages in, one or several replies out, whole or as a stream."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field

import anyio
from fastapi import Request
from fastapi.responses import JSONResponse, Response

from app.api.answering import Asked, Piece
from app.api.calls import Calls, Head, fingerprint, usage, versions
from app.api.errors import ApiError
from app.api.keeping import keep
from app.api.requests import ChatRequest
from app.api.sse import event_stream
from app.job import Call
from engine.base import Engine, Message, Prompt, TokenLogprob
from safety.base import Guard


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


async def complete_chat(
    calls: Calls, user_id: int, request: Request, given: ChatRequest
) -> Response:
    """Answer a checked request. Raises `ApiError`, `JobRefused`, `EngineError`."""
    head = Head.make("chatcmpl", calls.model(given.model))
    if given.response_format is not None and given.response_format.type != "text":
        raise ApiError(400, "Only response_format text is possible here.", param="response_format")
    asked = await anyio.to_thread.run_sync(_asked, calls, user_id, given)
    each = versions(asked, given.n or 1)

    def work(engine: Engine, guard: Guard, call: Call) -> Iterator[tuple[int, Piece]]:
        found = [Choice() for _ in each]
        for number, piece in calls.answers(user_id, each, engine, guard, call):
            found[number].add(piece)
            yield number, piece
        if given.store and not call.cancel.is_set():
            messages = asked.prompt.messages or ()
            replies = [(choice.text, choice.last) for choice in found]
            keep(calls.services.store, user_id, messages, replies, engine.info(), asked.sampling)

    relay = await calls.relay(user_id, work)
    if given.stream:
        wants_usage = bool(given.stream_options and given.stream_options.include_usage)
        chunks = _chunks(relay.items(), head, len(each), bool(given.logprobs), wants_usage)
        return await event_stream(chunks, calls)
    choices = [Choice() for _ in each]
    for number, piece in await relay.all(request):
        choices[number].add(piece)
    return JSONResponse(_whole(calls, head, choices, logprobs=bool(given.logprobs)))


def _asked(calls: Calls, user_id: int, given: ChatRequest) -> Asked:
    messages: list[Message] = [
        {
            "role": "system" if message.role == "developer" else message.role,
            "content": message.text,
        }
        for message in given.messages
    ]
    written = tuple(m["content"] for m in messages if m["role"] != "assistant")
    sampling = calls.sampling(
        user_id,
        given,
        max_tokens=given.max_completion_tokens or given.max_tokens,
        num_logprobs=max(1, given.top_logprobs or 0) if given.logprobs else 0,
    )
    return Asked(Prompt(messages=messages), sampling, written)


def _whole(
    calls: Calls, head: Head, choices: Sequence[Choice], *, logprobs: bool
) -> dict[str, object]:
    return {
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "system_fingerprint": fingerprint(calls.services.engine_info()),
        "choices": [
            {
                "index": number,
                "message": {"role": "assistant", "content": choice.text, "refusal": None},
                "logprobs": _logprobs(choice.tokens) if logprobs else None,
                "finish_reason": choice.last.finish or "stop",
            }
            for number, choice in enumerate(choices)
        ],
        "usage": usage(
            max(choice.last.num_prompt for choice in choices),
            sum(choice.last.num_new for choice in choices),
        ),
    }


async def _chunks(
    items: AsyncIterator[tuple[int, Piece]],
    head: Head,
    num_choices: int,
    logprobs: bool,
    wants_usage: bool,
) -> AsyncIterator[str]:
    """Each event's JSON, as OpenAI sends them: role first, then text, then why it ended."""
    lasts = [Piece()] * num_choices
    begun: set[int] = set()

    def chunk(choices: list[dict[str, object]], **more: object) -> str:
        start = {"id": head.id, "object": "chat.completion.chunk", "created": head.created}
        return json.dumps({**start, "model": head.model, "choices": choices, **more})

    def choice(number: int, delta: dict[str, object], piece: Piece) -> dict[str, object]:
        shown = _logprobs(piece.tokens) if logprobs and piece.tokens else None
        finish = piece.finish or None
        return {"index": number, "delta": delta, "logprobs": shown, "finish_reason": finish}

    async for number, piece in items:
        lasts[number] = piece
        if number not in begun:
            begun.add(number)
            yield chunk([choice(number, {"role": "assistant", "content": ""}, Piece())])
        if piece.text or (piece.tokens and not piece.finish):
            yield chunk([choice(number, {"content": piece.text}, Piece(tokens=piece.tokens))])
        if piece.finish:
            rest = () if piece.text else piece.tokens
            yield chunk([choice(number, {}, Piece(tokens=rest, finish=piece.finish))])
    if wants_usage:
        counted = usage(max(p.num_prompt for p in lasts), sum(p.num_new for p in lasts))
        yield chunk([], usage=counted)


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
