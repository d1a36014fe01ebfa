"""One reply: the row that the compute thread works on, and the stream that its reader holds.

A row is a list of token ids (prompt and reply) and a slot. What the slot does not hold yet is
pending: many tokens are prefill, one is decode, and after the last pending token one more is drawn.
Everything a row gives goes into an unbounded queue, so a reader that is slow, or gone, never holds
the compute thread up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from threading import Event

from torch import Tensor

from engine.base import Chunk, FinishReason, Statistics, TokenLogprob
from engine.detokenize import Detokenizer
from engine.errors import EngineError
from engine.kv_cache import Slot
from engine.sampling import Sampler
from engine.speculation import Lookup


class Row:
    """One sequence that is being read and written. Only the compute thread changes it."""

    def __init__(
        self,
        ids: list[int],
        *,
        sampler: Sampler,
        detokenizer: Detokenizer,
        stop_ids: frozenset[int],
        max_new_tokens: int,
        seed: int,
        scope: str,
        cancel: Event,
        adapter: str = "",
    ) -> None:
        self.tokens = ids
        self.num_prompt = len(ids)
        self.max_new_tokens = max_new_tokens
        self.seed = seed
        self.scope, self.adapter = scope, adapter
        self.cancel = cancel
        self.abandoned = Event()  # set by the reader that goes away
        self.slot: Slot | None = None
        self.pieces: list[tuple[str, Path]] = []
        self.lookup = Lookup()
        self.num_reused = 0
        self.output: SimpleQueue[Chunk | EngineError] = SimpleQueue()
        self._sampler, self._detokenizer, self._stop_ids = sampler, detokenizer, stop_ids
        self._asked = time.perf_counter()
        self._started = self._first = 0.0

    @property
    def num_new(self) -> int:
        """Tokens of the reply so far, without the one that ended it."""
        return len(self.tokens) - self.num_prompt

    @property
    def cancelled(self) -> bool:
        """Whether its reader wants no more."""
        return self.cancel.is_set() or self.abandoned.is_set()

    def start(self, slot: Slot, pieces: list[tuple[str, Path]]) -> None:
        """Take `slot`, whose tokens are a beginning of this row's; `pieces` on the disk go on."""
        self.slot, self.num_reused, self.pieces = slot, slot.length, pieces
        self._started = time.perf_counter()

    def pending(self) -> int:
        """Tokens that the slot does not hold yet; at least one."""
        assert self.slot is not None
        return len(self.tokens) - self.slot.length

    def report_reading(self) -> None:
        """Tell the reader how much of the prompt is read."""
        assert self.slot is not None
        self.output.put(
            Chunk(num_prefilled=min(self.slot.length, self.num_prompt), num_prompt=self.num_prompt)
        )

    def accept(self, logits: Tensor) -> FinishReason | None:
        """Draw the next token from `logits` (V,) and hand it on → why the reply ends, if it does.

        Raises `CheckpointBroken` if the logits are no numbers, `FormInvalid` as `draw` does.
        """
        token, logprob = self._sampler.draw(logits, self.tokens[self.num_prompt :])
        if not self._first:
            self._first = time.perf_counter()
        if token in self._stop_ids:
            return "stop"
        self.tokens.append(token)
        text = self._detokenizer.push(token)
        self.output.put(
            Chunk(
                text,
                ids=(token,),
                num_prefilled=self.num_prompt,
                num_prompt=self.num_prompt,
                logprobs=_only(logprob),
            )
        )
        if self._detokenizer.stopped or self._sampler.complete:
            return "stop"
        return "length" if self.num_new >= self.max_new_tokens else None

    def end(self, reason: FinishReason) -> None:
        """Give the last chunk: what was held back, why it ended, what it cost."""
        now = time.perf_counter()
        started, first = self._started or now, self._first or now
        statistics = Statistics(
            num_prompt=self.num_prompt,
            num_reused=self.num_reused,
            num_new=self.num_new,
            queue_seconds=started - self._asked,
            first_token_seconds=first - self._asked,
            total_seconds=now - self._asked,
            seed=self.seed,
        )
        self.output.put(
            Chunk(
                self._detokenizer.flush(),
                num_prefilled=self.num_prompt,
                num_prompt=self.num_prompt,
                finish_reason=reason,
                statistics=statistics,
            )
        )

    def fail(self, error: EngineError) -> None:
        """End with `error`; the reader keeps what it has."""
        self.output.put(error)


def _only(logprob: TokenLogprob | None) -> tuple[TokenLogprob, ...]:
    return () if logprob is None else (logprob,)


class ReplyStream(Iterator[Chunk]):
    """What a reader iterates over. Closing it, or dropping it, cancels the row."""

    def __init__(self, row: Row, submit: Callable[[Row], None]) -> None:
        self._row, self._over = row, False
        submit(row)

    def __next__(self) -> Chunk:
        if self._over:
            raise StopIteration
        item = self._row.output.get()
        if isinstance(item, EngineError):
            self._over = True
            raise item
        self._over = item.finish_reason is not None
        return item

    def close(self) -> None:
        """Want no more. Does not block."""
        self._over = True
        self._row.abandoned.set()

    def __del__(self) -> None:
        self.close()
