"""The engine on this machine: a checkpoint, its tokenizer, the model and the scheduler as one.

Loading (`engine/loading.py`) and every computation run on the scheduler's thread.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import TypeVar

import torch

from engine.base import (
    CacheSizes,
    Chunk,
    EngineInfo,
    Message,
    Prompt,
    Sampling,
    TokenLogprob,
    TokenScores,
)
from engine.budget import budget_for, disk_tier
from engine.constraint import Constraints
from engine.detokenize import Detokenizer
from engine.device import choose_device, device_name, held_bytes
from engine.draft import DraftModel
from engine.generate import ReplyStream, Row
from engine.llama import Llama
from engine.opening import LoadedModel, Opened, open_draft, open_model
from engine.options import USUAL, Options
from engine.pace import thread_choices
from engine.retrace import retrace, score
from engine.sampling import Sampler
from engine.scheduler import Scheduler
from engine.view import View
from engine.views import Views

T = TypeVar("T")


class LocalEngine:
    """`engine.base.Engine` for a Llama checkpoint on this machine's own device."""

    def __init__(self, path: Path | str, options: Options = USUAL) -> None:
        """Load the model at `path`, a folder or a GGUF file; blocks until it can answer.

        Raises any `CheckpointError`, `DeviceAbsent`, `DeviceOutOfMemory`.
        """
        opened = open_model(path, options)
        draft = open_draft(options.draft, opened) if options.draft else None
        threads = thread_choices(options.threads)
        self._scheduler = Scheduler(
            threads=threads,
            max_rows=options.max_rows,
            speculate=options.speculate,
            deterministic=options.deterministic,
        )
        try:
            device = choose_device(options.device)
            self._model, note = self._load(opened, device, options.precision)
            budget = budget_for(self._model.cache_shape, options)
            disk = disk_tier(options, opened, self._model)
            if options.deterministic and isinstance(self._model, Llama):
                self._model.graphs = None  # which serve the steps of some rows and not of others
            self._draft = self._load(draft, self._device, options.precision)[0] if draft else None
            guesser = self._guesser(budget.device_bytes)
            self._scheduler.serve(
                self._model, budget.device_bytes, budget.memory_bytes, disk, guesser
            )
            self._scheduler.warm_up()
        except BaseException:
            self._scheduler.close()
            raise
        info = replace(
            opened.info(self._model, budget.context_length, device_name(self._device, threads[0])),
            note=note,
            deterministic=options.deterministic,
            draft=draft.name if draft else "",
        )
        plain = View(opened.tokenizer, opened.format, opened.tools, info, opened.vocab_size)
        self._views = Views(self._scheduler, self._model, opened, plain)
        self._use(plain)

    def _load(
        self, opened: Opened, device: torch.device, precision: str
    ) -> tuple[LoadedModel, str]:
        """The weights, and a note: they may lie elsewhere, if `device` failed its test. Blocks."""
        return self._scheduler.aside(partial(opened.load, device, precision))

    def _guesser(self, num_bytes: int) -> DraftModel | None:
        """The draft model at work; it keeps as many tokens as the model itself in `num_bytes`."""
        if self._draft is None:
            return None
        tokens = num_bytes // self._model.cache_shape.token_bytes
        return DraftModel(self._draft, tokens * self._draft.cache_shape.token_bytes)

    def _use(self, view: View) -> None:
        """Answer as `view` from now on."""
        self._view, self._closed = view, False
        self._constraints = Constraints(view.tokenizer, view.format.stop_ids, view.vocab_size)

    def holds(self, path: Path) -> bool:
        """See `Switching.holds`."""
        return self._views.holds(path)

    def switched(self, path: Path) -> LocalEngine:
        """See `Switching.switched`."""
        other = copy(self)
        other._use(self._views.open(path))
        return other

    def stream(
        self, prompt: Prompt, sampling: Sampling, *, cancel: Event, scope: str
    ) -> Iterator[Chunk]:
        """See `Engine.stream`. `scope` may be `owner/conversation`; "" keeps nothing in cache."""
        view = self._view
        ids = view.ids_of(prompt)
        view.check_room(ids, num_new=1)
        chat = prompt.messages is not None
        continues = view.format.reply_continues(prompt.reply_prefix) if chat else True
        stop = (*sampling.stop, *view.format.stop) if chat else sampling.stop
        seed = random.randrange(1 << 63) if sampling.seed is None else sampling.seed
        row = Row(
            ids,
            sampler=Sampler(
                sampling,
                seed,
                view.vocab_size,
                text_of=lambda token: view.tokenizer.decode([token]),
                constraint=self._constraints.make(sampling, prompt.reply_prefix),
            ),
            detokenizer=Detokenizer(view.tokenizer, stop, continues=continues),
            stop_ids=view.format.stop_ids,
            max_new_tokens=min(sampling.max_new_tokens, view.info.context_length - len(ids)),
            seed=seed,
            scope=scope,
            cancel=cancel,
            adapter=view.adapter,
        )
        return ReplyStream(row, self._scheduler.submit)

    def score(self, ids_or_text: Sequence[int] | str) -> TokenScores:
        """See `Engine.score`. Runs between the steps of running rows, a part at a time."""
        view = self._view
        if isinstance(ids_or_text, str):
            ids = view.ids_of(Prompt(text=ids_or_text))
        else:
            ids = view.ids_of(Prompt(ids=ids_or_text))
        view.check_room(ids)
        logprobs = score(self._model, self._scheduler.aside, ids, adapter=view.adapter)
        num_bytes = tuple(len(view.tokenizer.token_bytes(token)) for token in ids)
        return TokenScores(tuple(ids), tuple(logprobs), num_bytes)

    def retrace(self, prompt: Prompt, *, num_alternatives: int = 10) -> Sequence[TokenLogprob]:
        """See `Retracing.retrace`. Runs between the steps of running rows."""
        view = self._view
        ids = view.ids_of(prompt)
        view.check_room(ids)
        start = view.num_header(prompt, ids)
        return retrace(
            self._model,
            view.tokenizer,
            self._scheduler.aside,
            ids[:start],
            ids[start:],
            adapter=view.adapter,
            num_alternatives=num_alternatives,
            continues=prompt.messages is None or view.format.reply_continues(),
        )

    def text(self, ids: Sequence[int]) -> str:
        """See `Decoding.text`."""
        self._view.check_ids(ids)
        return self._view.tokenizer.decode(ids)

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """See `Engine.count_tokens`."""
        return len(self._view.format.render(messages))

    def info(self) -> EngineInfo:
        """See `Engine.info`. What is told of the kernels may change while the model runs."""
        model, info = self._model, self._view.info
        if not isinstance(model, Llama):
            return info
        given_up = model.graphs.given_up if model.graphs is not None else ""
        return replace(info, kernels=model.kernels, unrecorded=given_up)

    def show(self, messages: Sequence[Message]) -> str:
        """The prompt that `messages` become, with its markers, for people to look at."""
        return self._view.format.show(messages)

    def aside(self, job: Callable[[], T]) -> T:
        """Run `job` (a guard, say) on the compute thread between two steps. Blocks."""
        return self._scheduler.aside(job)

    def forget(self, scope: str) -> None:
        """See `Engine.forget`. Also on the disk; returns when it is gone."""
        self._scheduler.forget(scope)

    @property
    def _device(self) -> torch.device:
        return self._model.device

    @property
    def held_bytes(self) -> int:
        """Memory that this process holds on the model's device."""
        return held_bytes(self._device)

    def cache_sizes(self) -> CacheSizes:
        """See `Caching.cache_sizes`."""
        return self._scheduler.sizes()

    def close(self) -> None:
        """See `Engine.close`. May be repeated. A model with other views open stays loaded."""
        closed, self._closed = self._closed, True
        if closed or not self._views.close(self._view):
            return
        self._scheduler.close()
        for model in (self._model, self._draft):
            if model is not None:
                model.unload()
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
