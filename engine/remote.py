"""The engine on another server: vLLM, SGLang, Ray Serve, llama.cpp, `transformers serve`.

It speaks the OpenAI-compatible protocol. A request that fails before the first token is sent again
with growing pauses; after the first token never, because what was shown must not change. A stop
cuts the connection, upon which these servers stop computing.

What such a server does not tell: token ids (a chunk's ids number its pieces), log-probabilities,
and how many tokens a prompt has before it is sent (estimated, and corrected by what it counted).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any, TypeVar

from engine.base import (
    Chunk,
    EngineInfo,
    FinishReason,
    Message,
    Prompt,
    Sampling,
    Statistics,
    TokenScores,
)
from engine.endpoint import Address, TooLong, choose, connect, served_by
from engine.errors import (
    ContextFull,
    EngineClosed,
    ModelUnsupported,
    PromptEmpty,
    ServerRefused,
    ServerUnreachable,
)
from engine.remote_call import Echo, Piece, RemoteCall, Usage
from engine.remote_request import request_for
from engine.tools import no_tools, uses_tools

T = TypeVar("T")

_TRIES = 4
_UNKNOWN_CONTEXT = 4096  # where the server does not say: what nearly every model has
_MESSAGE_TOKENS = 5  # role and separators of one message, about
_FIRST_BYTES_PER_TOKEN = 3.0  # English has about 4.2: rather too many tokens than too few
_BYTES_PER_TOKEN_RANGE = 1.0, 6.0


@dataclass(slots=True)
class _Reply:
    """One reply as it comes into being. `num_prompt` is a guess until the server has counted."""

    num_prompt: int
    seed: int
    asked: float
    first: float = 0.0
    num_pieces: int = 0
    usage: Usage | None = None
    finish_reason: FinishReason = "stop"

    def take(self, piece: Piece) -> None:
        if piece.finish_reason:
            self.finish_reason = "length" if piece.finish_reason == "length" else "stop"
        if piece.usage is not None:
            self.usage = piece.usage
            self.num_prompt = piece.usage.num_prompt or self.num_prompt

    def statistics(self) -> Statistics:
        now = time.perf_counter()
        return Statistics(
            num_prompt=self.num_prompt,
            num_reused=self.usage.num_reused if self.usage else 0,
            num_new=(self.usage and self.usage.num_new) or self.num_pieces,
            queue_seconds=0.0,
            first_token_seconds=(self.first or now) - self.asked,
            total_seconds=now - self.asked,
            seed=self.seed,
        )


class RemoteEngine:
    """`engine.base.Engine` for one model of another server. Computes nothing here."""

    def __init__(
        self,
        address: Address,
        *,
        key: str = "",
        max_context: int | None = None,
        retry_seconds: float = 0.5,
    ) -> None:
        """Ask the server what it serves; blocks. Waits `retry_seconds`, doubling, between tries.

        Raises `ServerUnreachable` or `ServerRefused`.
        """
        self._address = address
        self._client = connect(address, key)
        self._retry_seconds = retry_seconds
        self._closed = Event()
        self._standard_only = False  # the server refused fields that are not OpenAI's own
        self._bytes_per_token = _FIRST_BYTES_PER_TOKEN
        try:
            served = choose(self._patiently(lambda: served_by(self._client, address)), address)
        except BaseException:
            self._client.close()
            raise
        self._model = served.name
        told = served.context_length
        self._context_length = min(told or max_context or _UNKNOWN_CONTEXT, max_context or 1 << 62)

    def stream(
        self, prompt: Prompt, sampling: Sampling, *, cancel: Event, scope: str
    ) -> Iterator[Chunk]:
        """See `Engine.stream`. `scope` stays here: the server keeps its own cache."""
        self._check_open()
        if prompt.tools or (prompt.messages and uses_tools(prompt.messages)):
            raise no_tools()
        if not (prompt.messages or prompt.text or prompt.ids):
            raise PromptEmpty("There is nothing to read: write a message first.")
        num_prompt = self._guess(prompt)
        if num_prompt >= self._context_length:
            raise ContextFull(num_prompt, self._context_length)
        return self._write(prompt, sampling, cancel, num_prompt)

    def _write(
        self, prompt: Prompt, sampling: Sampling, cancel: Event, num_prompt: int
    ) -> Iterator[Chunk]:
        seed = random.randrange(1 << 31) if sampling.seed is None else sampling.seed
        reply = _Reply(num_prompt, seed, asked=time.perf_counter())
        yield Chunk(num_prompt=num_prompt)
        for text in self._texts(prompt, sampling, cancel, reply):
            reply.first = reply.first or time.perf_counter()
            reply.num_pieces += 1
            yield Chunk(text, (reply.num_pieces,), reply.num_prompt, reply.num_prompt)
        if reply.usage is not None:
            self._learn(prompt, reply.usage.num_prompt)
        yield Chunk(
            num_prefilled=reply.num_prompt,
            num_prompt=reply.num_prompt,
            finish_reason="cancelled" if cancel.is_set() else reply.finish_reason,
            statistics=reply.statistics(),
        )

    def _texts(
        self, prompt: Prompt, sampling: Sampling, cancel: Event, reply: _Reply
    ) -> Iterator[str]:
        """Texts of the reply. A request that has brought none yet is sent again."""
        for attempt in range(1, _TRIES + 1):
            standard_only, room = self._standard_only, self._context_length - reply.num_prompt
            request = request_for(
                self._model,
                prompt,
                sampling,
                seed=reply.seed,
                room=max(1, room),
                standard_only=standard_only,
            )
            try:
                yield from self._once(request, prompt.reply_prefix, cancel, reply)
                return
            except TooLong as error:
                self._context_length = error.context_length or self._context_length
                reply.num_prompt = error.num_prompt or reply.num_prompt + reply.num_prompt // 4
                if attempt == _TRIES or reply.num_prompt >= self._context_length:
                    raise ContextFull(reply.num_prompt, self._context_length) from error
            except ServerRefused:
                if standard_only or reply.num_pieces:
                    raise
                self._standard_only = True
            except ServerUnreachable:
                if attempt == _TRIES or reply.num_pieces or self._pause(attempt, cancel):
                    raise

    def _once(
        self, request: dict[str, Any], prefix: str, cancel: Event, reply: _Reply
    ) -> Iterator[str]:
        """Send one request and hand on the texts that come. Raises `EngineClosed` among others."""
        path = self._client.chat.completions if "messages" in request else self._client.completions
        call = RemoteCall(lambda: path.create(**request), self._address)
        echo = Echo(prefix)
        for piece in call.pieces(lambda: cancel.is_set() or self._closed.is_set()):
            reply.take(piece)
            if text := echo.push(piece.text):
                yield text
        self._check_open()
        if text := echo.rest():
            yield text

    def score(self, ids_or_text: Sequence[int] | str) -> TokenScores:
        """Not possible: the protocol has no log-probabilities of given tokens."""
        raise ModelUnsupported(
            f"The server at {self._address.place} does not score texts. Load a model on this "
            "machine for that."
        )

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """An estimate: bytes over the bytes per token that the server's own counts have shown."""
        num_bytes = sum(len(message["content"].encode("utf-8", "replace")) for message in messages)
        return int(num_bytes / self._bytes_per_token) + _MESSAGE_TOKENS * (len(messages) + 1)

    def info(self) -> EngineInfo:
        """What is asked, and where."""
        place = self._address.place
        here = self._address.is_this_machine
        return EngineInfo(
            model=self._model,
            fingerprint=self._address.fingerprint,
            architecture="remote",
            num_parameters=0,
            context_length=self._context_length,
            device=place,
            precision="remote",
            note="" if here else f"Prompts and answers travel to {place} and back.",
            leaves_to="" if here else place,
        )

    def forget(self, scope: str) -> None:
        """Nothing is kept here; what the server keeps is its own affair."""

    def close(self) -> None:
        """End running replies with `EngineClosed`."""
        self._closed.set()
        self._client.close()

    # --- what is not known ---

    def _guess(self, prompt: Prompt) -> int:
        if prompt.ids is not None:
            return len(prompt.ids)
        if prompt.text is not None:
            return self.count_tokens([{"role": "user", "content": prompt.text}])
        continued: Message = {"role": "assistant", "content": prompt.reply_prefix}
        return self.count_tokens([*(prompt.messages or ()), continued])

    def _learn(self, prompt: Prompt, num_counted: int) -> None:
        """Correct the bytes per token by what the server counted for `prompt`."""
        guessed = self._guess(prompt)
        if num_counted > 0 and guessed > 0 and prompt.ids is None:
            low, high = _BYTES_PER_TOKEN_RANGE
            measured = self._bytes_per_token * guessed / num_counted
            self._bytes_per_token = min(max(measured, low), high)

    # --- patience ---

    def _patiently(self, ask: Callable[[], T]) -> T:
        for attempt in range(1, _TRIES):
            try:
                return ask()
            except ServerUnreachable:
                self._pause(attempt, self._closed)
        return ask()

    def _pause(self, attempt: int, cancel: Event) -> bool:
        """Wait before another try; true if it was cancelled meanwhile."""
        return cancel.wait(self._retry_seconds * 2 ** (attempt - 1))

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise EngineClosed("The engine was closed; start it again.")
