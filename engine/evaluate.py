"""How well a model predicts given replies: bits per byte of the assistant's turns.

Smaller is better; 8 is a model that knows nothing. Counting by byte makes models with different
vocabularies comparable. Only the text of the replies is counted, not the token that ends a turn.
"""

from __future__ import annotations

import json
import lzma
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from engine.base import Message, Role, TokenScores

_ROLES = ("system", "user", "assistant")  # what a tool gave cannot be scored without its call


class RowsInvalid(ValueError):
    """A file of conversations or messages is not what it should be. `str(error)` says where."""


class Scorer(Protocol):
    """What is needed of an engine."""

    def score(self, ids_or_text: Sequence[int] | str) -> TokenScores:
        """As `Engine.score`."""
        ...


class Renderer(Protocol):
    """What is needed of a chat format."""

    def render(self, messages: Sequence[Message], reply_prefix: str = "") -> list[int]:
        """As `ChatFormat.render`."""
        ...


@dataclass(frozen=True, slots=True)
class Score:
    """Sums over replies. `num_cut` replies (or ends of them) lay beyond the context."""

    bits: float = 0.0
    num_bytes: int = 0
    num_replies: int = 0
    num_cut: int = 0

    @property
    def bits_per_byte(self) -> float:
        return self.bits / self.num_bytes if self.num_bytes else math.nan

    def __add__(self, other: Score) -> Score:
        return Score(
            self.bits + other.bits,
            self.num_bytes + other.num_bytes,
            self.num_replies + other.num_replies,
            self.num_cut + other.num_cut,
        )


def score_conversation(
    scorer: Scorer, form: Renderer, messages: Sequence[Message], *, context_length: int
) -> Score:
    """The score of all replies in one conversation, read in as few passes as its form allows."""
    total, done = Score(), len(messages)
    while done > 0:
        last = max((i for i in range(done) if messages[i]["role"] == "assistant"), default=-1)
        if last < 0:
            break
        ids = _spelled(form, messages, last)
        spans = [_span(form, messages, last, len(ids))]
        done = last
        # Earlier replies whose prompt is a beginning of this one are scored in the same pass.
        for i in range(last - 1, -1, -1):
            if messages[i]["role"] != "assistant":
                continue
            earlier = _spelled(form, messages, i)
            if ids[: len(earlier)] != earlier:
                break
            spans.append(_span(form, messages, i, len(earlier)))
            done = i
        total += _sum(scorer.score(ids[:context_length]), spans)
    return total


def _spelled(form: Renderer, messages: Sequence[Message], i: int) -> list[int]:
    """Ids of everything up to the end of reply `i`, without the end of its turn."""
    return form.render(messages[:i], messages[i]["content"].strip())


def _span(form: Renderer, messages: Sequence[Message], i: int, end: int) -> tuple[int, int, int]:
    """(first token, end, bytes of the text) of reply `i`."""
    size = len(messages[i]["content"].strip().encode("utf-8", "replace"))
    return len(form.render(messages[:i])), end, size


def _sum(scores: TokenScores, spans: Iterable[tuple[int, int, int]]) -> Score:
    total = Score()
    for start, end, size in spans:
        cut = end > len(scores.ids)
        nats = -math.fsum(scores.logprobs[start:end])
        size = sum(scores.num_bytes[start:end]) if cut else size
        total += Score(nats / math.log(2), size, 1, int(cut))
    return total


def read_conversations(path: Path) -> Iterator[list[Message]]:
    """The `messages` of each line of a `.jsonl` file (`.xz` too). Raises `RowsInvalid`."""
    opened = lzma.open if path.suffix == ".xz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _messages_of(json.loads(line), f"{path}, line {number}")
    except OSError as error:
        raise RowsInvalid(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError, lzma.LZMAError, EOFError) as error:
        if isinstance(error, RowsInvalid):
            raise
        raise RowsInvalid(f"{path} is not a file of JSON lines: {error}.") from error


def read_messages(path: Path) -> list[Message]:
    """One conversation: a list of messages, or an object with `messages`. Raises `RowsInvalid`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RowsInvalid(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise RowsInvalid(f"{path} is not JSON: {error}.") from error
    return _messages_of(content, str(path))


def _messages_of(content: Any, where: str) -> list[Message]:
    rows = content.get("messages") if isinstance(content, dict) else content
    if not isinstance(rows, list) or not rows:
        raise RowsInvalid(f'{where}: a list of {{"role", "content"}} was expected.')
    messages: list[Message] = []
    for row in rows:
        role, text = (
            (row.get("role"), row.get("content")) if isinstance(row, dict) else (None, None)
        )
        if role not in _ROLES or not isinstance(text, str):
            raise RowsInvalid(
                f"{where}: every message needs a role (system, user or assistant) and a text as "
                "content."
            )
        messages.append({"role": cast(Role, role), "content": text})
    return messages
