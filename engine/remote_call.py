"""One request to another server on its way: read on a thread of its own, handed on piece by piece.

The thread may wait on the network for minutes; whoever reads the pieces never does, so a stop takes
effect at once and cuts the connection.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any

from engine.endpoint import Address, translated
from engine.errors import ServerUnreachable

_POLL_SECONDS = 0.05  # how late a waiting reader notices a stop


@dataclass(frozen=True, slots=True)
class Usage:
    """What the server counted. `num_reused` of the prompt it had read before."""

    num_prompt: int
    num_reused: int
    num_new: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text of the reply, or how it ended, or what it cost; usually one of them."""

    text: str = ""
    finish_reason: str = ""
    usage: Usage | None = None


class RemoteCall:
    """A request that `send` makes: iterate over its pieces; `stop` may come from any thread."""

    def __init__(self, send: Callable[[], Any], address: Address) -> None:
        self._send, self._address = send, address
        self._arrived: SimpleQueue[Piece | Exception | None] = SimpleQueue()
        self._stopped = Event()
        self._response: Any = None
        Thread(target=self._read, name="remote", daemon=True).start()

    def pieces(self, is_over: Callable[[], bool]) -> Iterator[Piece]:
        """What arrives, until the reply ends or `is_over` says so. Raises what `translated` gives.

        A reply that breaks off without an end raises `ServerUnreachable`.
        """
        try:
            while not is_over():
                with suppress(Empty):
                    arrived = self._arrived.get(timeout=_POLL_SECONDS)
                    if arrived is None:
                        return
                    if isinstance(arrived, Exception):
                        raise arrived
                    yield arrived
        finally:
            self.stop()

    def stop(self) -> None:
        """Cut the connection, also while the thread waits on it. May be repeated."""
        self._stopped.set()
        if self._response is not None:
            with suppress(Exception):  # it may have ended by itself just now
                stream = self._response.extensions["network_stream"]
                stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    def _read(self) -> None:
        """On the thread: from the request to the end of its stream."""
        ended = False
        try:
            with self._send() as stream:
                self._response = stream.response
                thoughts = _Thoughts()
                for event in stream:
                    if self._stopped.is_set():
                        return
                    for piece in _pieces_of(event, thoughts):
                        ended = ended or bool(piece.finish_reason)
                        self._arrived.put(piece)
            if not ended:
                raise ServerUnreachable(
                    f"The server at {self._address.place} broke off in the middle of an answer. "
                    "Ask again; its own log says why."
                )
            self._arrived.put(None)
        except Exception as error:  # whatever it was, the reader must hear of it
            self._arrived.put(translated(error, self._address))


class Echo:
    """Takes away the beginning of an answer that some servers repeat when they continue it."""

    def __init__(self, prefix: str) -> None:
        self._prefix, self._held, self._over = prefix, "", not prefix

    def push(self, text: str) -> str:
        if self._over:
            return text
        self._held += text
        if self._held.startswith(self._prefix):
            self._over = True
            return self._held[len(self._prefix) :]
        if self._prefix.startswith(self._held):
            return ""
        self._over = True
        return self._held

    def rest(self) -> str:
        return "" if self._over else self._held


class _Thoughts:
    """Puts what a server sends as reasoning into the text, marked as these models mark it."""

    def __init__(self) -> None:
        self._open = False

    def text(self, reasoning: str, content: str) -> str:
        parts = []
        if reasoning:
            parts.append(reasoning if self._open else f"<think>\n{reasoning}")
            self._open = True
        if content:
            parts.append(f"\n</think>\n\n{content}" if self._open else content)
            self._open = False
        return "".join(parts)


def _pieces_of(event: Any, thoughts: _Thoughts) -> Iterator[Piece]:
    """A server-sent event as pieces: chat and plain completions, each server's own spelling."""
    for choice in event.choices or ():
        delta = getattr(choice, "delta", None)
        if delta is None:
            text = getattr(choice, "text", None) or ""
        else:
            extra = delta.model_extra or {}
            reasoning = extra.get("reasoning_content") or extra.get("reasoning") or ""
            text = thoughts.text(str(reasoning), delta.content or "")
        if text or choice.finish_reason:
            yield Piece(text, choice.finish_reason or "")
    if event.usage is not None:
        details = getattr(event.usage, "prompt_tokens_details", None)
        reused = getattr(details, "cached_tokens", None) or 0
        yield Piece(
            usage=Usage(event.usage.prompt_tokens or 0, reused, event.usage.completion_tokens or 0)
        )
