"""Replies that must have a form: a JSON schema or a grammar, as masks over the next token.

llguidance parses what is written so far and says before each token which ones may come next; it
works on the bytes of tokens, so every tokenizer will do, and on the CPU, so every device will. The
model's end tokens are allowed where the form may end, and a reply whose form is complete ends at
once. A mask depends on the tokens before it alone: batches, cached prefixes and guesses that are
verified change no reply.

Masks take some 50 µs each on one core (128,000 tokens, by llguidance's own account), with bounds on
what a hostile schema may cost.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import llguidance
import numpy as np
from numpy.typing import NDArray

from engine.base import Sampling
from engine.errors import FormInvalid
from engine.tokenizer import Tokenizer

MAX_LETTERS = 1 << 17  # of a schema or grammar
# As `json.dumps` writes: some models never stop once any white space is allowed.
_SEPARATORS: Any = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
_LIMITS = llguidance.LLParserLimits(verbose_errors=False)

Mask = NDArray[np.bool_]  # (V,)


def check_form(sampling: Sampling) -> None:
    """See at once whether replies can be held to what `sampling` asks for.

    Raises `FormInvalid`.
    """
    if sampling.json_schema or sampling.grammar:
        _validated(sampling)


def _validated(sampling: Sampling) -> str:
    """The grammar in llguidance's own form. Raises `FormInvalid`."""
    if sampling.json_schema and sampling.grammar:
        raise FormInvalid("A reply can follow a JSON schema or a grammar, not both.")
    if max(len(sampling.json_schema), len(sampling.grammar)) > MAX_LETTERS:
        raise FormInvalid(f"A schema or grammar may have {MAX_LETTERS:,} letters at most.")
    if sampling.grammar:
        what, grammar = "grammar", llguidance.LLMatcher.grammar_from_lark(sampling.grammar)
    else:
        what, grammar = "schema", _from_schema(sampling.json_schema)
    failed, messages = llguidance.LLMatcher.validate_grammar_with_warnings(grammar, limits=_LIMITS)
    if failed:
        raise FormInvalid(f"The {what} cannot be followed: {messages[0].strip()}")
    return grammar


def _from_schema(text: str) -> str:
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormInvalid("The schema is no JSON.") from error
    if not isinstance(schema, dict):
        raise FormInvalid("A JSON schema is an object.")
    return llguidance.LLMatcher.grammar_from_json_schema(text, overrides=_SEPARATORS)


@dataclass(frozen=True)
class _Words:
    """A tokenizer as `LLTokenizer` asks for it.

    One more token than there are stands for the end: which of a model's end tokens does not matter.
    """

    tokens: Sequence[bytes]
    special_token_ids: Sequence[int]
    eos_token_id: int
    tokenizer: Tokenizer
    bos_token_id: None = None

    def __call__(self, text: str | bytes) -> list[int]:
        plain = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        return self.tokenizer.encode(plain, continues=True)


class Constraints:
    """Makes the constraints of one model's replies. Safe to call from several threads."""

    def __init__(self, tokenizer: Tokenizer, stop_ids: frozenset[int], vocab_size: int) -> None:
        """`vocab_size` is that of the logits."""
        self._tokenizer = tokenizer
        self._num_words, self._vocab_size = min(tokenizer.vocab_size, vocab_size), vocab_size
        self._stop_ids = np.array(sorted(id for id in stop_ids if id < vocab_size), dtype=np.intp)
        self._words: llguidance.LLTokenizer | None = None
        self._lock = threading.Lock()

    def make(self, sampling: Sampling, written: str = "") -> Constraint | None:
        """What holds for a reply that begins with `written`; None if nothing does.

        The first one takes longer: the vocabulary is sorted for it. Raises `FormInvalid`.
        """
        if not (sampling.json_schema or sampling.grammar):
            return None
        grammar = _validated(sampling)
        matcher = llguidance.LLMatcher(self._vocabulary(), grammar, log_level=0, limits=_LIMITS)
        begun = self._tokenizer.encode(written, continues=True)
        if matcher.is_error() or matcher.try_consume_tokens(begun) < len(begun):
            raise FormInvalid("The reply begins with what its schema or grammar forbids.")
        return Constraint(matcher, self._stop_ids, self._num_words, self._vocab_size)

    def _vocabulary(self) -> llguidance.LLTokenizer:
        with self._lock:
            if self._words is None:
                end = self._num_words
                special = {*self._tokenizer.special_ids, *self._stop_ids.tolist(), end}
                words = _Words(
                    [*(self._tokenizer.token_bytes(id) for id in range(end)), b""],
                    sorted(id for id in special if id <= end),
                    end,
                    self._tokenizer,
                )
                self._words = llguidance.LLTokenizer(llguidance.TokenizerWrapper(words))
            return self._words


class Constraint:
    """What may come next in one reply. Owned by the compute thread once the row runs."""

    def __init__(
        self,
        matcher: llguidance.LLMatcher,
        stop_ids: NDArray[np.intp],
        num_words: int,
        vocab_size: int,
    ) -> None:
        self._matcher, self._stop_ids = matcher, stop_ids
        self._num_words, self._vocab_size = num_words, vocab_size

    @property
    def complete(self) -> bool:
        """Whether nothing may follow any more."""
        return self._matcher.is_stopped()

    def allowed(self) -> Mask:
        """Which tokens may come next. Raises `FormInvalid` where it cannot be told."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        mask = np.zeros(self._vocab_size, dtype=np.bool_)
        mask[: self._num_words] = np.unpackbits(bits, bitorder="little", count=self._num_words)
        mask[self._stop_ids] = self._matcher.is_accepting()
        if self._matcher.is_error() or not mask.any():
            raise FormInvalid(
                "The reply cannot go on in the form that was asked for, because it is too complex "
                "or this model lacks a token for it: choose a simpler schema or grammar."
            )
        return mask

    def take(self, id: int) -> None:
        """`id` was drawn from what is allowed."""
        if id not in self._stop_ids:
            self._matcher.consume_token(id)
