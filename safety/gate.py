"""The valve on a growing reply: nothing passes before it was judged.

Released text is a prefix, character for character, of the pushed text. The gate holds no thread
and no clock of its own: `push` judges when it is time to and returns what may be shown.

When it judges (mode `strict`): at the first sentence end or after `first_tokens`; then at sentence
ends, at least `min_tokens` apart, and at the latest every `every_tokens`; and once more at the end.
Mode `sentence` waits for sentence ends (at most `longest_tokens`), `whole` for the end.

Two steps against single spikes: a check that says block closes the gate at once if it is sure
(`sure` or higher), if the judge failed, or if it is the last; otherwise everything since the last
clean check stays held, and the next check decides. A word that is still growing is not released,
so that half a word never passes.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from safety.base import Verdict
from safety.policy import Decision

Mode = Literal["strict", "sentence", "whole"]
MODES: tuple[Mode, ...] = get_args(Mode)
Judge = Callable[[str], Decision]

# An end mark, closing quotes or brackets, then white space (not needed after Chinese marks), or
# an empty line. Judging too often costs time only, so "e.g. this" may count as an end.
_SENTENCE_END = re.compile(r"[.!?…]+[\"')\]»”’*_]*(?=\s)\s?|[。！？；]+[”’」』）]*|\n\s*\n")
_GROWING_WORD = re.compile(r"[^\s\u2e80-\u9fff\uac00-\ud7af\u3000-\u303f\uff00-\uffef]{1,40}\Z")


@dataclass(frozen=True, slots=True)
class Release:
    """Text that may be shown (maybe empty) and the decision that let it through, or ended it."""

    text: str
    decision: Decision


@dataclass(frozen=True, slots=True)
class Check:
    """One judgement of the reply up to `upto_char`; `final` marks the whole text's."""

    decision: Decision
    upto_char: int
    seconds: float
    final: bool = False


class Gate:
    """One reply's valve. Not safe to share between threads; made new for every reply.

    `judge` gets the whole reply so far (with `already`, the text that a continued reply begins
    with) and must give a `Decision`; if it raises, that is a block. After a block `closed` is
    true and nothing comes out any more. `released` is all that was let through. What was held at
    a block is dropped, unless `keeps_withheld` asks for it to stay in `withheld`.
    """

    def __init__(
        self,
        judge: Judge,
        *,
        mode: Mode = "strict",
        already: str = "",
        first_tokens: int = 10,
        min_tokens: int = 8,
        every_tokens: int = 32,
        longest_tokens: int = 128,
        sure: float = 0.85,
        keeps_withheld: bool = False,
    ) -> None:
        self._judge = judge
        self._mode = mode
        self._first_tokens = first_tokens
        self._min_tokens = min_tokens
        self._every_tokens = every_tokens if mode == "strict" else longest_tokens
        self._sure = sure
        self._text = already
        self._start = len(already)
        self._released_upto = len(already)
        self._checked_upto = len(already)
        self._tokens_since_check = 0
        self._suspicious = False
        self._finished = False
        self._keeps_withheld = keeps_withheld
        self.withheld = ""
        self.closed = False
        self.checks: list[Check] = []

    @property
    def released(self) -> str:
        """What was let through, without `already`."""
        return self._text[self._start : self._released_upto]

    @property
    def num_held_chars(self) -> int:
        """Characters that wait for a judgement."""
        return 0 if self.closed else len(self._text) - self._released_upto

    @property
    def final(self) -> Check | None:
        """The last word on the reply: the whole text's check, or the one that closed the gate."""
        return self.checks[-1] if self.checks and (self._finished or self.closed) else None

    def push(self, text: str, num_tokens: int = 1) -> Sequence[Release]:
        """Add generated text; give what may be shown now. Blocks while the judge works."""
        if self.closed or self._finished:
            return ()
        self._text += text
        self._tokens_since_check += num_tokens
        upto = self._due()
        return () if upto is None else self._check(upto)

    def finish(self) -> Sequence[Release]:
        """Judge the whole reply and release the rest, or end it. Later calls give nothing."""
        if self.closed or self._finished:
            return ()
        self._finished = True
        return self._check(len(self._text), final=True)

    def _due(self) -> int | None:
        """Up to which character to judge now, or None."""
        if self._mode == "whole" or len(self._text) == self._checked_upto:
            return None
        first = not self.checks
        waited = self._tokens_since_check
        if waited >= (1 if first else self._min_tokens):
            ends = [m.end() for m in _SENTENCE_END.finditer(self._text, self._checked_upto)]
            if ends and self._text[self._checked_upto : ends[-1]].strip():
                return ends[-1]
        limit = self._first_tokens if first and self._mode == "strict" else self._every_tokens
        return len(self._text) if waited >= limit else None

    def _check(self, upto: int, *, final: bool = False) -> Sequence[Release]:
        decision = self._decide(upto, final)
        self._tokens_since_check = 0
        self._checked_upto = upto
        if decision.blocks:
            certain = final or bool(decision.failed) or decision.score >= self._sure
            if certain or self._suspicious:
                return self._close(decision)
            self._suspicious = True
            return ()
        self._suspicious = False
        return self._release(upto, decision, final)

    def _decide(self, upto: int, final: bool) -> Decision:
        started = time.perf_counter()
        try:
            decision = self._judge(self._text[:upto])
            if not isinstance(decision, Decision):
                raise TypeError("no decision")
        except Exception as error:  # fail closed: a judge that cannot judge is a block
            reason = f"The check stopped with {type(error).__name__}."
            verdict = Verdict.failure(reason, guard="gate")
            decision = Decision("block", "", 1.0, 0.0, reason, verdict)
        seconds = time.perf_counter() - started
        self.checks.append(Check(decision, upto, seconds, final))
        return decision

    def _release(self, upto: int, decision: Decision, final: bool) -> Sequence[Release]:
        if not final and upto == len(self._text):
            growing = _GROWING_WORD.search(self._text, self._released_upto, upto)
            upto = growing.start() if growing else upto
        if upto <= self._released_upto and not final:
            return ()
        text = self._text[self._released_upto : upto]
        self._released_upto = max(upto, self._released_upto)
        return (Release(text, decision),)

    def _close(self, decision: Decision) -> Sequence[Release]:
        """Shut for good. Held text is dropped here, so that nobody can read it from the gate."""
        self.closed = True
        if self._keeps_withheld:
            self.withheld = self._text[self._released_upto :]
        self._text = self._text[: self._released_upto]
        return (Release("", decision),)
