"""Rows on a scheduler without text: what the benchmarks of turns, users and speculation share."""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any, cast

import torch
from torch import Tensor

from engine.base import Chunk, Sampling, Statistics, TokenLogprob
from engine.bench import RandomWeights
from engine.checkpoint import open_checkpoint
from engine.detokenize import Detokenizer
from engine.device import choose_threads
from engine.disk_tier import DiskTier
from engine.draft import DraftModel
from engine.generate import ReplyStream, Row
from engine.kv_cache import CacheShape, Slot
from engine.llama import Llama
from engine.loading import attach_step
from engine.model import Model
from engine.quantize import Precision
from engine.sampling import Sampler
from engine.scheduler import Scheduler
from engine.shapes import SHAPES, shape
from engine.tensors import Weights
from engine.tuning import tune
from engine.weights import load_llama

ROOM = 1 << 40  # bytes: no bound


def arguments(about: str | None, **numbers: int) -> argparse.ArgumentParser:
    """What each of these benchmarks is told: the model and how, and `numbers` with defaults."""
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("--model", default="llama-3.2-1b", help="a shape or a folder")
    parser.add_argument("--precision", default="int8")
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int, default=choose_threads())
    parser.add_argument("--json", action="store_true")
    return parser


def load(model: str, precision: str, *, vocab_size: int = 0) -> Llama:
    """A public shape with random weights, or a folder, on the CPU with the engine's own kernels.

    `vocab_size` is put in place of the shape's own.
    """
    weights: Weights
    if model in SHAPES:
        config = shape(model)
        weights = RandomWeights(replace(config, vocab_size=vocab_size or config.vocab_size))
    else:
        weights = open_checkpoint(Path(model))
    llama = load_llama(weights, cast(Precision, precision), torch.device("cpu"))
    attach_step(llama)
    tune(llama)
    return llama


class Silent:
    """A detokenizer that gives no text: these benchmarks measure tokens."""

    stopped = False

    def push(self, token: int) -> str:
        """Nothing."""
        return ""

    def flush(self) -> str:
        """Nothing."""
        return ""


class Told:
    """A sampler that looks at the logits as the real one does, and then says what it was told."""

    complete = False

    def __init__(self, sampler: Sampler, reply: Sequence[int]) -> None:
        self._sampler, self._reply = sampler, reply

    def draw(self, logits: Tensor, history: Sequence[int]) -> tuple[int, TokenLogprob | None]:
        """The next token of the reply."""
        self._sampler.draw(logits, history)
        return self._reply[len(history)], None


class ToldDraft:
    """A draft model whose passes are real and whose guesses are told: right as often as `rate`."""

    def __init__(self, model: Model, rate: float) -> None:
        self._model, self._rate = model, rate
        self._random = random.Random(0)
        self.text: Sequence[int] = ()  # prompt and reply

    @property
    def cache_shape(self) -> CacheShape:
        """As the model's."""
        return self._model.cache_shape

    @property
    def steady_width(self) -> int:
        """As the model's."""
        return self._model.steady_width

    def stretch(self, num_tokens: int) -> int:
        """As the model's."""
        return self._model.stretch(num_tokens)

    def give_up(self) -> bool:
        """As the model's."""
        return self._model.give_up()

    def make_room(self, slot: Slot, num_tokens: int) -> None:
        """As the model's."""
        self._model.make_room(slot, num_tokens)

    def forward(
        self, ids: Sequence[int], spans: Sequence[tuple[Slot, int]], *, every: bool = False
    ) -> Tensor:
        """A real pass; the likeliest token of each row is then the one that is told."""
        logits = self._model.forward(ids, spans, every=every).clone()
        for row, (slot, _) in enumerate(spans):
            at = slot.length
            told = self.text[at] if at < len(self.text) else 0
            if self._random.random() >= self._rate:
                told = (told + 1) % logits.shape[-1]
            logits[row, told] = logits[row].max() + 1
        return logits


@dataclass
class Bench:
    """A scheduler over `model`."""

    model: Llama
    threads: int
    speculate: bool = False
    disk: DiskTier | None = None
    draft: Model | None = None

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(threads=(self.threads,), speculate=self.speculate)
        guesser = DraftModel(self.draft, ROOM) if self.draft else None
        self.scheduler.serve(self.model, ROOM, disk=self.disk, draft=guesser)

    def ask(
        self, ids: Sequence[int], num_new: int, *, scope: str = "", reply: Sequence[int] = ()
    ) -> ReplyStream:
        """A greedy reply of `num_new` tokens, or `reply` whatever the model would write."""
        sampler: Any = Sampler(Sampling(temperature=0), 1, self.model.config.vocab_size)
        if reply:
            sampler = Told(sampler, reply)
        row = Row(
            list(ids),
            sampler=sampler,
            detokenizer=cast(Detokenizer, Silent()),
            stop_ids=frozenset(),
            max_new_tokens=num_new,
            seed=1,
            scope=scope,
            cancel=Event(),
        )
        return ReplyStream(row, self.scheduler.submit)


def ended(stream: ReplyStream) -> tuple[list[int], Statistics]:
    """All tokens of a reply, and what it cost."""
    chunks: list[Chunk] = list(stream)
    statistics = chunks[-1].statistics
    assert statistics is not None
    return [token for chunk in chunks for token in chunk.ids], statistics


def tokens(num: int, seed: int, vocab_size: int) -> list[int]:
    """Ids that repeat nothing."""
    generator = torch.Generator().manual_seed(seed)
    ids: list[int] = torch.randint(0, vocab_size, (num,), generator=generator).tolist()
    return ids
