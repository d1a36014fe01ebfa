"""Starts Corral on this machine, or opens the one that already runs on the same data folder.

The running one is known by `run.json` in the data folder, which it writes, readable by its owner
alone, once it answers. The secret in it buys a fresh one-time address (`POST /corral/launch`).
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.settings import Settings
from launch.environment import clean_environment
from launch.install import install
from launch.place import (
    Problem,
    close_log,
    log,
    open_log,
    prepare_data_folder,
    say,
    venv_python,
)

RUN_FILE = "run.json"
LAUNCH_PATH = "/corral/launch"
ANSWER_SECONDS = 5
END_SECONDS = 15  # an ending server finishes writing what it has


@dataclass(frozen=True, slots=True)
class Running:
    """What a running Corral wrote about itself."""

    pid: int
    port: int
    secret: str

    @classmethod
    def read(cls, data: Path) -> Running | None:
        """None where there is no such file or it makes no sense (a crash left it)."""
        try:
            found = json.loads((data / RUN_FILE).read_text(encoding="utf-8"))
            return cls(int(found["pid"]), int(found["port"]), str(found["secret"]))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def entrance(self) -> str | None:
        """A fresh one-time address, or None if nobody who knows the secret answers there."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        try:
            headers = {"Authorization": f"Bearer {self.secret}"}
            connection.request("POST", LAUNCH_PATH, headers=headers)
            answer = connection.getresponse()
            if answer.status != 200:
                return None
            url = json.loads(answer.read(10_000))["url"]
        except (OSError, ValueError, TypeError, KeyError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        ours = (f"http://127.0.0.1:{self.port}/", f"http://localhost:{self.port}/")
        return url if isinstance(url, str) and url.startswith(ours) else None


def find_running(data: Path) -> tuple[Running, str] | None:
    """The Corral that runs on this data folder, with a one-time address."""
    running = Running.read(data)
    address = running.entrance() if running else None
    return (running, address) if running and address else None


def refuse_running(data: Path, what: str) -> None:
    """Raise `Problem` while Corral runs on this folder."""
    found = find_running(data)
    if found:
        raise Problem(
            f"Corral is running on {data} (process {found[0].pid}). Stop it with Ctrl-C in its "
            f"window, then {what}."
        )


def start(settings: Settings, argv: Sequence[str]) -> int:
    """Install if need be, start, wait; returns the exit status. Blocks while Corral runs."""
    found = find_running(settings.data)
    if found:
        return open_running(found[1], settings)
    prepare_data_folder(settings.data)
    log_file = open_log(settings.data)
    try:
        install()
    except Problem as problem:
        log.error("%s", problem)
        raise Problem(f"{problem} (log: {log_file})") from problem
    return serve(settings, argv, log_file)


def open_running(address: str, settings: Settings) -> int:
    """Lead the person to the Corral that already runs."""
    if settings.browser and has_screen() and webbrowser.open(address):
        print("Corral already runs on this data folder; it opens in the browser.")
    else:
        print(f"Corral already runs on this data folder. Open it, once, at: {address}")
    return 0


def has_screen() -> bool:
    """Whether a browser can show: elsewhere only a text browser would take over the terminal."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def serve(settings: Settings, argv: Sequence[str], log_file: Path) -> int:
    """Run `python -m app` until it ends. Ctrl-C ends it in order."""
    say("Starting Corral. Ctrl-C ends it.")
    command = [str(venv_python()), "-m", "app", *absolute(settings, argv)]
    environment = clean_environment(settings.data, absolute_environ(settings, os.environ))
    close_log()  # from here on the file is the server's
    child = subprocess.Popen(command, cwd=settings.data / "run" / "empty", env=environment)
    try:
        status = child.wait()
    except KeyboardInterrupt:
        status = _end(child)
    open_log(settings.data)
    log.info("ended with status %d", status)
    if status not in (0, 130, -2) and status != 2:  # 2: the server said itself what was wrong
        print(f"Corral ended unexpectedly (status {status}). What happened is in {log_file}.")
    return status if status >= 0 else 128 - status


def _end(child: subprocess.Popen[bytes]) -> int:
    """The terminal has sent Ctrl-C to the child as well: wait for it, then insist."""
    insistences: list[Callable[[], None]] = [lambda: None, child.terminate, child.kill]
    for insist in insistences:
        insist()
        try:
            child.wait(END_SECONDS)
            return 0
        except subprocess.TimeoutExpired:
            log.warning("the server did not end within %d seconds", END_SECONDS)
        except KeyboardInterrupt:
            print("Ending ...", file=sys.stderr)
    return 1


def absolute(settings: Settings, argv: Sequence[str]) -> list[str]:
    """The same choices for a process that works in another folder."""
    words = [word for word in argv if word]
    if settings.origin("model") == "command line":
        words.append(f"--model={settings.model}")
    return [*words, f"--data={settings.data}"]  # the later of two wins


def absolute_environ(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment with a relative `CORRAL_MODEL` made absolute."""
    if settings.origin("model") != "environment":
        return dict(environ)
    return {**environ, "CORRAL_MODEL": settings.model}
