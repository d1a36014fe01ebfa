"""An engine without weights: it replays texts, word by word, with everything real but the model.

Tests, the docs and the first run use it: cancel, stop strings, limits and errors behave as in
`LocalEngine`, and the times in its statistics are measured. Its tokens are words with the white
space before them; their ids hold within one engine.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from threading import Event, Lock

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
from engine.detokenize import StopStrings
from engine.errors import ContextFull, EngineClosed, PromptEmpty

Script = Callable[[Prompt], str | Iterable[str]]
_WORD = re.compile(r"\s*\S+|\s+")
_POLL_SECONDS = 0.02  # how late a waiting reply may notice that the engine was closed


class ScriptedEngine:
    """Replies with texts given beforehand.

    `replies` are given in turn; a `Sampling.seed` picks one, so that the same seed gives the same
    reply. A callable gets the prompt and returns the reply, or its tokens one by one; what it
    raises passes through, also in mid-stream. `seconds_per_token` slows the writing down.
    """

    def __init__(
        self,
        replies: Sequence[str] | Script,
        *,
        seconds_per_token: float = 0.0,
        context_length: int = 8192,
        name: str = "scripted",
    ) -> None:
        self._replies = replies
        self._seconds_per_token = seconds_per_token
        self._context_length = context_length
        self._name = name
        self._turn = count()
        self._closed = Event()
        self._words = _Words()

    def stream(
        self, prompt: Prompt, sampling: Sampling, *, cancel: Event, scope: str
    ) -> Iterator[Chunk]:
        """As `Engine.stream`; checks before the first chunk, then yields one token at a time."""
        asked = time.perf_counter()
        self._check_open()
        ids = self._prompt_ids(prompt)
        if not ids:
            raise PromptEmpty("There is nothing to read: write a message first.")
        if len(ids) >= self._context_length:
            raise ContextFull(len(ids), self._context_length)
        seed = next(self._turn) if sampling.seed is None else sampling.seed
        room = self._context_length - len(ids)
        tokens = self._tokens(prompt, seed)
        return self._write(tokens, len(ids), room, seed, sampling, cancel, asked)

    def _write(
        self,
        tokens: Iterator[str],
        num_prompt: int,
        room: int,
        seed: int,
        sampling: Sampling,
        cancel: Event,
        asked: float,
    ) -> Iterator[Chunk]:
        stop = StopStrings(sampling.stop)
        limit = min(sampling.max_new_tokens, room)
        num_new, first, reason = 0, 0.0, None
        yield Chunk(num_prefilled=num_prompt, num_prompt=num_prompt)
        while reason is None:
            reason = self._wait(cancel)
            word = next(tokens, None) if reason is None else None
            if word is None:
                reason = reason or "stop"
                break
            first = first or time.perf_counter()
            num_new += 1
            text = stop.push(word)
            yield Chunk(text, self._words.ids(word), num_prompt, num_prompt)
            if stop.stopped:
                reason = "stop"
            elif num_new >= limit:
                reason = "length"
        now = time.perf_counter()
        statistics = Statistics(
            num_prompt=num_prompt,
            num_reused=0,
            num_new=num_new,
            queue_seconds=0.0,
            first_token_seconds=(first or now) - asked,
            total_seconds=now - asked,
            seed=seed,
        )
        yield Chunk(
            stop.flush(),
            num_prefilled=num_prompt,
            num_prompt=num_prompt,
            finish_reason=reason,
            statistics=statistics,
        )

    def score(self, ids_or_text: Sequence[int] | str) -> TokenScores:
        """What an engine that knows nothing gives: every byte is one of 256, 8 bits per byte."""
        self._check_open()
        if isinstance(ids_or_text, str):
            ids_or_text = self._words.ids(ids_or_text)
        ids = tuple(ids_or_text)
        sizes = tuple(len(self._words.text(id).encode("utf-8", "replace")) for id in ids)
        logprobs = tuple(-size * math.log(256) for size in sizes)
        return TokenScores(ids, (0.0, *logprobs[1:]) if ids else (), sizes)

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Words of all messages, and one for each message's role and the reply's."""
        return len(self._prompt_ids(Prompt(messages=messages)))

    def info(self) -> EngineInfo:
        """A model of no parameters on no device."""
        return EngineInfo(
            model=self._name,
            fingerprint="scripted",
            architecture="scripted",
            num_parameters=0,
            context_length=self._context_length,
            device="none",
            precision="none",
            note="This engine replays texts; no model is running.",
        )

    def forget(self, scope: str) -> None:
        """Nothing is kept between replies."""

    def close(self) -> None:
        """End running replies with `EngineClosed`."""
        self._closed.set()

    def _wait(self, cancel: Event) -> FinishReason | None:
        """Let the time of one token pass; "cancelled" as soon as somebody asks for it."""
        until = time.perf_counter() + self._seconds_per_token
        while True:
            self._check_open()
            left = until - time.perf_counter()
            if cancel.is_set() or (left > 0 and cancel.wait(min(left, _POLL_SECONDS))):
                return "cancelled"
            if left <= 0:
                return None

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise EngineClosed("The engine was closed; start it again.")

    def _tokens(self, prompt: Prompt, seed: int) -> Iterator[str]:
        """The reply's tokens, without what `reply_prefix` already says."""
        if callable(self._replies):
            reply = self._replies(prompt)
        else:
            reply = self._replies[seed % len(self._replies)] if self._replies else ""
        if not isinstance(reply, str):
            return iter(reply)
        return iter(_WORD.findall(reply.removeprefix(prompt.reply_prefix)))

    def _prompt_ids(self, prompt: Prompt) -> tuple[int, ...]:
        if prompt.ids is not None:
            return tuple(prompt.ids)
        if prompt.text is not None:
            return self._words.ids(prompt.text)
        texts = [f"{message['role']}: {message['content']}" for message in prompt.messages or ()]
        written = "\n".join([*texts, f"assistant: {prompt.reply_prefix}"])
        return self._words.ids(written.rstrip()) if texts else ()


class _Words:
    """Words ⇄ ids, growing as words come."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._ids: dict[str, int] = {}
        self._texts: list[str] = []

    def ids(self, text: str) -> tuple[int, ...]:
        with self._lock:
            return tuple(map(self._id, _WORD.findall(text)))

    def _id(self, word: str) -> int:
        id = self._ids.setdefault(word, len(self._texts))
        if id == len(self._texts):
            self._texts.append(word)
        return id

    def text(self, id: int) -> str:
        return self._texts[id] if 0 <= id < len(self._texts) else ""
