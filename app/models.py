"""Which models there are to choose from, and the change from one to another.

Reads small files and headers only; nothing is loaded or fetched here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from app.settings import Settings
from engine.base import Engine
from engine.catalog import BUILT_IN, BUILT_IN_FOLDER, Purpose, installed, known, resolve
from engine.config import LlamaConfig, load_config
from engine.endpoint import Address, is_address
from engine.errors import DeviceOutOfMemory, EngineError
from engine.stores import Stores, find

# A CPU may hold 16-bit weights in 32 bit, so twice the files is what a model may take.
_BYTES_PER_STORED_BYTE = 2

# Weights of a folder, the format first that is preferred.
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "consolidated.*.pth", "adapter_model.bin")


class ModelBusy(Exception):
    """A model is being loaded just now; another one cannot be chosen before that has ended."""


class ModelUnloaded(Exception):
    """The model was unloaded to give its memory back; another one, or the same, can be chosen."""


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model on this machine. `problem`: why it cannot be loaded, one sentence, or ""."""

    name: str  # what `RunningModel.use` takes
    path: Path  # a folder, or one GGUF file
    num_parameters: int = 0
    context_length: int = 0
    stored_bytes: int = 0
    purpose: Purpose = "chat"
    problem: str = ""
    base: str = ""  # of an adapter: the model that it changes, as it says
    config: LlamaConfig | None = None  # None with a problem


def model_choices(settings: Settings, *, stores: Stores | None = None) -> list[ModelChoice]:
    """The built-in model, the one named at the start, what lies in the data folder and elsewhere.

    Reads each one's config or header; what Corral cannot run stays in the list, with why.
    """
    found = {BUILT_IN: BUILT_IN_FOLDER}
    given = Path(settings.model).expanduser()
    if settings.model != BUILT_IN and given.is_absolute() and given.exists():
        found[settings.model] = given
    others = [(each.name, each.path) for each in find(stores)]
    for name, path in (*installed(settings.data / "models"), *others):
        found.setdefault(name, path)
    return [_choice(name, path) for name, path in found.items()]


def find_model(settings: Settings) -> Path | None:
    """Where the model lies that `settings` name; None for one on another server.

    Raises `CheckpointMissing`, also for what is no address.
    """
    if is_address(settings.model):
        Address.parse(settings.model)
        return None
    return resolve(settings.model, models=settings.data / "models")


def _choice(name: str, path: Path) -> ModelChoice:
    about = known(name)
    purpose: Purpose = about.purpose if about else "chat"
    base = _base_of(path)
    try:
        config = config_of(path)
    except EngineError as error:
        return ModelChoice(name, path, purpose=purpose, problem=str(error), base=base)
    return ModelChoice(
        name,
        path,
        config.num_parameters,
        config.context_length,
        stored_bytes(path),
        purpose,
        base=base,
        config=config,
    )


def _base_of(path: Path) -> str:
    """The model that an adapter says it changes; "" for what is no adapter, or does not say."""
    if (path / "config.json").is_file():
        return ""
    try:
        told = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
        return str(told.get("base_model_name_or_path") or "")
    except (OSError, ValueError, AttributeError):
        return ""


def config_of(path: Path) -> LlamaConfig:
    """The config of a model; of a GGUF file or an adapter from its own header. Imports torch then.

    Raises `EngineError`.
    """
    if (path / "config.json").is_file():
        return load_config(path)[0]
    return _config_in_header(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)  # a header with its vocabulary takes a while to read
def _config_in_header(path: Path, _changed_ns: int) -> LlamaConfig:
    from engine.checkpoint import open_checkpoint

    return open_checkpoint(path).config


def stored_bytes(path: Path) -> int:
    """How much the weights of a folder, or of one file, take on the disk.

    A folder may hold the same weights in several formats: those count that would be read.
    """
    if not path.is_dir():
        return path.stat().st_size if path.is_file() else 0
    for pattern in _WEIGHTS:
        if files := [file for file in path.glob(pattern) if file.is_file()]:
            return sum(file.stat().st_size for file in files)
    return 0


def fits_beside(path: Path, device: str) -> bool:
    """Whether the model at `path` surely fits what is free now. Imports torch."""
    from engine.device import choose_device, free_bytes

    return stored_bytes(path) * _BYTES_PER_STORED_BYTE < free_bytes(choose_device(device))


def take_over(
    old: Engine | None,
    *,
    load_new: Callable[[], Engine],
    load_old: Callable[[], Engine],
    fits: Callable[[], bool],
) -> tuple[Engine, Exception | None]:
    """Load a new engine in place of `old` → the engine that answers now, and why it is the old one.

    `old` is closed when the new one is ready, or before, where there is no room for both; if the
    new one then cannot be loaded, the old one is loaded again. Raises what `load_new` raised if
    there was no old engine, or what `load_old` raised. Blocks.
    """
    closed = False
    try:
        if old is not None and not fits():
            old.close()
            closed = True
        try:
            new = load_new()
        except DeviceOutOfMemory:
            if old is None or closed:
                raise
            old.close()
            closed = True
            new = load_new()
    except Exception as error:
        if old is None:
            raise
        return (load_old() if closed else old), error
    if old is not None and not closed:
        old.close()
    return new, None
