"""One file on its way from the hub: taken up where it stopped, counted, and checked by its hash."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from engine.errors import CheckpointBroken, DownloadDamaged, HubUnreachable
from engine.hub import Hub, RemoteFile, Repository

_MAX_TRIES = 5  # without a new byte between them
_SPEED_WINDOW_SECONDS = 5.0
_REPORT_SECONDS = 0.1
_LEAST_BYTES_PER_SECOND = 1000.0  # below it a time would be days


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
        """None while the speed is not known, or next to nothing arrives."""
        if self.bytes_per_second < _LEAST_BYTES_PER_SECOND:
            return None
        return (self.num_total_bytes - self.num_done_bytes) / self.bytes_per_second


class Transfer:
    """One file on its way into `folder`; what is there of it already is not fetched again."""

    def __init__(
        self,
        hub: Hub,
        repository: Repository,
        file: RemoteFile,
        folder: Path,
        meter: Meter,
        cancel: Event,
        retry_seconds: float,
    ) -> None:
        self._hub, self._repository, self._file = hub, repository, file
        self._done, self._part = folder / file.local, folder / f"{file.local}.part"
        self._meter, self._cancel, self._retry_seconds = meter, cancel, retry_seconds

    def run(self) -> None:
        """Fetch the file and check it. Blocks. Raises what `Hub.open` does and what is said there.

        Besides, `DownloadDamaged` if it does not have its hash, `DownloadCancelled` and `OSError`.
        """
        if self._done.is_file() and self._done.stat().st_size == self._file.num_bytes:
            self._meter.skip(self._file.num_bytes)  # it was checked before it got this name
            return
        resumed = self._part.is_file() and self._part.stat().st_size > 0
        if not self._fetch() and resumed:
            # What was kept belonged to another commit, or was damaged: once from the beginning.
            self._fetch()
        if not self._part.is_file():
            raise DownloadDamaged(
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
            except DownloadDamaged:
                raise  # the hub contradicts itself: asking again does not help
            except (HubUnreachable, CheckpointBroken) as error:
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
                raise HubUnreachable(
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


class Meter:
    """Counts bytes over all files and reports them, at most ten times a second."""

    def __init__(self, num_total: int, report: Callable[[Progress], None]) -> None:
        self._num_total, self._report = num_total, report
        self._before = self._in_file = 0
        self._file = ""
        self._marks: deque[tuple[float, int]] = deque()
        self._arrived = 0
        self._reported = 0.0

    def skip(self, num_bytes: int) -> None:
        """A file was there already."""
        self._before += num_bytes

    def begin(self, file: str, offset: int) -> None:
        """Bytes of `file` arrive from `offset` on."""
        self._file, self._in_file = file, offset
        self._tell(time.monotonic())

    def add(self, num_bytes: int) -> None:
        """So many bytes have arrived."""
        self._in_file += num_bytes
        self._arrived += num_bytes
        now = time.monotonic()
        self._marks.append((now, self._arrived))
        while now - self._marks[0][0] > _SPEED_WINDOW_SECONDS:
            self._marks.popleft()
        if now - self._reported >= _REPORT_SECONDS:
            self._tell(now)

    def end(self, num_bytes: int) -> None:
        """The file of that size is whole."""
        self._before, self._in_file = self._before + num_bytes, 0
        self._tell(time.monotonic())

    def _tell(self, now: float) -> None:
        self._reported = now
        span = now - self._marks[0][0] if self._marks else 0.0
        speed = (self._arrived - self._marks[0][1]) / span if span > 0 else 0.0
        done = self._before + self._in_file
        self._report(Progress(self._file, done, self._num_total, speed))
