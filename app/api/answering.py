"""One call of the API, from prompt to reply: judge → stream → gate, as a turn of the page goes.

Nothing is stored here. What the client wrote is judged whole, every message of it, because no
earlier turn was; the reply passes the same gate as on the page, and what the gate holds back is
held back with its log-probabilities.
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
# Keys and values of a call are never kept: nobody could remove them, as there is no conversation.
SCOPE = ""


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


def answer(
    asked: Asked,
    engine: Engine,
    guard: Guard,
    policy: Policy,
    *,
    remembered: Remembered,
    cancel: Event,
    look: Look | None = None,
    mode: Mode = "strict",
    note: Note = _unnoted,
) -> Iterator[Piece]:
    """Yield the reply as it passes the gate. Blocks in between. Raises `EngineError`.

    The first piece comes, without text, as soon as the engine has taken the prompt. `note` hears of
    every judgement: of texts that were not judged before, and of the whole reply.
    """
    for text in filter(str.strip, asked.written):
        if (decided := remembered.judged(text, guard, policy)) is not None:
            note("prompt", text, decided)
            if decided.blocks:
                yield Piece(finish="content_filter")
                return

    def judge(reply_so_far: str) -> Decision:
        return reply_decision(guard, policy, asked.written[-1], reply_so_far, look)

    chunks = engine.stream(asked.prompt, asked.sampling, cancel=cancel, scope=SCOPE)
    gate, held = Gate(judge, mode=mode), _HeldTokens()
    seen, num_new, last = False, 0, Chunk()
    try:
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
    finally:
        if (close := getattr(chunks, "close", None)) is not None:
            close()  # frees the row at once
    if cancel.is_set():
        return
    text = _joined(gate.finish())
    finish: Finish = "length" if last.finish_reason == "length" else "stop"
    if gate.closed:
        finish = "content_filter"
    tokens = () if gate.closed else held.upto(None)
    seed = last.statistics.seed if last.statistics else 0
    decision = gate.final.decision if gate.final else None
    code = judged_code(gate.released, policy, look)
    found = code[1] if code else None
    if code:
        note("code", gate.released, code[0])
    if decision:
        note("final", gate.released, decision)
    yield Piece(text, tokens, finish, last.num_prompt, num_new, seed, decision, found)


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
