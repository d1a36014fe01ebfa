"""A model that reads and is asked what comes next, but never writes: what generative guards need.

A `Reading` is a text that grows at its end and may be cropped. Its keys and values are kept: asked
again, it reads only what changed. The text is always encoded as one, so the ids, and with them the
logits, are those of a single pass over the whole, however it was put together.

All computation goes through `run`, which brings it to the one thread that computes.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from engine.checkpoint import open_checkpoint
from engine.device import choose_device
from engine.errors import ContextFull, PromptEmpty
from engine.kv_cache import Slot
from engine.loading import load_model
from engine.prefix import common_prefix
from engine.tokenizer import Tokenizer, load_tokenizer

_CHUNK = 128  # tokens read at a time: rows that write wait no longer than that
_HEADS = 4  # beginnings that are kept: a guard has one for prompts and one for replies


class Run(Protocol):
    """Brings a computation to the thread that computes, and its result back."""

    def __call__(self, job: Callable[[], Any], /) -> Any:
        """Run `job` and return what it returns, or raise what it raised. Blocks."""
        ...


class ReadingModel:
    """A checkpoint behind `open`. Safe to call from several threads.

    `num_read` counts tokens that were computed since loading.
    """

    def __init__(
        self, folder: Path | str, *, device: str = "auto", precision: str = "auto", run: Run
    ) -> None:
        """Load `folder`; blocks. Raises `CheckpointError` or `DeviceOutOfMemory`."""
        checkpoint = open_checkpoint(folder)
        self._tokenizer = load_tokenizer(checkpoint.text)
        load = partial(load_model, checkpoint, choose_device(device), precision)
        self._model, self.note = run(load)
        self._run = run
        self._heads: OrderedDict[str, Slot] = OrderedDict()
        self._lock = threading.Lock()
        self.num_read = 0
        self.name = checkpoint.name
        self.fingerprint = checkpoint.fingerprint

    @property
    def num_bytes(self) -> int:
        """Bytes of the weights."""
        return int(self._model.weight_bytes)

    @property
    def tokenizer(self) -> Tokenizer:
        """How the checkpoint cuts text."""
        return self._tokenizer

    def open(self, text: str) -> Reading:
        """Begin with `text`, in which control tokens are parsed. Beginnings are kept and copied."""
        ids = self._tokenizer.encode_mixed([(text, True)])
        with self._lock:
            head = self._heads.get(text)
            if head is None:
                head = Slot(self._model.cache_shape, stretch=self._model.stretch(len(ids)))
                self.read(head, ids)
                self._heads[text] = head
                while len(self._heads) > _HEADS:
                    self._heads.popitem(last=False)[1].release()
            self._heads.move_to_end(text)
            slot: Slot = self._run(partial(head.copy, head.length, 2 * head.length))
        return Reading(self, text, slot)

    def read(self, slot: Slot, ids: Sequence[int]) -> Tensor | None:
        """Make `slot` hold `ids`, computing what it lacks → logits (V,) after the last, if any.

        Raises `ContextFull`, `DeviceOutOfMemory`.
        """
        context = self._model.cache_shape.context_length
        if len(ids) > context:
            raise ContextFull(len(ids), context)
        slot.trim(common_prefix(slot.ids, ids))
        logits: Tensor | None = None
        while slot.length < len(ids):
            logits = self._run(partial(self._read_part, slot, ids))
        return logits

    def _read_part(self, slot: Slot, ids: Sequence[int]) -> Tensor:
        self._model.make_room(slot, len(ids))  # may empty it, where rotary scaling is dynamic
        part = ids[slot.length : slot.length + _CHUNK]
        self.num_read += len(part)
        logits: Tensor = self._model.forward(part, [(slot, len(part))])[0]
        return logits

    def close(self) -> None:
        """Free weights and kept beginnings."""
        with self._lock:
            while self._heads:
                self._heads.popitem()[1].release()
        self._model.unload()


class Reading:
    """One text. Not safe to share between threads."""

    def __init__(self, model: ReadingModel, text: str, slot: Slot) -> None:
        self._model = model
        self._parts: list[tuple[str, bool]] = [(text, True)]
        self._slot = slot

    def append(self, text: str, *, special: bool = False) -> None:
        """Put `text` at the end; control tokens are parsed only if `special`."""
        self._parts.append((text, special))

    def logprobs(self, candidates: Sequence[str]) -> Sequence[float]:
        """Natural-log probabilities of the first token of each candidate as the next token."""
        tokenizer = self._model.tokenizer
        ids = tokenizer.encode_mixed(self._parts)
        firsts = [tokenizer.encode(candidate, continues=True)[:1] for candidate in candidates]
        if not ids or not all(firsts):
            raise PromptEmpty("There is nothing to read, or nothing to ask for.")
        if common_prefix(self._slot.ids, ids) == len(ids):  # its last logits were not kept
            self._slot.trim(len(ids) - 1)
        logits = self._model.read(self._slot, ids)
        assert logits is not None
        values = logits.float().log_softmax(-1)
        return [float(values[first[0]]) for first in firsts]

    def mark(self) -> int:
        """A place to come back to."""
        return len(self._parts)

    def crop(self, mark: int) -> None:
        """Forget what was appended since `mark`. Its keys and values go when the text goes on."""
        del self._parts[mark:]

    def close(self) -> None:
        """Free the keys and values."""
        self._slot.release()
