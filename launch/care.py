"""Update: fetch the new version, try it out, and go back to the old one if it fails."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from app.settings import Settings
from launch import install as installation
from launch.environment import clean_environment
from launch.place import (
    ROOT,
    VENV,
    Problem,
    close_log,
    log,
    open_log,
    prepare_data_folder,
    say,
    venv_python,
)
from launch.start import END_SECONDS, Running, refuse_running

DATABASE = "corral.db"
NEW_VENV = VENV.with_name(".venv-new")
OLD_VENV = VENV.with_name(".venv-old")
TRIAL_SECONDS = 120


def update(settings: Settings) -> int:
    """Fetch, install beside, try out, swap. Whatever fails, the old version stays in place."""
    refuse_running(settings.data, "run the update again")
    prepare_data_folder(settings.data)
    log_file = open_log(settings.data)
    back_up(settings.data)
    before = fetch()
    close_log()  # from here on the file is the other process's
    try:
        # A process of its own: the files it runs may just have been replaced.
        code = "import sys; from launch.care import renewal; sys.exit(renewal(sys.argv[1]))"
        if subprocess.call([sys.executable, "-c", code, str(settings.data)], cwd=ROOT):
            raise Problem("The new version could not be installed or did not start.")
    except (Problem, OSError, KeyboardInterrupt) as error:
        open_log(settings.data)
        if before:
            _git("reset", "--keep", before)
        installation.remove_environment(NEW_VENV)
        raise Problem(
            f"{str(error) or 'Stopped.'} The version from before is in place again and nothing was "
            f"lost. What happened is in {log_file}."
        ) from error
    open_log(settings.data)
    say("Corral is up to date. Start it with `python3 launcher.py`.")
    return 0


def back_up(data: Path) -> None:
    """A checked copy of the database, before anything changes."""
    if not (data / DATABASE).exists():
        return
    command = [
        str(venv_python()),
        "-m",
        "storage",
        "backup",
        str(data / DATABASE),
        str(data / "backups"),
        "--reason=update",
    ]
    if not venv_python().exists():
        raise Problem("There is no installation to update. Type `python3 launcher.py` instead.")
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    log.info("backup: status %d\n%s", run.returncode, run.stdout + run.stderr)
    if run.returncode:
        raise Problem(
            f"The backup before the update failed: {run.stderr.strip()} "
            "Nothing was changed. `python3 launcher.py check` tells more."
        )
    say(f"Backup made in {data / 'backups'}.")


def fetch() -> str:
    """Take the new version with git; returns the commit from before, or "" where nothing moved."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        say("This folder is not a git checkout: taking what lies in it now as the new version.")
        return ""
    before = _git("rev-parse", "HEAD").stdout.strip()
    if not _git("remote").stdout.strip():
        say("This checkout has no remote: taking what lies in it now as the new version.")
        return ""
    say("Fetching the new version.")
    pulled = _git("pull", "--ff-only")
    if pulled.returncode:
        raise Problem(
            f"The new version cannot be fetched: {reason(pulled.stderr)}. Nothing was changed."
        )
    return before if _git("rev-parse", "HEAD").stdout.strip() != before else ""


def reason(told: str) -> str:
    """What git says went wrong, with the files it names, without its hints."""
    lines = told.splitlines()
    for number, line in enumerate(lines):
        kind, _, what = line.partition(": ")
        if kind in ("error", "fatal"):
            files = itertools.takewhile(lambda below: below.startswith("\t"), lines[number + 1 :])
            return " ".join([what, *(file.strip() for file in files)]).rstrip(".")
    return " ".join(told.split()).rstrip(".") or "git gave no reason"


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    run = subprocess.run(
        ["git", *words],
        cwd=ROOT,
        env={**os.environ, "LC_ALL": "C"},  # `reason` reads what it says
        capture_output=True,
        text=True,
    )
    log.info("git %s: status %d\n%s", " ".join(words), run.returncode, run.stdout + run.stderr)
    return run


def renewal(data: str) -> int:
    """What the process of its own runs: `renew`, with its output in the log; its exit status."""
    open_log(Path(data))
    try:
        renew()
    except (Problem, OSError) as error:
        log.error("update: %s", error)
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        close_log()
    return 0


def renew() -> None:
    """Install what the lock names now beside the old environment, try it, then swap the two.

    Raises `Problem` with the old environment untouched.
    """
    if installation.complete(VENV):
        try_out(venv_python(VENV))
        return
    installation.remove_environment(NEW_VENV)
    installation.install(NEW_VENV)
    try_out(venv_python(NEW_VENV))
    swap(NEW_VENV, VENV, OLD_VENV)


def swap(new: Path, current: Path, old: Path) -> None:
    """Put `new` in the place of `current`; if that fails half-way, put `current` back."""
    installation.remove_environment(old)
    if current.exists():
        current.rename(old)
    try:
        new.rename(current)
    except OSError:
        if old.exists():
            old.rename(current)
        raise
    installation.remove_environment(old)


def try_out(python: Path) -> None:
    """Start Corral once on an empty data folder and wait until it answers."""
    say("Trying it out on an empty data folder.")
    with tempfile.TemporaryDirectory(prefix="corral-trial-") as folder:
        data = Path(folder)
        prepare_data_folder(data)
        command = [
            str(python),
            "-m",
            "app",
            f"--data={data}",
            f"--port={free_port()}",
            "--no-browser",
        ]
        environment = clean_environment(data)
        for name in list(environ_settings(environment)):
            del environment[name]
        trial = subprocess.Popen(
            command,
            cwd=data / "run" / "empty",
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            answered = _wait_for(lambda: _answers(data), lambda: trial.poll() is None)
        finally:
            output = _end(trial)
        log.info("trial: %s", output)
    if not answered:
        raise Problem("The new version does not start on this machine.")


def _end(trial: subprocess.Popen[str]) -> str:
    """End the process, in order if it can; what it printed."""
    trial.terminate()
    try:
        return trial.communicate(timeout=END_SECONDS)[0]
    except subprocess.TimeoutExpired:
        trial.kill()
        return trial.communicate()[0]


def environ_settings(environment: dict[str, str]) -> list[str]:
    """The variables that are settings of the person, which a trial does not take over."""
    return [name for name in environment if name.startswith("CORRAL_")]


def _answers(data: Path) -> bool:
    running = Running.read(data)
    return running is not None and running.entrance() is not None


def _wait_for(ready: Callable[[], bool], alive: Callable[[], bool]) -> bool:
    end = time.monotonic() + TRIAL_SECONDS
    while time.monotonic() < end and alive():
        if ready():
            return True
        time.sleep(0.2)
    return False


def free_port() -> int:
    """A port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
