"""What a precision costs a model: bits per byte of a short fixed text, against bfloat16.

Measured when float weights are quantized for the first time, and kept in a small file beside the
data, by the model's fingerprint. The weights are read once more for it, layer by layer, so that
beside the model there is never more than a layer or a table of embeddings in bfloat16
(`engine.fit.checking_bytes`); where that finds no room, or would take longer than `MOST_SECONDS`,
nothing is measured and the log says so. int8 is only taken unasked where it passes; a precision
that was asked for stays, with a warning.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from engine.device import free_bytes
from engine.fit import checking_bytes
from engine.kv_cache import Slot
from engine.llama import Llama
from engine.memory import give_back
from engine.quantize import Precision
from engine.tensors import Weights
from engine.weights import read_by_layers

log = logging.getLogger(__name__)

# How many more bits per byte than in bfloat16 a precision may take, as a part of them.
LIMITS: Mapping[Precision, float] = {"int8": 0.01, "int4": 0.05, "int4-128": 0.05}
MOST_SECONDS = 30.0  # for reading the weights once more; a disk may be slow
_FREE = 1.25  # so many times the memory that it takes must be free
_PART = 8  # tokens a pass: few, so that what is measured is how replies are written
# Prose, numbers, a dialogue and code: written for this check, so that no model has learned it.
TEXT = """The ferry to Hallan leaves at 6:40 and takes 95 minutes, so whoever misses it waits.
Mara asked the man at the quay whether bicycles were allowed. "Two per crossing," he said, "and only
if the sea is calm." She counted 37 people in the queue, more than the boat could hold.

def boats_needed(people: int, seats: int = 24) -> int:
    return -(-people // seats)
"""


class Encoder(Protocol):
    """What is needed of a tokenizer."""

    @property
    def bos_id(self) -> int | None:
        """What a text begins with, if anything."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids of plain text."""
        ...


@dataclass(frozen=True, slots=True)
class Quality:
    """Bits per byte in `precision` and in bfloat16."""

    precision: Precision
    bits: float
    exact_bits: float

    @property
    def lost(self) -> float:
        """How many more bits are needed, as a part of those in bfloat16; not a number counts."""
        lost = self.bits / self.exact_bits - 1
        return lost if math.isfinite(lost) else math.inf

    @property
    def passes(self) -> bool:
        """Whether that is within the limit."""
        return self.lost <= LIMITS[self.precision]

    def __str__(self) -> str:
        return (
            f"{self.precision} takes {self.lost:+.2%} bits per byte against bf16 "
            f"(limit {LIMITS[self.precision]:.0%})"
        )


class QualityCheck:
    """Measures, and remembers what it measured."""

    def __init__(self, fingerprint: str, tokenizer: Encoder, folder: Path | None = None) -> None:
        """`folder` holds what is known, a file for each model; without one nothing is measured."""
        bos = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
        self._ids = [*bos, *tokenizer.encode(TEXT)]
        self._fingerprint, self._folder = fingerprint, folder

    def of(self, model: Llama, checkpoint: Weights) -> Quality | None:
        """How good `model` is; None where nothing was quantized or there is no room to measure."""
        config = checkpoint.config
        if model.precision not in LIMITS or config.quantized or self._folder is None:
            return None
        known = known_quality(self._fingerprint, self._folder)
        if model.precision in known:
            return known[model.precision]
        if free_bytes(model.device) < _FREE * checking_bytes(config):
            log.info("quality not measured: too little memory is free")
            return None
        try:
            quality = self._measured(model, checkpoint)
        except _TooSlow as slow:
            log.info("quality not measured: it would take %.0f seconds", slow.seconds)
            return None
        self._keep(quality, self._folder)
        return quality

    def _measured(self, model: Llama, checkpoint: Weights) -> Quality:
        """Bits per byte before and after. Raises `_TooSlow`."""
        ids = self._ids[: model.cache_shape.context_length]
        watch = _Watch(checkpoint.config.num_hidden_layers)
        x, head = read_by_layers(checkpoint, ids[:-1], "bf16", model.device, watch)
        exact = _bits((head(part).float() for part in torch.split(x, _PART)), ids)
        del x, head
        give_back()
        log.info("quality measured in %.1f seconds", watch.seconds)
        return Quality(model.precision, _bits(_read(model, ids[:-1]), ids), exact)

    def _keep(self, quality: Quality, folder: Path) -> None:
        known = known_quality(self._fingerprint, folder) | {quality.precision: quality}
        rows = {name: (each.bits, each.exact_bits) for name, each in known.items()}
        file = folder / f"{self._fingerprint}.json"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            part = file.with_suffix(".part")
            part.write_text(json.dumps(rows), encoding="utf-8")
            part.replace(file)
        except OSError as error:  # it is measured again next time
            log.warning("the measured quality is not kept: %s", error.strerror)


def known_quality(fingerprint: str, folder: Path | None) -> dict[Precision, Quality]:
    """What was measured before and kept in `folder`; nothing if that is absent or damaged."""
    if folder is None:
        return {}
    try:
        rows = json.loads((folder / f"{fingerprint}.json").read_text(encoding="utf-8"))
        found = {name: (float(bits), float(exact)) for name, (bits, exact) in rows.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    return {name: Quality(name, *found[name]) for name in LIMITS if found.get(name, (0, 0))[1] > 0}


class _TooSlow(Exception):
    """Reading all layers would take `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class _Watch:
    """Foresees after each layer how long all of them will take."""

    def __init__(self, num_layers: int) -> None:
        self._num_layers = num_layers
        self._began = time.perf_counter()
        self._table_seconds = 0.0

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.perf_counter() - self._began

    def __call__(self, num_done: int) -> None:
        """So many layers are done. Raises `_TooSlow`."""
        if num_done == 0:
            self._table_seconds = self.seconds  # the head will take as long again
            return
        each = (self.seconds - self._table_seconds) / num_done
        foreseen = each * self._num_layers + 2 * self._table_seconds
        if foreseen > MOST_SECONDS:
            raise _TooSlow(foreseen)


def _read(model: Llama, ids: Sequence[int]) -> Iterator[Tensor]:
    """Logits after each of `ids`, some at a time."""
    slot = Slot(model.cache_shape)
    model.make_room(slot, len(ids))
    for start in range(0, len(ids), _PART):
        part = ids[start : start + _PART]
        yield model.forward(part, [(slot, len(part))], every=True)


def _bits(parts: Iterable[Tensor], ids: Sequence[int]) -> float:
    """Bits per byte of the text, by the logits (some, V) before each of its tokens but one."""
    nats, at = 0.0, 1
    for logits in parts:
        targets = torch.tensor(ids[at : at + len(logits)], device=logits.device).unsqueeze(1)
        nats -= float(logits.log_softmax(dim=-1).gather(1, targets).sum())
        at += len(logits)
    return nats / math.log(2) / len(TEXT.encode())
