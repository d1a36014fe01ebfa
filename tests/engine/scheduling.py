"""A scheduler over a tiny model whose passes are counted and may be disturbed."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import torch
from torch import Tensor

from engine.base import Sampling
from engine.checkpoint import open_checkpoint
from engine.constraint import Constraints
from engine.detokenize import Detokenizer
from engine.draft import DraftModel
from engine.generate import ReplyStream, Row
from engine.kv_cache import CacheShape, Slot
from engine.llama import Llama
from engine.model import Model
from engine.quantize import Precision
from engine.sampling import Sampler
from engine.scheduler import Scheduler
from engine.tokenizer import load_tokenizer
from engine.weights import load_llama

OUT_OF_MEMORY = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
Hook = Callable[[Sequence[int], Sequence[tuple[Slot, int]]], None]


class Watched:
    """A model whose passes are counted and may be disturbed by a test."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.passes: list[list[int]] = []  # tokens per row, pass by pass
        self.before: Hook = lambda _ids, _spans: None
        self.after: Callable[[Tensor], Tensor] = lambda logits: logits

    @property
    def cache_shape(self) -> CacheShape:
        return self.model.cache_shape

    @property
    def steady_width(self) -> int:
        return self.model.steady_width

    def stretch(self, num_tokens: int) -> int:
        return self.model.stretch(num_tokens)

    def give_up(self) -> bool:
        return self.model.give_up()

    def make_room(self, slot: Slot, num_tokens: int) -> None:
        self.model.make_room(slot, num_tokens)

    def forward(
        self, ids: Sequence[int], spans: Sequence[tuple[Slot, int]], *, every: bool = False
    ) -> Tensor:
        self.before(ids, spans)
        self.passes.append([num for _, num in spans])
        return self.after(self.model.forward(ids, spans, every=every))


def loaded(folder: Path, precision: Precision = "fp32") -> Llama:
    return load_llama(open_checkpoint(folder), precision, torch.device("cpu"))


class Bench:
    """A scheduler over a tiny model, and short words to use it."""

    def __init__(
        self,
        folder: Path,
        *,
        model: Model | None = None,
        draft: Model | None = None,
        **options: Any,
    ) -> None:
        self.model = Watched(model or loaded(folder))
        self.draft = Watched(draft) if draft else None
        self.tokenizer = load_tokenizer(folder)
        self.scheduler = Scheduler(threads=(1,), **options)
        guesser = DraftModel(self.draft, 64 << 20) if self.draft else None
        self.scheduler.serve(self.model, 64 << 20, draft=guesser)

    def ask(
        self,
        prompt: Sequence[int],
        num_new: int = 8,
        *,
        scope: str = "1",
        cancel: Event | None = None,
        sampling: Sampling | None = None,
    ) -> ReplyStream:
        sampling = sampling or Sampling(temperature=0)
        constraint = Constraints(self.tokenizer, frozenset(), 288).make(sampling)
        row = Row(
            list(prompt),
            sampler=Sampler(sampling, sampling.seed or 1, 288, constraint=constraint),
            detokenizer=Detokenizer(self.tokenizer, sampling.stop),
            stop_ids=frozenset(),
            max_new_tokens=num_new,
            seed=sampling.seed or 1,
            scope=scope,
            cancel=cancel or Event(),
        )
        return ReplyStream(row, self.scheduler.submit)

    def hold(self) -> Event:
        """Stop the compute thread until the event is set, so that rows pile up before it."""
        held, go = Event(), Event()

        def wait() -> None:
            held.set()
            go.wait()

        threading.Thread(target=self.scheduler.aside, args=(wait,), daemon=True).start()
        held.wait()
        return go


def prompt_of(length: int, seed: int = 0) -> list[int]:
    return [256, *((seed * 31 + 7 * at) % 256 for at in range(length - 1))]
