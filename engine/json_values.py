"""Small JSON files of a checkpoint, and single values of them, checked before they are believed."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Mapping
from pathlib import Path
from stat import S_ISREG
from typing import Any, cast

from engine.errors import CheckpointBroken, CheckpointMissing

MAX_CONFIG_BYTES = 4 << 20  # the largest real ones, with label tables, stay below 1 MB
MAX_TOKENIZER_BYTES = 256 << 20  # vocabularies of a quarter of a million tokens have some 35 MB


def short(value: object) -> str:
    """A value as messages show it: cut where it is long, since a file may hold anything."""
    return reprlib.repr(value)


def refuse_huge(path: Path, most_bytes: int = MAX_CONFIG_BYTES) -> None:
    """Raise `CheckpointBroken` if a file that is read whole is larger than any real one."""
    if (size := path.stat().st_size) > most_bytes:
        raise CheckpointBroken(
            f"{path.name} in {path.parent} has {size} bytes, more than any real one: download it "
            "again."
        )


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object from a small file. Raises `CheckpointMissing` or `CheckpointBroken`."""
    try:
        found = path.stat()
        if not S_ISREG(found.st_mode):  # a pipe would be waited for without end
            raise CheckpointBroken(f"{path.name} in {path.parent} is no file: download it again.")
        refuse_huge(path)
        value = json.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError as error:
        raise CheckpointMissing(f"{path.name} is missing in {path.parent}.") from error
    except OSError as error:
        raise CheckpointBroken(f"{path.name} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError, ValueError) as error:
        raise CheckpointBroken(f"{path.name} is not readable JSON: download it again.") from error
    if not isinstance(value, dict):
        raise CheckpointBroken(f"{path.name} holds no JSON object: download it again.")
    return value


def integer(
    raw: Mapping[str, Any], key: str, low: int, high: int, default: int | None = None
) -> int:
    """A whole number within bounds; null is as absent. Raises `CheckpointBroken`."""
    value = raw.get(key)
    if value is None:
        value = default
    if type(value) is not int or not low <= value <= high:
        raise CheckpointBroken(
            f"config.json has {key} = {short(value)}; a whole number from {low} to {high} belongs "
            "there."
        )
    return value


def number(
    raw: Mapping[str, Any], key: str, low: float, high: float, default: float | None = None
) -> float:
    """A finite number within bounds; null is as absent. Raises `CheckpointBroken`."""
    value = raw.get(key)
    if value is None:
        value = default
    if type(value) not in (int, float) or not (low <= cast(float, value) <= high):
        raise CheckpointBroken(
            f"config.json has {key} = {short(value)}; a number from {low:g} to {high:g} belongs "
            "there."
        )
    checked = float(cast(float, value))
    assert math.isfinite(checked)
    return checked


def flag(raw: Mapping[str, Any], key: str, default: bool = False) -> bool:
    """True or false; null is as absent. Raises `CheckpointBroken`."""
    value = raw.get(key)
    if value is None:
        return default
    if type(value) is not bool:
        raise CheckpointBroken(
            f"config.json has {key} = {short(value)}; true or false belongs there."
        )
    return value
