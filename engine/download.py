"""Fetching a model: whole files only, each checked by its hash, and going on where it stopped.

Files grow in `models/.partial/<owner>--<name>/` and move into place when all of them are whole, so
half a model is never taken for a model. A stop, a lost connection or a full disk keeps what is
there; the next call goes on behind it. `owner/name:Q4_K_M` is one quantization of a repository's
GGUF files.
"""

from __future__ import annotations

import contextlib
import errno
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

from engine.catalog import known
from engine.errors import CheckpointMissing, DiskRefused
from engine.hub import Hub, RemoteFile, Repository
from engine.transfer import Meter, Progress, Transfer

PARTIAL = ".partial"
SOURCE = "corral-source.json"
_SAFE = re.compile(r"[\w.-]*")  # of a quantization, which becomes a part of a folder's name
_SPARE_BYTES = 256 * 1024 * 1024  # left on the disk for everything else


def repository_name(name: str) -> str:
    """`owner/name` of a known short name, or `name` itself, with the quantization behind it.

    Raises `CheckpointMissing`.
    """
    repository, quantization = _parted(name.strip())
    model = known(repository)
    leaves = any(part in ("", ".", "..") for part in repository.split("/"))
    is_name = model is not None or (repository.count("/") == 1 and not leaves)
    if not is_name or not _SAFE.fullmatch(quantization):
        raise CheckpointMissing(
            f"There is no known model {name!r}. `python -m engine models` lists them; any other "
            "is given as owner/name, one of its GGUF files as owner/name:Q4_K_M."
        )
    repository = model.repo if model else repository
    return f"{repository}:{quantization}" if quantization else repository


def _parted(name: str) -> tuple[str, str]:
    repository, _, quantization = name.partition(":")
    return repository, quantization


def destination(name: str, models: Path) -> Path:
    """The folder under `models` in which a download of `owner/name` ends."""
    repository, quantization = _parted(name)
    model = None if quantization else known(repository)
    return models / (model.name if model else repository)


def download(
    hub: Hub,
    name: str,
    models: Path,
    *,
    cancel: Event,
    progress: Callable[[Progress], None] = lambda _progress: None,
    retry_seconds: float = 1.0,
) -> Path:
    """Fetch `owner/name` into `models` and return its folder, or its GGUF file. Blocks.

    Fetches nothing if it is there already (of GGUF files the hub must say which). Waits
    `retry_seconds`, doubling, when a connection is lost. Raises what `Hub.look_up` does,
    `DiskRefused`, `DownloadDamaged` (a file does not have its hash) and `DownloadCancelled`.
    """
    target = destination(name, models)
    wanted, quantization = _parted(name)
    if (target / "config.json").is_file() and not quantization:
        return target
    repository = hub.look_up(wanted, quantization)
    if repository.is_gguf and all(_is_there(target, file) for file in repository.files):
        return target / repository.files[0].local
    partial = _partial(name, models)
    try:
        partial.mkdir(parents=True, exist_ok=True)
        _check_room(repository, partial)
        meter = Meter(repository.num_bytes, progress)
        for file in repository.files:
            Transfer(hub, repository, file, partial, meter, cancel, retry_seconds).run()
        source = {"repository": name, "commit": repository.commit, "licence": repository.licence}
        (partial / SOURCE).write_text(json.dumps(source, indent=1), encoding="utf-8")
        return _moved(repository, partial, target)
    except OSError as error:
        raise _disk_error(error, models) from error


def _is_there(folder: Path, file: RemoteFile) -> bool:
    """Whether the file lies there whole: only checked ones are moved there."""
    path = folder / file.local
    return path.is_file() and path.stat().st_size == file.num_bytes


def _moved(repository: Repository, partial: Path, target: Path) -> Path:
    """Put what is whole in its place → the model: its folder, or the first of its GGUF files."""
    if not repository.is_gguf:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(target)
        path = target
    else:  # several quantizations share a folder; the first part, which is the model, comes last
        target.mkdir(parents=True, exist_ok=True)
        for file in reversed(repository.files):
            (partial / file.local).replace(target / file.local)
        path = target / repository.files[0].local
        (partial / SOURCE).replace(path.with_suffix(f".{SOURCE}"))
        partial.rmdir()
    with contextlib.suppress(OSError):  # other downloads may still be in it
        partial.parent.rmdir()
    return path


def discard(name: str, models: Path) -> None:
    """Remove what an unfinished download of `owner/name` left."""
    shutil.rmtree(_partial(name, models), ignore_errors=True)


def unfinished(models: Path) -> list[tuple[str, int]]:
    """What stopped downloads left, as (owner/name, bytes), sorted by name."""
    folders = [folder for folder in (models / PARTIAL).glob("*--*") if folder.is_dir()]
    return sorted((_named(folder), _stored(folder)) for folder in folders)


def _partial(name: str, models: Path) -> Path:
    """Where the files of `owner/name:quantization` grow. No name on the hub holds two dashes."""
    return models / PARTIAL / name.replace("/", "--").replace(":", "--")


def _named(partial: Path) -> str:
    return partial.name.replace("--", "/", 1).replace("--", ":", 1)


def _stored(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())


def _check_room(repository: Repository, partial: Path) -> None:
    needed = max(0, repository.num_bytes - _stored(partial)) + _SPARE_BYTES
    free = shutil.disk_usage(partial).free
    if free < needed:
        raise DiskRefused(
            f"{repository.name} needs {needed / 1e9:.1f} GB, the disk with {partial.parent.parent} "
            f"has {free / 1e9:.1f} GB. Make room, or choose another data folder."
        )


def _disk_error(error: OSError, models: Path) -> DiskRefused:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskRefused(
            f"The disk with {models} is full. Make room and try again; what was downloaded is kept."
        )
    reason: Any = error.strerror or error
    return DiskRefused(f"The model cannot be written to {models}: {reason}.")
