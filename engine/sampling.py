"""Logits → one token.

Order, as in transformers: penalties and bias, form, temperature, top-k, top-p, min-p. All filters
keep a front of the tokens sorted by probability, so what cannot stay is thrown away first and only
the rest is sorted. The row is worked on by numpy: for a single row torch's top-k and sort take
several times as long (4,096 to 128,256 tokens on one core).

A draw depends on the seed, the number of draws before it and the logits, on nothing else.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from engine.base import Sampling, TokenLogprob
from engine.constraint import Constraint
from engine.errors import CheckpointBroken

Row = NDArray[np.float32]  # (V,) or a selection (n,)
Ids = NDArray[np.intp]  # (n,)


class Sampler:
    """Draws the tokens of one reply."""

    def __init__(
        self,
        sampling: Sampling,
        seed: int,
        vocab_size: int,
        *,
        text_of: Callable[[int], str] = lambda _id: "",
        constraint: Constraint | None = None,
    ) -> None:
        """`vocab_size` is that of the logits; `text_of` names tokens in log-probabilities."""
        self._constraint = constraint
        self._sampling = sampling
        self._text_of = text_of
        self._random = random.Random(seed)
        self._penalties = _Penalties(sampling, vocab_size)
        bias = {id: value for id, value in sampling.logit_bias.items() if 0 <= id < vocab_size}
        self._bias_ids = np.array(list(bias), dtype=np.intp)
        self._bias = np.array(list(bias.values()), dtype=np.float32)

    @property
    def complete(self) -> bool:
        """Whether the form that the reply must have allows no further token."""
        return self._constraint is not None and self._constraint.complete

    def draw(self, logits: Tensor, history: Sequence[int]) -> tuple[int, TokenLogprob | None]:
        """The next token for `logits` (V,), with its log-probability if that was asked for.

        `history` is the reply so far: penalties apply to it and not to the prompt, whose words a
        good answer repeats. Log-probabilities are those of the model, before penalties and
        temperature. Raises `CheckpointBroken` if the logits hold NaN or +inf, or only -inf, and
        `FormInvalid` where the form that the reply must have cannot be followed.
        """
        raw: Row = logits.detach().float().cpu().numpy()
        row = self._penalties.applied(raw, history)
        if self._bias_ids.size:
            row = row.copy() if row is raw else row
            row[self._bias_ids] += self._bias
        if self._constraint is not None:
            row = np.where(self._constraint.allowed(), row, np.float32(-np.inf))
        id = int(row.argmax())  # the first NaN, if there is one
        highest = float(row[id])
        if not math.isfinite(highest):
            raise CheckpointBroken(
                "The model computed no usable numbers for the next token (NaN or infinity). Its "
                "weights are damaged, or the chosen precision is too small for them: try another "
                "precision, or download the model again."
            )
        if self._sampling.temperature > 0:
            id = self._drawn(row, highest)
        if self._constraint is not None:
            self._constraint.take(id)
        return id, self._logprob(raw, id) if self._sampling.num_logprobs else None

    def _drawn(self, row: Row, highest: float) -> int:
        """Draw by inverting the cumulated weights of the tokens that the filters keep."""
        ids, weights = self._kept(row, highest)
        cumulated = weights.cumsum(dtype=np.float64)
        target = self._random.random() * cumulated[-1]
        at = min(int(cumulated.searchsorted(target, side="right")), weights.size - 1)
        return at if ids is None else int(ids[at])

    def _kept(self, row: Row, highest: float) -> tuple[Ids | None, Row]:
        """What the filters keep: ids (n,), None for all, and weights (n,); the best weighs 1."""
        options = self._sampling
        ids: Ids | None = None
        if 0 < options.top_k < row.size:
            ids = _heaviest(row, options.top_k)
            row = row[ids]
        scale = np.float32(min(1 / options.temperature, 1e6))  # 0 × infinity is not a number
        weights = np.exp((row - highest) * scale)
        total, least = float(weights.sum()), options.min_p
        if options.top_p < 1:
            # All tokens lighter than this weigh together at most what top-p leaves out anyway.
            least = max(least, (1 - options.top_p) * total / weights.size)
        if least > 0:
            front = np.flatnonzero(weights >= min(least, 1.0))
            ids, weights = (front if ids is None else ids[front]), weights[front]
        if options.top_p < 1 and ids is not None:
            falling = np.sort(weights)[::-1]
            before = falling.cumsum(dtype=np.float64) - falling
            keep = max(int(before.searchsorted(options.top_p * total)), 1)
            front = _heaviest(weights, keep)
            ids, weights = ids[front], weights[front]
        return ids, weights

    def _logprob(self, row: Row, id: int) -> TokenLogprob:
        highest = row.max()
        norm = float(highest) + math.log(float(np.exp(row - highest).sum(dtype=np.float64)))
        best = _heaviest(row, self._sampling.num_logprobs)
        best = best[np.argsort(-row[best], kind="stable")]
        alternatives = tuple((i, self._text_of(i), float(row[i]) - norm) for i in best.tolist())
        return TokenLogprob(id, self._text_of(id), float(row[id]) - norm, alternatives)


def _heaviest(values: Row, num: int) -> Ids:
    """Where the `num` highest values stand, in rising order; of equal ones the first."""
    if num >= values.size:
        return np.arange(values.size)
    least = np.partition(values, values.size - num)[values.size - num]
    places = np.flatnonzero(values >= least)
    if places.size > num:
        ties = np.flatnonzero(values[places] == least)
        places = np.delete(places, ties[num - places.size :])
    return places


class _Penalties:
    """Counts the reply's tokens as it grows and lowers their logits."""

    def __init__(self, sampling: Sampling, vocab_size: int) -> None:
        self._repetition = np.float32(sampling.repetition_penalty)
        self._presence = np.float32(sampling.presence_penalty)
        self._frequency = np.float32(sampling.frequency_penalty)
        self._active = bool(self._repetition != 1 or self._presence or self._frequency)
        self._counts = np.zeros(vocab_size if self._active else 0, dtype=np.float32)
        self._seen: Ids = np.zeros(0, dtype=np.intp)
        self._num_counted = 0

    def applied(self, row: Row, history: Sequence[int]) -> Row:
        """`row` itself where nothing applies, else a changed copy.

        Repetition as in transformers (divides positive logits, multiplies negative ones);
        presence and frequency as in the OpenAI API (subtracted).
        """
        if not self._active or not history:
            return row
        self._count(history)
        seen = self._seen
        values = row[seen]
        values = np.where(values > 0, values / self._repetition, values * self._repetition)
        row = row.copy()
        row[seen] = values - self._presence - self._frequency * self._counts[seen]
        return row

    def _count(self, history: Sequence[int]) -> None:
        """Count what is new; all of it if the history became shorter."""
        if len(history) < self._num_counted:
            self._counts[:] = 0
            self._seen, self._num_counted = self._seen[:0], 0
        added = [id for id in history[self._num_counted :] if 0 <= id < self._counts.size]
        fresh = list(dict.fromkeys(id for id in added if not self._counts[id]))
        np.add.at(self._counts, added, 1)
        if fresh:
            self._seen = np.concatenate([self._seen, np.array(fresh, dtype=np.intp)])
        self._num_counted = len(history)
