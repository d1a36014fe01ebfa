"""`POST /v1/chat/completions`: messages in, one or several replies out, whole or as a stream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import anyio
from fastapi import Request
from fastapi.responses import JSONResponse, Response

from app.api.answering import Asked, Piece
from app.api.calls import Calls, Head, versions
from app.api.chat_answer import Choice, chunks, whole
from app.api.errors import ApiError
from app.api.keeping import keep
from app.api.requests import ChatRequest
from app.api.sse import event_stream
from app.api.tools import as_message, formed, offered
from app.job import Call
from engine.base import Engine, Prompt
from engine.tools import no_tools, uses_tools
from safety.base import Guard


async def complete_chat(
    calls: Calls, user_id: int, request: Request, given: ChatRequest
) -> Response:
    """Answer a checked request. Raises `ApiError`, `JobRefused`, `EngineError`."""
    wanted = await calls.model(given.model)
    head = Head.make("chatcmpl", wanted.name)
    asked = await anyio.to_thread.run_sync(_asked, calls, user_id, given)
    each = versions(asked, given.n or 1)
    tools = asked.prompt.tools

    def work(engine: Engine, guard: Guard, call: Call) -> Iterator[tuple[int, Piece]]:
        found = [Choice() for _ in each]
        for number, piece in calls.answers(user_id, each, engine, guard, call):
            found[number].add(piece)
            yield number, piece
        if given.store and not call.cancel.is_set():
            messages = asked.prompt.messages or ()
            replies = [(choice.text, choice.last) for choice in found]
            keep(calls.services.store, user_id, messages, replies, engine.info(), asked.sampling)

    relay = await calls.relay(user_id, work, wanted.adapter)
    logprobs = bool(given.logprobs)
    if given.stream:
        wants_usage = bool(given.stream_options and given.stream_options.include_usage)
        events = chunks(relay.items(), head, len(each), tools, logprobs, wants_usage)
        return await event_stream(events, calls)
    choices = [Choice() for _ in each]
    for number, piece in await relay.all(request):
        choices[number].add(piece)
    told = calls.fingerprint(wanted)
    return JSONResponse(whole(head, told, choices, tools, logprobs=logprobs))


def _asked(calls: Calls, user_id: int, given: ChatRequest) -> Asked:
    """What the engine is asked. Blocks. Raises `ApiError`, `EngineError`."""
    try:
        messages = [as_message(message) for message in given.messages]
    except ValueError as error:
        raise ApiError(400, f"messages: {error}.", param="messages") from error
    tools = offered(given)
    info = calls.services.engine_info()
    if info is not None and not info.tools and (tools or uses_tools(messages)):
        raise no_tools()
    written = [m["content"] for m in messages if m["role"] != "assistant"]
    if tools:  # the client wrote them too, and the model reads them
        written.insert(0, json.dumps(tools, ensure_ascii=False))
    sampling = calls.sampling(
        user_id,
        given,
        max_tokens=given.max_completion_tokens or given.max_tokens,
        num_logprobs=max(1, given.top_logprobs or 0) if given.logprobs else 0,
    )
    sampling = formed(
        replace(sampling, json_schema="", grammar=""), given, info.tools if info else ""
    )
    if sampling.json_schema or sampling.grammar:
        from engine.constraint import check_form  # only here, because it brings a library

        check_form(sampling)
    return Asked(Prompt(messages=messages, tools=tools), sampling, tuple(written))
