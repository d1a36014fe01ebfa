"""Hashed n-grams of words and letters: what the bundled guard sees of a text.

Words of Latin script give words, pairs, triples and pairs with a gap, and their letters in runs of
3 to 5; every Chinese character counts as a word of its own. A feature is a 64-bit hash, so there is
no vocabulary to keep. numpy alone.
"""

from __future__ import annotations

import re
import zlib

import numpy as np
import numpy.typing as npt

from safety.normalize import normalized

Hashes = npt.NDArray[np.uint64]

_CJK = "\u3400-\u4dbf\u4e00-\u9fff\u3040-\u30ff\uac00-\ud7af"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+(?:['’][^\W_{_CJK}]+)?|[?!]")
_PRIME = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: a common hash multiplier
_MIX = np.uint64(0xBF58476D1CE4E5B9)


def features(text: str) -> tuple[Hashes, Hashes]:
    """Hashes of the word n-grams and of the letter n-grams of `text`, each once, sorted."""
    plain = normalized(text)
    return _word_ngrams(plain), _letter_ngrams(plain)


def _word_ngrams(plain: str) -> Hashes:
    words = _WORD.findall(plain)
    if not words:
        return np.empty(0, np.uint64)
    one = np.array([zlib.crc32(word.encode()) for word in words], np.uint64) + np.uint64(1)
    runs = [one * _PRIME]
    if len(one) > 1:
        runs.append((one[:-1] * _PRIME + one[1:]) * _MIX + np.uint64(2))
    if len(one) > 2:
        runs.append(((one[:-2] * _PRIME + one[1:-1]) * _PRIME + one[2:]) * _MIX + np.uint64(3))
        runs.append((one[:-2] * _PRIME + one[2:]) * _MIX + np.uint64(4))
    return _mixed(np.concatenate(runs))


def _letter_ngrams(plain: str) -> Hashes:
    """Runs of 3 to 5 letters within a word, the spaces around it included; no Chinese."""
    padded = f" {plain} "
    points = np.frombuffer(padded.encode("utf-32-le", "surrogatepass"), np.uint32)
    codes = points.astype(np.uint64)
    barrier = (points >= 0x2E80).astype(np.int64)  # CJK: their words already are letters
    space = (points == 32).astype(np.int64)
    barriers = np.concatenate(([0], np.cumsum(barrier)))
    spaces = np.concatenate(([0], np.cumsum(space)))
    runs = []
    for length in (3, 4, 5):
        if len(codes) < length:
            break
        hashed = np.zeros(len(codes) - length + 1, np.uint64)
        for offset in range(length):
            hashed = hashed * _PRIME + codes[offset : len(codes) - length + 1 + offset]
        starts = np.arange(len(hashed))
        inner_spaces = spaces[starts + length - 1] - spaces[starts + 1]
        blocked = barriers[starts + length] - barriers[starts]
        keep = (inner_spaces == 0) & (blocked == 0)
        runs.append(hashed[keep] * _MIX + np.uint64(10 + length))
    return _mixed(np.concatenate(runs)) if runs else np.empty(0, np.uint64)


def _mixed(hashed: Hashes) -> Hashes:
    """Well-spread bits from a polynomial hash (the finisher of splitmix64), each value once."""
    mixed = (hashed ^ (hashed >> np.uint64(30))) * _MIX
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.unique(mixed ^ (mixed >> np.uint64(31)))
