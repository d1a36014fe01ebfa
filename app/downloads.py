"""Downloads that the owner asked for: one at a time, in a process of its own.

This process stays offline (`HF_HUB_OFFLINE`). Only a click starts `python -m engine download`, and
that child alone speaks to the model hub. The token goes through its stdin: no command line and no
environment shows it. What was fetched is kept whatever ends the child, so the next one, also after
a new start of Corral, goes on behind it.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock, Thread
from typing import IO, Literal, cast

from app.credentials import MODEL_HUB, Credentials
from engine.catalog import known, model_name
from engine.download import discard, repository_name, unfinished

ROOT = Path(__file__).resolve().parent.parent
State = Literal["none", "running", "done", "stopped", "failed"]
_END_SECONDS = 5.0

log = logging.getLogger("corral.downloads")


class DownloadBusy(Exception):
    """Another model is being downloaded just now."""


@dataclass(frozen=True, slots=True)
class DownloadView:
    """The last download that was asked for. Sizes in bytes, over all files."""

    name: str = ""  # owner/name, or owner/name:quantization
    state: State = "none"
    num_done_bytes: int = 0
    num_total_bytes: int = 0  # 0 until the hub has said it
    bytes_per_second: float = 0.0
    seconds_left: float | None = None
    fault: str = ""  # if `state` is "failed": the error's class, "" if it died without a word
    problem: str = ""  # and its own sentence
    choices: tuple[tuple[str, int], ...] = ()  # quantizations to choose from, with their bytes
    model: str = ""  # if `state` is "done": the name under which it can be used

    @property
    def needs_token(self) -> bool:
        """Whether it failed because the repository is gated."""
        return self.state == "failed" and self.fault == "CheckpointGated"


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A download that was stopped at some time and can go on."""

    name: str
    num_done_bytes: int


class Downloads:
    """Starts, follows and stops downloads into `models`. Safe to call from several threads."""

    def __init__(self, models: Path, credentials: Credentials) -> None:
        self._models = models
        self._credentials = credentials
        self._lock = Lock()
        self._view = DownloadView()
        self._process: subprocess.Popen[str] | None = None
        self._follower: Thread | None = None
        self._stopping = False

    def view(self) -> DownloadView:
        """How far it is. Does not block."""
        with self._lock:
            return self._view

    def start(self, name: str) -> None:
        """Go online and fetch a known model or `owner/name`. Returns at once.

        Raises `CheckpointMissing` for a name that is neither, and `DownloadBusy`.
        """
        name = repository_name(name)
        with self._lock:
            if self._view.state == "running":
                raise DownloadBusy(self._view.name)
            self._stopping = False
            process = self._spawn(name)
            self._process = process
            self._view = DownloadView(name, "running")
        assert process.stdin is not None and process.stderr is not None
        with process.stdin as stdin:
            stdin.write(self._credentials.get(MODEL_HUB) + "\n")
        self._follower = Thread(
            target=self._follow, args=(process, process.stderr), name="download", daemon=True
        )
        self._follower.start()

    def stop(self) -> None:
        """End the running download, and wait a little until it has; what was fetched is kept."""
        with self._lock:
            if self._process is None or self._view.state != "running":
                return
            self._stopping = True
            self._process.terminate()
            follower = self._follower
        if follower is not None:
            follower.join(_END_SECONDS)

    def unfinished(self) -> list[Unfinished]:
        """What earlier downloads left, by name, without the one that runs."""
        running = self.view()
        return [
            Unfinished(shown_name(name), num_bytes)
            for name, num_bytes in unfinished(self._models)
            if not (running.state == "running" and running.name == name)
        ]

    def discard(self, name: str) -> None:
        """Remove what an unfinished download left. Raises `DownloadBusy` while it runs."""
        name = repository_name(name)
        with self._lock:
            if self._view.state == "running" and self._view.name == name:
                raise DownloadBusy(name)
            if self._view.name == name:
                self._view = DownloadView()
        discard(name, self._models)

    def close(self) -> None:
        """Stop, with force if need be."""
        self.stop()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def _spawn(self, name: str) -> subprocess.Popen[str]:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
        command = [sys.executable, "-m", "engine", "download", name, "--json"]
        return subprocess.Popen(
            [*command, "--models", str(self._models), "--token-file", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "PYTHONPATH": path},
        )

    def _follow(self, process: subprocess.Popen[str], lines: IO[str]) -> None:
        """Read what the process says until it has ended."""
        with lines:
            for line in lines:
                told = _object(line)
                with self._lock:
                    self._view = _after(self._view, told, self._models)
        status = process.wait()
        with self._lock:
            self._view = self._ended(status)
            log.info("a download ended: %s", self._view.state)

    def _ended(self, status: int) -> DownloadView:
        if status == 0:
            return replace(self._view, state="done", num_done_bytes=self._view.num_total_bytes)
        if self._stopping and not self._view.fault:
            return replace(self._view, state="stopped")
        return replace(self._view, state="failed")


def _object(line: str) -> Mapping[str, object]:
    """A line of JSON; anything else (a warning of a library) says nothing."""
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def shown_name(name: str) -> str:
    """The short name of a known repository, or `name` itself."""
    model = known(name)
    return model.name if model else name


def _after(view: DownloadView, told: Mapping[str, object], models: Path) -> DownloadView:
    """The view after one line of progress, of an error, or of where the model lies."""
    if "error" in told:
        choices = cast(Sequence[tuple[str, int]], told.get("choices") or ())
        return replace(
            view,
            fault=str(told["error"]),
            problem=str(told.get("text", "")),
            choices=tuple((str(name), int(size)) for name, size in choices),
        )
    if "path" in told:
        return replace(view, model=model_name(Path(str(told["path"])), models))
    if "num_total_bytes" not in told:
        return view
    left = told.get("seconds_left")
    return replace(
        view,
        num_done_bytes=int(str(told["num_done_bytes"])),
        num_total_bytes=int(str(told["num_total_bytes"])),
        bytes_per_second=float(str(told["bytes_per_second"])),
        seconds_left=None if left is None else float(str(left)),
    )
