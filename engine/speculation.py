"""Guesses at what a row writes next, from what it has read and written, and whether they pay.

Where the latest tokens have stood before, those that followed are proposed (prompt lookup; a draft
model may guess where there are none, see `engine/draft.py`), and one pass verifies them all: the
row draws from the model's logits at each place as it would alone, and goes on as long as the draw
is what was proposed. So an answer is never another one, greedy or seeded; only the rounding of a
wider pass differs, as in a batch (in float32 on the CPU it changes no token).

A wider pass costs more. Proposals grow while they come true; one that fails halves the next and
adds a pause that doubles, so that text which repeats nothing is hardly slowed. Where wider passes
do not pay at all, they rest (`Worth`).
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence

MOST = 15  # tokens of a proposal
_KEY = 3  # tokens that must agree
_FIRST = 3  # and always one less than a multiple of four: kernels multiply four rows at a time
_LONGEST_PAUSE = 64  # steps
_TRIAL = 5  # wider passes, after which it is asked whether they pay
_HELD_UP = 1.5  # times the median: what a pass in a trial took beyond that is not counted
_REMEMBERED = 9  # plain passes
_FIRST_REST, _LONGEST_REST = 32, 1024  # passes without any, after a trial that did not


class Eagerness:
    """How many tokens to propose for one row: more after success, fewer and rarely after none."""

    def __init__(self) -> None:
        self._length, self._pause, self._left = _FIRST, 0, 0

    def num(self) -> int:
        """How many now; 0 in a pause. Ask once before each pass."""
        if self._left > 0:
            self._left -= 1
            return 0
        return self._length

    def learn(self, num_proposed: int, num_right: int) -> None:
        """How many of a proposal came true."""
        if num_right == num_proposed:
            self._length, self._pause = min(2 * self._length + 1, MOST), 0
        elif 2 * num_right < num_proposed:
            self._length = max(1, self._length // 2)
            self._pause = min(max(4, 2 * self._pause), _LONGEST_PAUSE)
            self._left = self._pause


class Lookup:
    """The proposals of one row."""

    def __init__(self) -> None:
        self._follows: dict[tuple[int, ...], int] = {}  # the latest place behind these tokens
        self._num_seen = 0
        self._eagerness = Eagerness()

    def propose(self, tokens: Sequence[int], most: int) -> list[int]:
        """At most `most` tokens that may follow `tokens`; [] where nothing is known."""
        self._note(tokens)
        num = min(self._eagerness.num(), most)
        at = self._follows.get(tuple(tokens[-_KEY:]))
        if at is None or num <= 0:
            return []
        period = len(tokens) - at  # what follows may be shorter: then it is taken to go round
        return [tokens[at + place % period] for place in range(num)]

    def learn(self, num_proposed: int, num_right: int) -> None:
        """How many of the proposal came true."""
        self._eagerness.learn(num_proposed, num_right)

    def _note(self, tokens: Sequence[int]) -> None:
        """Remember where each run of tokens is followed by another; not the latest run itself."""
        for end in range(max(self._num_seen, _KEY), len(tokens)):
            self._follows[tuple(tokens[end - _KEY : end])] = end
        self._num_seen = len(tokens)


class Worth:
    """Whether wider passes pay on this machine: tokens over time, against plain passes.

    A small model computes as long as it reads its weights, and every guess costs as much as a
    token; a large one waits for memory, and guesses are nearly free. So it is measured: a few
    passes on trial, and if they were slower a rest, twice as long each time. A pass that another
    program held up decides nothing.
    """

    def __init__(self) -> None:
        self._plain: deque[float] = deque(maxlen=_REMEMBERED)  # seconds per token
        self._trial: list[tuple[int, float]] = []  # tokens and seconds of each wider pass
        self._rest, self._next_rest = 0, _FIRST_REST

    def allows(self) -> bool:
        """Ask once before each pass."""
        self._rest = max(0, self._rest - 1)
        return not self._rest and bool(self._plain)

    def record(self, num_tokens: int, seconds: float, *, guessed: bool) -> None:
        """A pass that wrote `num_tokens`."""
        if not guessed:
            self._plain.append(seconds / num_tokens)
            return
        self._trial.append((num_tokens, seconds))
        if len(self._trial) < _TRIAL or not self._plain:
            return
        most = _HELD_UP * statistics.median(seconds for _, seconds in self._trial)
        took = sum(min(seconds, most) for _, seconds in self._trial)
        num = sum(written for written, _ in self._trial)
        self._trial = []
        if took > num * statistics.median(self._plain):
            self._rest, self._next_rest = self._next_rest, min(2 * self._next_rest, _LONGEST_REST)
        else:
            self._next_rest = _FIRST_REST
