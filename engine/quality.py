"""What a precision costs a model: bits per byte of a short fixed text, against bfloat16.

Measured when float weights are quantized for the first time, layer by layer, so that the model is
never held twice; kept in a small file beside the data, by the model's fingerprint. int8 is only
taken unasked where it passes; a precision that was asked for stays, with a warning.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from engine.device import free_bytes
from engine.kv_cache import Slot
from engine.llama import Llama
from engine.quantize import Precision
from engine.tensors import Weights
from engine.weights import read_by_layers

log = logging.getLogger(__name__)

# How many more bits per byte than in bfloat16 a precision may take, as a part of them.
LIMITS: Mapping[Precision, float] = {"int8": 0.01, "int4": 0.05, "int4-128": 0.05}
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
        table = 2 * config.vocab_size * config.hidden_size  # in bfloat16
        if free_bytes(model.device) < 4 * table:
            log.info("quality not measured: too little memory is free")
            return None
        ids = self._ids[: model.cache_shape.context_length]
        exact = _bits(read_by_layers(checkpoint, ids[:-1], "bf16", model.device), ids)
        quality = Quality(model.precision, _bits(_read(model, ids[:-1]), ids), exact)
        self._keep(quality, self._folder)
        return quality

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


def _read(model: Llama, ids: Sequence[int]) -> Tensor:
    slot = Slot(model.cache_shape)
    model.make_room(slot, len(ids))
    return model.forward(ids, [(slot, len(ids))], every=True)


def _bits(logits: Tensor, ids: Sequence[int]) -> float:
    """Bits per byte of the text, by the logits (n - 1, V) before each of its tokens but one."""
    targets = torch.tensor(ids[1:], device=logits.device).unsqueeze(1)
    chosen = logits.log_softmax(dim=-1).gather(1, targets)
    return float(-chosen.sum()) / math.log(2) / len(TEXT.encode())
