"""`POST /v1/completions`: raw texts or token ids in, what follows out; what evaluations use.

With `echo` and `logprobs` each token of the prompt comes back with its log-probability. A prompt
that the policy blocks is not scored either: its choice is empty and ends with "content_filter".
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace

import anyio
from fastapi import Request
from fastapi.responses import JSONResponse, Response

from app.api.answering import Asked, Piece
from app.api.calls import Calls, Head, usage, versions
from app.api.errors import ApiError
from app.api.requests import CompletionRequest
from app.api.scoring import Read, read, text_of
from app.api.sse import event_stream
from app.job import Call
from engine.base import Engine, Prompt, Sampling, TokenLogprob
from safety.base import Guard

DEFAULT_NEW_TOKENS = 16  # as OpenAI's API has it


@dataclass(slots=True)
class Choice:
    """One completion as it was received; `scored` is its prompt, where that was asked for."""

    text: str = ""
    tokens: list[TokenLogprob] = field(default_factory=list)
    scored: Read | None = None
    last: Piece = field(default_factory=Piece)

    def add(self, piece: Piece | Read) -> None:
        if isinstance(piece, Read):
            self.scored = piece
            return
        self.text += piece.text
        self.tokens += piece.tokens
        self.last = piece


async def complete(
    calls: Calls, user_id: int, request: Request, given: CompletionRequest
) -> Response:
    """Answer a checked request. Raises `ApiError`, `JobRefused`, `EngineError`."""
    if given.store:
        raise ApiError(400, "Only chat completions can be stored.", param="store")
    wanted = await calls.model(given.model)
    head = Head.make("cmpl", wanted.name)
    sampling = await anyio.to_thread.run_sync(
        lambda: calls.sampling(
            user_id,
            given,
            max_tokens=given.max_tokens or DEFAULT_NEW_TOKENS,
            num_logprobs=0 if given.logprobs is None else max(1, given.logprobs),
        )
    )
    num = len(given.prompts()) * (given.n or 1)

    def work(engine: Engine, guard: Guard, call: Call) -> Iterator[tuple[int, Piece | Read]]:
        return _work(calls, user_id, given, sampling, engine, guard, call)

    relay = await calls.relay(user_id, work, wanted.adapter)
    if given.stream:
        wants_usage = bool(given.stream_options and given.stream_options.include_usage)
        return await event_stream(_chunks(relay.items(), head, num, given, wants_usage), calls)
    choices = [Choice() for _ in range(num)]
    for number, piece in await relay.all(request):
        choices[number].add(piece)
    return JSONResponse(_whole(head, calls.fingerprint(wanted), given, choices))


def _work(
    calls: Calls,
    user_id: int,
    given: CompletionRequest,
    sampling: Sampling,
    engine: Engine,
    guard: Guard,
    call: Call,
) -> Iterator[tuple[int, Piece | Read]]:
    """Every prompt in turn, each as often as asked for. Blocks."""
    per_prompt = given.n or 1
    for place, prompt in enumerate(given.prompts()):
        start = place * per_prompt
        text = text_of(engine, prompt)
        if given.echo and given.logprobs is not None:
            if text.strip() and not calls.passes(user_id, text, guard):
                yield from ((start + n, Piece(finish="content_filter")) for n in range(per_prompt))
                continue
            found = read(engine, prompt, given.logprobs)
            calls.count(user_id, len(found.rest) + 1, 0)
            yield from ((start + n, found) for n in range(per_prompt))
        if given.max_tokens == 0:
            length = 0 if isinstance(prompt, str) else len(prompt)
            yield from ((start + n, Piece("", (), "length", length)) for n in range(per_prompt))
            continue
        whole = Prompt(text=prompt) if isinstance(prompt, str) else Prompt(ids=prompt)
        each = versions(Asked(whole, sampling, (text,)), per_prompt)
        for number, piece in calls.answers(user_id, each, engine, guard, call):
            yield start + number, piece
        if call.cancel.is_set():
            return


def _whole(
    head: Head, told: str | None, given: CompletionRequest, choices: Sequence[Choice]
) -> dict[str, object]:
    prompts = [prompt for prompt in given.prompts() for _ in range(given.n or 1)]
    return {
        "id": head.id,
        "object": "text_completion",
        "created": head.created,
        "model": head.model,
        "system_fingerprint": told,
        "choices": [
            _choice(number, choice, prompt, given)
            for number, (choice, prompt) in enumerate(zip(choices, prompts, strict=True))
        ],
        "usage": usage(
            sum(choice.last.num_prompt for choice in choices[:: given.n or 1]),
            sum(choice.last.num_new for choice in choices),
        ),
    }


def _choice(
    number: int, choice: Choice, prompt: str | list[int], given: CompletionRequest
) -> dict[str, object]:
    refused = choice.last.finish == "content_filter" and choice.scored is None
    echoed = ""
    if given.echo and not refused:
        echoed = prompt if isinstance(prompt, str) else ""
        echoed = choice.scored.text if choice.scored else echoed
    wanted = given.logprobs is not None and not refused
    return {
        "index": number,
        "text": echoed + choice.text,
        "logprobs": _logprobs(choice, given.logprobs or 0) if wanted else None,
        "finish_reason": choice.last.finish or "stop",
    }


def _logprobs(choice: Choice, num: int) -> dict[str, list[object]]:
    """Parallel lists over all tokens; the first token of a prompt has no probability."""
    tokens = [*(choice.scored.rest if choice.scored else ()), *choice.tokens]
    # Evaluations take the last token for the one that was written. Where the text ended at once, or
    # the guard held it back, an empty one without a number stands in its place.
    absent = choice.scored is not None and not choice.tokens and choice.last.finish != "length"
    texts: list[str] = [token.text for token in tokens]
    values: list[object] = [token.logprob for token in tokens]
    tops: list[object] = [_top(token, num) for token in tokens]
    if choice.scored is not None:
        texts, values, tops = [choice.scored.first, *texts], [None, *values], [None, *tops]
    if absent:
        texts, values, tops = [*texts, ""], [*values, None], [*tops, None]
    offsets, at = [], 0
    for text in texts:
        offsets.append(at)
        at += len(text)
    return {
        "tokens": list(texts),
        "token_logprobs": values,
        "top_logprobs": tops,
        "text_offset": list(offsets),
    }


def _top(token: TokenLogprob, num: int) -> dict[str, float]:
    """The likeliest tokens by their text; the chosen one under the name it has in `tokens`."""
    found: dict[str, float] = {}
    for id, text, logprob in token.alternatives[: max(1, num)]:
        found.setdefault(token.text if id == token.id else text, logprob)
    return found


async def _chunks(
    items: AsyncIterator[tuple[int, Piece | Read]],
    head: Head,
    num: int,
    given: CompletionRequest,
    wants_usage: bool,
) -> AsyncIterator[str]:
    lasts = [Piece()] * num

    def chunk(choices: list[dict[str, object]], **more: object) -> str:
        start = {"id": head.id, "object": "text_completion", "created": head.created}
        return json.dumps({**start, "model": head.model, "choices": choices, **more})

    async for number, piece in items:
        if isinstance(piece, Read):
            continue
        lasts[number] = piece
        if piece.text or piece.tokens or piece.finish:
            part = Choice(piece.text, list(piece.tokens), last=replace(piece, finish=""))
            shown = _logprobs(part, given.logprobs) if given.logprobs is not None else None
            yield chunk(
                [
                    {
                        "index": number,
                        "text": piece.text,
                        "logprobs": shown,
                        "finish_reason": piece.finish or None,
                    }
                ]
            )
    if wants_usage:
        counted = usage(
            sum(last.num_prompt for last in lasts[:: given.n or 1]),
            sum(last.num_new for last in lasts),
        )
        yield chunk([], usage=counted)
