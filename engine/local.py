"""The engine on this machine: a checkpoint, its tokenizer, the model and the scheduler as one.

Loading (`engine/loading.py`) and every computation run on the scheduler's thread.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator, Sequence
from copy import copy
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
from engine.budget import DISK_BYTES, cache_identity, usual_cache_bytes, usual_memory_bytes
from engine.constraint import Constraints
from engine.detokenize import Detokenizer
from engine.device import choose_device, choose_threads, device_name, free_bytes, held_bytes
from engine.disk_tier import DiskTier
from engine.draft import DraftModel
from engine.errors import ContextFull, ModelUnsupported, PromptEmpty
from engine.generate import ReplyStream, Row
from engine.kv_cache import Kept
from engine.llama import Llama
from engine.loading import PRECISIONS
from engine.opening import LoadedModel, open_draft, open_model
from engine.pace import thread_choices
from engine.retrace import retrace, score
from engine.sampling import Sampler
from engine.scheduler import Scheduler
from engine.tools import no_tools, uses_tools
from engine.views import View, Views

T = TypeVar("T")


class LocalEngine:
    """`engine.base.Engine` for a Llama checkpoint on this machine's own device."""

    def __init__(
        self,
        folder: Path | str,
        *,
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        cache_bytes: int | None = None,
        memory_bytes: int | None = None,
        disk_folder: Path | None = None,
        disk_bytes: int = DISK_BYTES,
        max_rows: int = 16,
        speculate: bool = True,
        draft: Path | None = None,
        deterministic: bool = False,
        max_context: int | None = None,
        adapter: Path | None = None,
        allow_pickle: bool = False,
        extension: str = "",
        kept: Kept = "auto",
        measured: Path | None = None,
        name: str | None = None,
        progress: Callable[[float], None] = lambda _part: None,
    ) -> None:
        """Load the model at `folder`, a folder or a GGUF file; blocks until it can answer.

        `adapter`, `allow_pickle`, `extension` and `measured` are those of `open_model`. `kept` is
        how keys and values are: int8 takes about half the memory of 16 bits.
        `cache_bytes` bounds all keys and values on the device, running and kept (default: eight
        whole contexts, within half of the memory that is free after loading), `memory_bytes` those
        moved off a GPU (default: as many, within a quarter of the free memory), `disk_bytes` those
        under `disk_folder`; without one, or with 0, nothing is kept on the disk. `speculate`
        writes several tokens a pass where a text repeats itself, or where the smaller model at
        `draft` guesses right. `deterministic`: see `Scheduler`. Raises any `CheckpointError`,
        `DeviceAbsent`, `DeviceOutOfMemory`.
        """
        if precision not in PRECISIONS:
            raise ModelUnsupported(
                f"There is no precision {precision!r}: choose {', '.join(PRECISIONS)}."
            )
        opened = open_model(
            folder,
            adapter=adapter,
            allow_pickle=allow_pickle,
            extension=extension,
            measured=measured,
        )
        opened_draft = open_draft(draft, opened) if draft else None
        choices = (threads,) if threads else thread_choices(choose_threads())
        self._scheduler = Scheduler(
            threads=choices, max_rows=max_rows, speculate=speculate, deterministic=deterministic
        )
        self._draft: LoadedModel | None = None
        try:
            load = partial(opened.load, choose_device(device), precision, progress, kept)
            self._model, note = self._scheduler.aside(load)
            self._device = self._model.device  # the CPU if a GPU failed its self-test
            shape, free = self._model.cache_shape, free_bytes(self._device)
            usual = usual_cache_bytes(shape, free)
            budget = usual if cache_bytes is None else cache_bytes
            off = usual_memory_bytes(shape) if memory_bytes is None else memory_bytes
            disk = None
            if disk_folder is not None and disk_bytes > 0:
                identity = cache_identity(opened, self._model, extension)
                disk = DiskTier(disk_folder, identity, disk_bytes)
            guesser = None
            if opened_draft is not None:
                load = partial(opened_draft.load, self._device, precision, lambda _part: None)
                self._draft, _ = self._scheduler.aside(load)
                tokens = budget // shape.token_bytes  # as many as of the model itself
                guesser = DraftModel(self._draft, tokens * self._draft.cache_shape.token_bytes)
            self._scheduler.serve(self._model, budget, off, disk, guesser)
            self._scheduler.warm_up()
        except BaseException:
            self._scheduler.close()
            raise
        fitting = max(256, min(budget, free) // shape.token_bytes)
        self._context_length = min(shape.context_length, fitting, max_context or 1 << 62)
        self._vocab_size = opened.vocab_size
        info = EngineInfo(
            model=name or opened.name,
            fingerprint=opened.fingerprint,
            architecture=opened.architecture,
            num_parameters=opened.num_parameters,
            context_length=self._context_length,
            device=device_name(self._device, choices[0]),
            precision=self._model.precision,
            tools=opened.tools.style if opened.tools else "",
            chat=opened.format.chat,
            note=note,
            deterministic=deterministic,
            draft=opened_draft.name if opened_draft else "",
            kernels=self._model.kernels if isinstance(self._model, Llama) else "",
            quality=str(getattr(self._model, "quality", None) or ""),
        )
        plain = View(opened.tokenizer, opened.format, info, tools=opened.tools)
        self._views = Views(self._scheduler, self._model, opened, plain)
        self._use(plain)

    def _use(self, view: View) -> None:
        """Answer as `view` from now on."""
        self._view: View | None = view  # None once it is closed
        self._tokenizer, self._format, self._tools = view.tokenizer, view.format, view.tools
        self._info, self._adapter = view.info, view.adapter
        self._constraints = Constraints(view.tokenizer, view.format.stop_ids, self._vocab_size)

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
        ids = self._ids_of(prompt)
        self._check_ids(ids)
        if len(ids) >= self._context_length:
            raise ContextFull(len(ids), self._context_length)
        chat = prompt.messages is not None
        continues = self._format.reply_continues(prompt.reply_prefix) if chat else True
        stop = (*sampling.stop, *self._format.stop) if chat else sampling.stop
        seed = random.randrange(1 << 63) if sampling.seed is None else sampling.seed
        row = Row(
            ids,
            sampler=Sampler(
                sampling,
                seed,
                self._vocab_size,
                text_of=lambda token: self._tokenizer.decode([token]),
                constraint=self._constraints.make(sampling, prompt.reply_prefix),
            ),
            detokenizer=Detokenizer(self._tokenizer, stop, continues=continues),
            stop_ids=self._format.stop_ids,
            max_new_tokens=min(sampling.max_new_tokens, self._context_length - len(ids)),
            seed=seed,
            scope=scope,
            cancel=cancel,
            adapter=self._adapter,
        )
        return ReplyStream(row, self._scheduler.submit)

    def score(self, ids_or_text: Sequence[int] | str) -> TokenScores:
        """See `Engine.score`. Runs between the steps of running rows, a part at a time."""
        if isinstance(ids_or_text, str):
            ids = self._with_bos(self._tokenizer.encode(ids_or_text))
        else:
            ids = list(ids_or_text)
        self._check_ids(ids)
        if len(ids) > self._context_length:
            raise ContextFull(len(ids), self._context_length)
        logprobs = score(self._model, self._scheduler.aside, ids, adapter=self._adapter)
        num_bytes = tuple(len(self._tokenizer.token_bytes(token)) for token in ids)
        return TokenScores(tuple(ids), tuple(logprobs), num_bytes)

    def retrace(self, prompt: Prompt, *, num_alternatives: int = 10) -> Sequence[TokenLogprob]:
        """See `Retracing.retrace`. Runs between the steps of running rows."""
        ids = self._ids_of(prompt)
        self._check_ids(ids)
        if len(ids) > self._context_length:
            raise ContextFull(len(ids), self._context_length)
        header = ids[:1] if prompt.messages is None else self._format.render(prompt.messages)
        start = next(
            (i for i, (a, b) in enumerate(zip(header, ids, strict=False)) if a != b),
            min(len(header), len(ids)),
        )
        return retrace(
            self._model,
            self._tokenizer,
            self._scheduler.aside,
            ids[:start],
            ids[start:],
            adapter=self._adapter,
            num_alternatives=num_alternatives,
            continues=prompt.messages is None or self._format.reply_continues(),
        )

    def text(self, ids: Sequence[int]) -> str:
        """See `Decoding.text`."""
        self._check_ids(ids)
        return self._tokenizer.decode(ids)

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """See `Engine.count_tokens`."""
        return len(self._format.render(messages))

    def info(self) -> EngineInfo:
        """See `Engine.info`."""
        return self._info

    def show(self, messages: Sequence[Message]) -> str:
        """The prompt that `messages` become, with its markers, for people to look at."""
        return self._format.show(messages)

    def aside(self, job: Callable[[], T]) -> T:
        """Run `job` (a guard, say) on the compute thread between two steps. Blocks."""
        return self._scheduler.aside(job)

    def forget(self, scope: str) -> None:
        """See `Engine.forget`. Also on the disk; returns when it is gone."""
        self._scheduler.forget(scope)

    @property
    def held_bytes(self) -> int:
        """Memory that this process holds on the model's device."""
        return held_bytes(self._device)

    def cache_sizes(self) -> CacheSizes:
        """See `Caching.cache_sizes`."""
        return self._scheduler.sizes()

    def close(self) -> None:
        """See `Engine.close`. May be repeated. A model with other views open stays loaded."""
        view, self._view = self._view, None
        if view is None or not self._views.close(view):
            return
        self._scheduler.close()
        for model in (self._model, self._draft):
            if model is not None:
                model.unload()
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    # --- prompts ---

    def _ids_of(self, prompt: Prompt) -> list[int]:
        if prompt.messages is not None and (prompt.tools or uses_tools(prompt.messages)):
            if self._tools is None:
                raise no_tools()
            return self._tools.render(prompt.messages, prompt.tools)
        if prompt.messages is not None:
            return self._format.render(prompt.messages, prompt.reply_prefix, prompt.reply_ids)
        if prompt.text is not None:
            return self._with_bos(self._tokenizer.encode(prompt.text))
        return list(prompt.ids or ())

    def _with_bos(self, ids: list[int]) -> list[int]:
        return ids if self._tokenizer.bos_id is None else [self._tokenizer.bos_id, *ids]

    def _check_ids(self, ids: Sequence[int]) -> None:
        if not ids:
            raise PromptEmpty("The prompt holds no token to read: write something.")
        if not all(0 <= token < self._vocab_size for token in ids):
            raise PromptEmpty("The prompt holds token ids that this model does not have.")
