"""One call of the API, from prompt to reply: judge → stream → gate, as a turn of the page goes.

Nothing is stored here. What the client wrote is judged whole, every message of it, because no
earlier turn was; the reply passes the same gate as on the page, and what the gate holds back is
held back with its log-probabilities.

Several replies to one prompt are written side by side, and the prompt is read once for all of them.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Event, Lock
from typing import Literal

from app.judging import judged_code, reply_decision
from engine.base import Chunk, Engine, Prompt, Sampling, TokenLogprob
from safety.base import Guard
from safety.code_check import Look
from safety.gate import Gate, Mode, Release
from safety.policy import Decision, Policy
from storage.records import Stage, VerdictRecord

Finish = Literal["", "stop", "length", "content_filter"]
MAX_REMEMBERED = 4_096


@dataclass(frozen=True, slots=True)
class Asked:
    """One reply that is wanted. `written` is what the client wrote, in parts, the last one last."""

    prompt: Prompt
    sampling: Sampling
    written: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a reply. The last one has `finish`; counts are totals so far."""

    text: str = ""
    tokens: tuple[TokenLogprob, ...] = ()
    finish: Finish = ""
    num_prompt: int = 0
    num_new: int = 0
    seed: int = 0
    decision: Decision | None = None  # the last word on the whole reply
    code: VerdictRecord | None = None  # what was found in the code of the whole reply


Note = Callable[[Stage, str, Decision], None]
"""Hears of a judgement: of what, on which text, what was decided."""


def _unnoted(stage: Stage, text: str, decision: Decision) -> None:
    """Where nobody keeps a log."""


class Remembered:
    """Texts that were let through under a policy, by digest: a conversation is sent again whole.

    Only passes are kept, never texts. Safe from several threads.
    """

    def __init__(self) -> None:
        self._passed: OrderedDict[bytes, None] = OrderedDict()
        self._lock = Lock()

    def passes(self, text: str, guard: Guard, policy: Policy) -> bool:
        """Whether the policy lets `text` through as a prompt. Blocks while the guard judges."""
        decision = self.judged(text, guard, policy)
        return decision is None or not decision.blocks

    def judged(self, text: str, guard: Guard, policy: Policy) -> Decision | None:
        """What the policy says of `text` as a prompt; None if it was let through before. Blocks."""
        named = "\0".join((guard.name, guard.version, policy.version, text))
        key = hashlib.sha256(named.encode("utf-8", "surrogatepass")).digest()
        with self._lock:
            if key in self._passed:
                self._passed.move_to_end(key)
                return None
        decision = policy.decide(guard.judge(text), "prompt")
        if decision.blocks:
            return decision
        with self._lock:
            self._passed[key] = None
            while len(self._passed) > MAX_REMEMBERED:
                self._passed.popitem(last=False)
        return decision


def answers(
    each: Sequence[Asked],
    engine: Engine,
    guard: Guard,
    policy: Policy,
    *,
    remembered: Remembered,
    cancel: Event,
    look: Look | None = None,
    mode: Mode = "strict",
    note: Note = _unnoted,
    scope: str = "",
) -> Iterator[tuple[int, Piece]]:
    """Yield replies to one prompt with their numbers, each as it passes its gate.

    `each` differ in sampling alone. `scope` is what replies share the prompt's keys and values
    under; it is forgotten at the end. The first piece of a reply comes, without text, as soon as
    the engine has taken the prompt. `note` hears of every judgement: of texts that were not judged
    before, and of whole replies. Blocks in between. Raises `EngineError`.
    """
    written = each[0].written
    for text in filter(str.strip, written):
        if (decided := remembered.judged(text, guard, policy)) is not None:
            note("prompt", text, decided)
            if decided.blocks:
                yield from ((at, Piece(finish="content_filter")) for at in range(len(each)))
                return

    def judge(reply_so_far: str) -> Decision:
        return reply_decision(guard, policy, written[-1], reply_so_far, look)

    def last_word(gate: Gate) -> VerdictRecord | None:
        code = judged_code(gate.released, policy, look)
        if code:
            note("code", gate.released, code[0])
        if gate.final and gate.final.decision:
            note("final", gate.released, gate.final.decision)
        return code[1] if code else None

    streams: list[Iterator[Chunk]] = []
    try:
        for asked in each:
            streams.append(engine.stream(asked.prompt, asked.sampling, cancel=cancel, scope=scope))
        gates = [Gate(judge, mode=mode) for _ in streams]
        replies = zip(streams, gates, strict=True)
        yield from _in_turn([_gated(stream, gate, cancel, last_word) for stream, gate in replies])
    finally:
        for stream in streams:
            _close(stream)
        if scope:
            engine.forget(scope)


def _in_turn(replies: Sequence[Iterator[Piece]]) -> Iterator[tuple[int, Piece]]:
    """A piece of each reply after the other, with its number, until all have ended."""
    going = dict(enumerate(replies))
    while going:
        for number, reply in list(going.items()):
            if (piece := next(reply, None)) is None:
                del going[number]
            else:
                yield number, piece


def _gated(
    chunks: Iterator[Chunk],
    gate: Gate,
    cancel: Event,
    last_word: Callable[[Gate], VerdictRecord | None],
) -> Iterator[Piece]:
    """What `gate` lets pass of a reply; nothing at its end if it was cancelled.

    `last_word` judges the code of a whole reply and tells of it.
    """
    held = _HeldTokens()
    seen, num_new, last = False, 0, Chunk()
    for chunk in chunks:
        num_new += len(chunk.ids)
        last = chunk
        held.add(chunk)
        text = _joined(gate.push(chunk.text, len(chunk.ids)))
        if text or not seen:
            seen = True
            yield Piece(text, held.upto(len(gate.released)), "", chunk.num_prompt, num_new)
        if gate.closed:
            break
    _close(chunks)
    if cancel.is_set():
        return
    text = _joined(gate.finish())
    finish: Finish = "length" if last.finish_reason == "length" else "stop"
    if gate.closed:
        finish = "content_filter"
    tokens = () if gate.closed else held.upto(None)
    seed = last.statistics.seed if last.statistics else 0
    decision = gate.final.decision if gate.final else None
    found = last_word(gate)
    yield Piece(text, tokens, finish, last.num_prompt, num_new, seed, decision, found)


def _close(stream: Iterator[Chunk]) -> None:
    """Free the row at once."""
    if (close := getattr(stream, "close", None)) is not None:
        close()


class _HeldTokens:
    """Log-probabilities that wait until the text of their tokens was let through."""

    def __init__(self) -> None:
        self._num_chars = 0
        self._waiting: list[tuple[int, TokenLogprob]] = []  # (characters up to its end, token)

    def add(self, chunk: Chunk) -> None:
        self._num_chars += len(chunk.text)
        self._waiting += [(self._num_chars, token) for token in chunk.logprobs]

    def upto(self, num_chars: int | None) -> tuple[TokenLogprob, ...]:
        """Those whose text ends within the first `num_chars` characters (None: all)."""
        limit = self._num_chars if num_chars is None else num_chars
        num = sum(end <= limit for end, _ in self._waiting)
        ready, self._waiting = self._waiting[:num], self._waiting[num:]
        return tuple(token for _, token in ready)


def _joined(releases: Sequence[Release]) -> str:
    return "".join(release.text for release in releases)
