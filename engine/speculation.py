"""Guesses at what a row writes next, from what it has read and written: prompt lookup.

Where the latest tokens have stood before, those that followed are proposed, and one pass verifies
them all: the row draws from the model's logits at each place as it would alone, and goes on as long
as the draw is what was proposed. So an answer is never another one, greedy or seeded; only the
rounding of a wider pass differs, as in a batch (in float32 on the CPU it changes no token).

A wider pass costs more. Proposals grow while they come true; one that fails halves the next and
adds a pause that doubles, so that text which repeats nothing is hardly slowed.
"""

from __future__ import annotations

from collections.abc import Sequence

MOST = 15  # tokens of a proposal
_KEY = 3  # tokens that must agree
_FIRST = 4
_LONGEST_PAUSE = 64  # steps


class Lookup:
    """The proposals of one row."""

    def __init__(self) -> None:
        self._follows: dict[tuple[int, ...], int] = {}  # the latest place behind these tokens
        self._num_seen = 0
        self._length, self._pause, self._left = _FIRST, 0, 0

    def propose(self, tokens: Sequence[int], most: int) -> list[int]:
        """At most `most` tokens that may follow `tokens`; [] where nothing is known."""
        self._note(tokens)
        if self._left > 0:
            self._left -= 1
            return []
        at = self._follows.get(tuple(tokens[-_KEY:]))
        if at is None:
            return []
        num = max(0, min(self._length, most))
        period = len(tokens) - at  # what follows may be shorter: then it is taken to go round
        return [tokens[at + place % period] for place in range(num)]

    def learn(self, num_proposed: int, num_right: int) -> None:
        """How many of the proposal came true."""
        if num_right == num_proposed:
            self._length, self._pause = min(2 * self._length, MOST), 0
        elif 2 * num_right < num_proposed:
            self._length = max(1, self._length // 2)
            self._pause = min(max(4, 2 * self._pause), _LONGEST_PAUSE)
            self._left = self._pause

    def _note(self, tokens: Sequence[int]) -> None:
        """Remember where each run of tokens is followed by another; not the latest run itself."""
        for end in range(max(self._num_seen, _KEY), len(tokens)):
            self._follows[tuple(tokens[end - _KEY : end])] = end
        self._num_seen = len(tokens)
