"""How a checkpoint's makers sample from it, by its `generation_config.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.base import Sampling
from engine.errors import SamplingInvalid
from engine.tokenizer import read_json

_NAMES = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
_OFF: dict[str, float] = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0}


def usual_sampling(folder: Path) -> Sampling:
    """The makers' values where the file asks for sampling, else `Sampling`'s own.

    What such a file leaves out is off there, as in transformers. Values outside their range are
    as if there were none. Raises `CheckpointBroken` if the file is no JSON object.
    """
    given = read_json(folder / "generation_config.json")
    if given.get("do_sample") is not True:
        return Sampling()
    values: dict[str, Any] = dict(_OFF)
    for name in _NAMES:
        value = given.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            values[name] = value
    try:
        return Sampling(**{**values, "top_k": int(values["top_k"])})
    except (SamplingInvalid, ValueError, OverflowError):
        return Sampling()
