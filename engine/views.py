"""One loaded model under several names: as it was loaded, and with LoRA adapters beside it.

A view is a name with its tokenizer, chat format and adapter. All views of a model share its
weights, its compute thread and the bounds of its caches; keys and values of an adapter serve its
own rows alone. Whoever closes the last view frees the model.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

from engine.adapter import is_adapter, open_adapter
from engine.catalog import is_alike
from engine.checkpoint import base_of, text_of
from engine.errors import CheckpointError, ModelUnsupported
from engine.llama import Llama
from engine.low_rank import attach, detach, is_switchable
from engine.opening import LoadedModel, Opened, open_text
from engine.scheduler import Scheduler
from engine.tool_format import tool_format_for
from engine.view import View


class Views:
    """The views of one loaded model that are open. Safe to use from several threads."""

    def __init__(
        self, scheduler: Scheduler, model: LoadedModel, opened: Opened, plain: View
    ) -> None:
        """Begin with `plain`, the model as it was loaded, open."""
        self._scheduler, self._model, self._opened = scheduler, model, opened
        self._plain = plain
        self._open = Counter({plain.adapter: 1})
        self._lock = threading.Lock()

    def holds(self, path: Path) -> bool:
        """Whether `path` is the loaded model, or an adapter for it that can be switched."""
        checkpoint = self._opened.checkpoint
        if checkpoint is None:
            return False
        if path.resolve() == checkpoint.path:
            return True
        if not (path.is_dir() and is_adapter(path)):
            return False
        try:
            adapter = open_adapter(path)
            base = base_of(adapter).resolve()
            # Of several quantizations of its base an adapter does not name the one that runs.
            files = base.is_file() and checkpoint.path.is_file()
            same = base == checkpoint.path or (files and is_alike(adapter.base, checkpoint.name))
            return same and is_switchable(adapter)
        except CheckpointError:
            return False

    def open(self, path: Path) -> View:
        """The model at `path`, which is the loaded one, or the folder of an adapter for it.

        Blocks for a step. Raises `CheckpointError`; the adapter is checked by its sizes alone.
        """
        with self._lock:
            checkpoint = self._opened.checkpoint
            if checkpoint is not None and path.resolve() == checkpoint.path:
                view = self._plain
            else:
                view = self._adapted(path.resolve())
            self._open[view.adapter] += 1
            return view

    def _adapted(self, folder: Path) -> View:
        model, checkpoint = self._model, self._opened.checkpoint
        if checkpoint is None or not isinstance(model, Llama):
            raise ModelUnsupported(f"{self._opened.name} is no Llama: it answers as it is.")
        adapter = open_adapter(folder)
        text = text_of(checkpoint, adapter)
        tokenizer, form = open_text(replace(checkpoint, text=text))
        tools = tool_format_for(text, tokenizer)
        self._scheduler.aside(partial(attach, model, adapter))
        info = replace(
            self._plain.info,
            model=folder.name,
            fingerprint=adapter.over(checkpoint.fingerprint),
            tools=tools.style if tools else "",
            chat=form.chat,
        )
        return View(tokenizer, form, tools, info, self._plain.vocab_size, adapter.fingerprint)

    def close(self, view: View) -> bool:
        """Close one of the open ones → whether it was the last. Blocks for a step.

        The last one of an adapter ends the rows that compute with it and frees its weights.
        """
        with self._lock:
            self._open[view.adapter] -= 1
            last = not self._open.total()
            if view.adapter and not self._open[view.adapter] and not last:
                assert isinstance(self._model, Llama)
                then = partial(detach, self._model, view.adapter)
                self._scheduler.retire(view.adapter, then)
            return last
