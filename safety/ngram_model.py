"""The part of the bundled guard that knows words: a small network over hashed n-grams, in numpy.

A text becomes two bags of hashed features (words, letters: `ngrams`). Features that training saw
too rarely are dropped by a filter of bits; the rest fall into buckets. Each bucket has a vector and
a weight; a bag is the weighted mean of its vectors, so telling buckets count more than common ones.
One layer over the bags of the text and, for a reply, of the prompt it answers gives the scores.

Letters: N buckets, D width of a vector, H width of the layer, C categories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from safety.base import GuardBroken
from safety.ngrams import Hashes, features

Array = npt.NDArray[np.float32]
Tensors = Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class NgramConfig:
    """Shape of the network."""

    num_buckets: int
    filter_bits: int  # a multiple of 8
    dim: int
    hidden: int
    num_categories: int


@dataclass(frozen=True, slots=True)
class Scores:
    """What a model says of one text: two logits, and a logit for each category."""

    unsafe: float
    advice: float  # S6, from a head of its own
    categories: Array  # (C,)


class NgramModel:
    """The network with its weights. Safe to call from several threads."""

    def __init__(self, config: NgramConfig, tensors: Tensors) -> None:
        """Raises `GuardBroken` if a tensor is missing or has another shape or type."""
        self._num_buckets = config.num_buckets
        self._known = _tensor(tensors, "known", (config.filter_bits // 8,), np.uint8)
        n, d, h, c = config.num_buckets, config.dim, config.hidden, config.num_categories
        self._dim = d
        self._vectors = _tensor(tensors, "vectors", (n, d), np.int8)
        self._vector_scale = _floats(tensors, "vector_scale", (d,))
        self._weights = _floats(tensors, "weights", (n,))
        self._hidden = _floats(tensors, "hidden.weight", (h, 4 * d + 2))
        self._hidden_bias = _floats(tensors, "hidden.bias", (h,))
        self._unsafe = _floats(tensors, "unsafe.weight", (1, h))
        self._unsafe_bias = _floats(tensors, "unsafe.bias", (1,))
        self._category = _floats(tensors, "category.weight", (c, h))
        self._category_bias = _floats(tensors, "category.bias", (c,))
        self._advice = _floats(tensors, "advice.weight", (1, h))
        self._advice_bias = _floats(tensors, "advice.bias", (1,))
        self._asked: tuple[str, Array] = ("", self._bags(""))  # the newest prompt and its bags

    def score(self, texts: Sequence[str], asked: str, *, is_reply: bool) -> list[Scores]:
        """Judge each of `texts`; `asked` is the prompt that a reply answers, else empty."""
        known, beside = self._asked
        if known != asked:  # a reply is judged many times beside the same prompt
            beside = self._bags(asked)
            self._asked = (asked, beside)
        return [self._scores(self._bags(text), beside, is_reply=is_reply) for text in texts]

    def _scores(self, bags: Array, asked: Array, *, is_reply: bool) -> Scores:
        """The scores of a text by its own bags and those of the prompt, each (2D,)."""
        role = np.array([1.0, 0.0] if is_reply else [0.0, 1.0], np.float32)
        inputs = np.concatenate((bags, asked, role))  # (4D + 2,)
        hidden = _gelu(self._hidden @ inputs + self._hidden_bias)  # (H,)
        unsafe = self._unsafe @ hidden + self._unsafe_bias
        advice = self._advice @ hidden + self._advice_bias
        categories = self._category @ hidden + self._category_bias
        return Scores(float(unsafe[0]), float(advice[0]), categories)

    def _bags(self, text: str) -> Array:
        """The two bags of a text, (2D,): zeros where there is no feature."""
        hashes = (known(h, self._known) for h in features(text))
        return np.concatenate([self._bag(buckets_of(h, self._num_buckets)) for h in hashes])

    def _bag(self, buckets: npt.NDArray[np.int64]) -> Array:
        if not len(buckets):
            return np.zeros(self._dim, np.float32)
        weights = self._weights[buckets]
        mean = weights @ self._vectors[buckets].astype(np.float32) / weights.sum()
        return np.asarray(mean * self._vector_scale, np.float32)


def known(hashes: Hashes, bits: npt.NDArray[np.generic]) -> Hashes:
    """Those of `hashes` whose bit is set in the filter `bits`, (number of bits / 8,) uint8."""
    places = filter_places(hashes, 8 * len(bits))
    is_set = (bits[places >> 3].astype(np.int64) >> (places & 7)) & 1 == 1
    return np.asarray(hashes[is_set], np.uint64)


def filter_places(hashes: Hashes, num_bits: int) -> npt.NDArray[np.int64]:
    """Which bit of the filter stands for each hash: from its upper half."""
    return ((hashes >> np.uint64(32)) % np.uint64(num_bits)).astype(np.int64)


def buckets_of(hashes: Hashes, num_buckets: int) -> npt.NDArray[np.int64]:
    """The bucket of each hash, from its lower half, each once."""
    lower = hashes & np.uint64(0xFFFFFFFF)
    return np.unique((lower % np.uint64(num_buckets)).astype(np.int64))


def _tensor(
    tensors: Tensors, name: str, shape: tuple[int, ...], dtype: type[np.generic]
) -> npt.NDArray[np.generic]:
    tensor = tensors.get(name)
    if tensor is None or tensor.shape != shape or tensor.dtype != dtype:
        found = "nothing" if tensor is None else f"{tensor.dtype}{tensor.shape}"
        raise GuardBroken(f"The guard's {name} should be {np.dtype(dtype)}{shape}; found {found}.")
    return tensor


def _floats(tensors: Tensors, name: str, shape: tuple[int, ...]) -> Array:
    stored = tensors.get(name)
    dtype = np.float16 if stored is not None and stored.dtype == np.float16 else np.float32
    array = _tensor(tensors, name, shape, dtype).astype(np.float32)
    if not np.isfinite(array).all():
        raise GuardBroken(f"The guard's {name} has values that are no numbers.")
    return array


def _gelu(x: Array) -> Array:
    """The tanh form of GELU, as torch's `gelu(approximate="tanh")`."""
    return np.asarray(0.5 * x * (1 + np.tanh(0.7978846 * (x + 0.044715 * x**3))), np.float32)
