"""`pip install` in an environment: all output in the log, a short account on the terminal."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from launch.environment import DROPPED
from launch.place import Problem, log, venv_python

TICK_SECONDS = 15  # a line that says "still there" while pip is silent


def pip_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The caller's environment, less what would send packages elsewhere than into the venv."""
    unwanted = DROPPED | {"PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER"}
    kept = {name: value for name, value in environ.items() if name not in unwanted}
    return {
        **kept,
        "PYTHONNOUSERSITE": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def pip(venv: Path, arguments: Sequence[str], what: str) -> None:
    """`pip install` with its output in the log and a short account on the terminal."""
    python = venv_python(venv)
    # Bytecode is written at the first import, of what is imported: compiling all of it doubles the
    # time of an installation.
    quiet = ["--progress-bar", "off", "--no-compile"]
    command = [str(python), "-m", "pip", "install", *quiet, *arguments]
    log.info("pip install %s", " ".join(arguments))
    errors: list[str] = []
    with (
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=pip_environment(),
        ) as child,
        _Account() as account,
    ):
        for line in child.stdout or ():
            log.info("pip: %s", line.rstrip())
            account.heard(line)
            if line.startswith("ERROR"):
                errors.append(line.removeprefix("ERROR:").strip())
    if child.returncode:
        why = errors[0] if errors else f"pip ended with status {child.returncode}."
        raise Problem(
            f"{what[0].upper()}{what[1:]} could not be installed: {why} The log has the whole "
            "output. Mend the cause and run the same command again; what is there is kept."
        )


class _Account:
    """Lines on the terminal while pip works: what it fetches, and that it still lives."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._started = time.monotonic()
        self._fetched = 0
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> _Account:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        self._thread.join()

    def heard(self, line: str) -> None:
        """Count a package; name the large downloads."""
        if line.startswith("Collecting "):
            self._fetched += 1
        elif size := re.match(r"\s+Downloading (\S+) \(([\d.]+ [MG]B)\)", line):
            name = size[1].rsplit("/", 1)[-1].split("-")[0]
            if size[2].endswith("GB") or float(size[2].split()[0]) >= 10:
                print(f"  fetching {name} ({size[2]})", flush=True)
        elif line.startswith("Installing collected packages"):
            print(f"  fetched {self._fetched}, unpacking", flush=True)

    def _tick(self) -> None:
        while not self._done.wait(TICK_SECONDS):
            seconds = time.monotonic() - self._started
            print(f"  still at it: {self._fetched} fetched, {seconds:.0f} s", flush=True)
