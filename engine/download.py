"""Fetching a model: whole files only, each checked by its hash, and going on where it stopped.

Files grow in `models/.partial/<owner>--<name>/` and the finished folder is moved into place in one
step, so half a model is never taken for a model. A stop, a lost connection or a full disk keeps
what is there; the next call goes on behind it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import shutil
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from engine.base import CheckpointBroken, CheckpointMissing, ServerUnreachable
from engine.catalog import known
from engine.hub import Hub, RemoteFile, Repository

PARTIAL = ".partial"
SOURCE = "corral-source.json"
_SPARE_BYTES = 256 * 1024 * 1024  # left on the disk for everything else
_MAX_TRIES = 5  # without a new byte between them
_SPEED_WINDOW_SECONDS = 5.0
_REPORT_SECONDS = 0.1


class DownloadCancelled(Exception):
    """Somebody stopped the download. What was fetched is kept."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a download is. Sizes in bytes, over all files."""

    file: str
    num_done_bytes: int
    num_total_bytes: int
    bytes_per_second: float

    @property
    def seconds_left(self) -> float | None:
        """None while the speed is not known."""
        if self.bytes_per_second <= 0:
            return None
        return (self.num_total_bytes - self.num_done_bytes) / self.bytes_per_second


def repository_name(name: str) -> str:
    """`owner/name` of a known short name, or `name` itself. Raises `CheckpointMissing`."""
    model = known(name)
    if model is None and name.count("/") != 1:
        raise CheckpointMissing(
            f"There is no known model {name!r}. `python -m engine models` lists them; any other "
            "is given as owner/name."
        )
    return model.repo if model else name


def destination(name: str, models: Path) -> Path:
    """The folder under `models` that a download of `owner/name` becomes."""
    model = known(name)
    return models / (model.name if model else name)


def download(
    hub: Hub,
    name: str,
    models: Path,
    *,
    cancel: Event,
    progress: Callable[[Progress], None] = lambda _progress: None,
    retry_seconds: float = 1.0,
) -> Path:
    """Fetch `owner/name` into `models` and return its folder. Blocks.

    Returns at once if it is there already. Waits `retry_seconds`, doubling, when a connection is
    lost. Raises `CheckpointMissing` (no access, or no room on the disk), `CheckpointBroken` (a file
    does not have its hash), `CheckpointUnsafe`, `ServerUnreachable`, `DownloadCancelled`.
    """
    target = destination(name, models)
    if (target / "config.json").is_file():
        return target
    repository = hub.look_up(name)
    partial = models / PARTIAL / name.replace("/", "--")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        _check_room(repository, partial)
        meter = _Meter(repository.num_bytes, progress)
        for file in repository.files:
            _Transfer(hub, repository, file, partial, meter, cancel, retry_seconds).run()
        source = {"repository": name, "commit": repository.commit, "licence": repository.licence}
        (partial / SOURCE).write_text(json.dumps(source, indent=1), encoding="utf-8")
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(target)
    except OSError as error:
        raise _disk_error(error, models) from error
    with contextlib.suppress(OSError):  # other downloads may still be in it
        (models / PARTIAL).rmdir()
    return target


def discard(name: str, models: Path) -> None:
    """Remove what an unfinished download of `owner/name` left."""
    shutil.rmtree(models / PARTIAL / name.replace("/", "--"), ignore_errors=True)


def unfinished(models: Path) -> list[tuple[str, int]]:
    """What stopped downloads left, as (owner/name, bytes), sorted by name."""
    folders = [folder for folder in (models / PARTIAL).glob("*--*") if folder.is_dir()]
    sizes = [(folder.name.replace("--", "/", 1), _stored(folder)) for folder in folders]
    return sorted(sizes)


def _stored(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())


class _Transfer:
    """One file on its way."""

    def __init__(
        self,
        hub: Hub,
        repository: Repository,
        file: RemoteFile,
        folder: Path,
        meter: _Meter,
        cancel: Event,
        retry_seconds: float,
    ) -> None:
        self._hub, self._repository, self._file = hub, repository, file
        self._done, self._part = folder / file.name, folder / f"{file.name}.part"
        self._meter, self._cancel, self._retry_seconds = meter, cancel, retry_seconds

    def run(self) -> None:
        if self._done.is_file() and self._done.stat().st_size == self._file.num_bytes:
            self._meter.skip(self._file.num_bytes)  # it was checked before it got this name
            return
        resumed = self._part.is_file() and self._part.stat().st_size > 0
        if not self._fetch() and resumed:
            # What was kept belonged to another commit, or was damaged: once from the beginning.
            self._fetch()
        if not self._part.is_file():
            raise CheckpointBroken(
                f"{self._file.name} of {self._repository.name} arrived damaged: its hash is not "
                "the one the hub names. Try again later; if it stays so, tell its owner."
            )
        self._part.replace(self._done)

    def _fetch(self) -> bool:
        """Get the rest of the file; False, and no `.part` left, if its hash is wrong."""
        tries = 0
        while True:
            before = self._size()
            try:
                return self._stream()
            except (ServerUnreachable, CheckpointBroken) as error:
                tries = 1 if self._size() > before else tries + 1
                if tries >= _MAX_TRIES:
                    raise
                if isinstance(error, CheckpointBroken):
                    self._forget()
                if self._cancel.wait(self._retry_seconds * 2 ** (tries - 1)):
                    raise DownloadCancelled from error

    def _stream(self) -> bool:
        offset, expected = self._size(), self._file.num_bytes
        if offset > expected:
            self._forget()
            offset = 0
        self._meter.begin(self._file.name, offset)
        if offset < expected or not self._part.is_file():
            with self._hub.open(self._repository, self._file, offset) as (start, blocks):
                self._meter.begin(self._file.name, start)
                with self._part.open("r+b" if start else "wb") as part:
                    part.seek(start)
                    for block in blocks:
                        self._stop_if_cancelled()
                        block = block[: expected - part.tell()]  # what is more was not announced
                        part.write(block)
                        self._meter.add(len(block))
                        if part.tell() == expected:
                            break
            if self._size() < expected:
                raise ServerUnreachable(
                    "The connection to the model hub was lost. What was downloaded is kept; try "
                    "again to go on."
                )
        if self._hash_is_right():
            self._meter.end(expected)
            return True
        self._forget()
        return False

    def _hash_is_right(self) -> bool:
        file = self._file
        if file.sha256:
            digest, expected = hashlib.sha256(), file.sha256
        elif file.git_sha1:
            digest = hashlib.sha1(b"blob %d\0" % self._size(), usedforsecurity=False)
            expected = file.git_sha1
        else:
            return self._size() == file.num_bytes
        with self._part.open("rb") as part:
            while block := part.read(1 << 20):
                self._stop_if_cancelled()
                digest.update(block)
        return digest.hexdigest() == expected

    def _size(self) -> int:
        return self._part.stat().st_size if self._part.is_file() else 0

    def _forget(self) -> None:
        self._part.unlink(missing_ok=True)

    def _stop_if_cancelled(self) -> None:
        if self._cancel.is_set():
            raise DownloadCancelled


class _Meter:
    """Counts bytes over all files and reports them, at most ten times a second."""

    def __init__(self, num_total: int, report: Callable[[Progress], None]) -> None:
        self._num_total, self._report = num_total, report
        self._before = self._in_file = 0
        self._file = ""
        self._marks: deque[tuple[float, int]] = deque()
        self._arrived = 0
        self._reported = 0.0

    def skip(self, num_bytes: int) -> None:
        self._before += num_bytes

    def begin(self, file: str, offset: int) -> None:
        self._file, self._in_file = file, offset
        self._tell(time.monotonic())

    def add(self, num_bytes: int) -> None:
        self._in_file += num_bytes
        self._arrived += num_bytes
        now = time.monotonic()
        self._marks.append((now, self._arrived))
        while now - self._marks[0][0] > _SPEED_WINDOW_SECONDS:
            self._marks.popleft()
        if now - self._reported >= _REPORT_SECONDS:
            self._tell(now)

    def end(self, num_bytes: int) -> None:
        self._before, self._in_file = self._before + num_bytes, 0
        self._tell(time.monotonic())

    def _tell(self, now: float) -> None:
        self._reported = now
        span = now - self._marks[0][0] if self._marks else 0.0
        speed = (self._arrived - self._marks[0][1]) / span if span > 0 else 0.0
        done = self._before + self._in_file
        self._report(Progress(self._file, done, self._num_total, speed))


def _check_room(repository: Repository, partial: Path) -> None:
    needed = max(0, repository.num_bytes - _stored(partial)) + _SPARE_BYTES
    free = shutil.disk_usage(partial).free
    if free < needed:
        raise CheckpointMissing(
            f"{repository.name} needs {needed / 1e9:.1f} GB, the disk with {partial.parent.parent} "
            f"has {free / 1e9:.1f} GB. Make room, or choose another data folder."
        )


def _disk_error(error: OSError, models: Path) -> CheckpointMissing:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CheckpointMissing(
            f"The disk with {models} is full. Make room and try again; what was downloaded is kept."
        )
    reason: Any = error.strerror or error
    return CheckpointMissing(f"The model cannot be written to {models}: {reason}.")
