"""`launcher.py check`: facts for a bug report, to be copied. Holds no word of a conversation."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from app.settings import Settings, names
from launch import install, machine
from launch.browsers import find_browser
from launch.care import DATABASE
from launch.place import FORMAT_FILE, ROOT, VENV, Problem, venv_python
from launch.start import find_running

PACKAGES = ("torch", "gradio", "sqlite-utils", "tokenizers", "transformers", "pysqlite3")
RECORD = re.compile(r"\d{4}-\d\d-\d\d \S+ (?P<level>[A-Z]+) ")  # how a record in the log begins
NUM_ERRORS, NUM_PLACES = 3, 30
FULL_BYTES = 2_000_000  # less than this is no room for a start


def check(settings: Settings) -> int:
    """Print the facts; the status is 1 where something stands in the way of a start."""
    problems: list[str] = []
    print("Corral, facts for a bug report (no message text):")
    for name, fact in facts(settings, problems):
        print(f"  {name:<12} {private(fact)}")
    for problem in problems:
        print(f"In the way: {private(problem)}")
    if errors := last_errors(settings.data / "log" / "corral.log"):
        print("The last errors in the log:")
        print("\n".join(f"  {private(line)}" for line in errors))
    return 1 if problems else 0


def private(text: str) -> str:
    """Without the name of the person in paths."""
    return text.replace(str(Path.home()), "~") if Path.home() != Path("/") else text


def last_errors(file: Path) -> list[str]:
    """The newest records of errors, each with the places it came through, oldest first.

    The log holds types, places, times and counts, and no message (`app/log.py`).
    """
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    errors: list[list[str]] = []
    within = False  # a record that is told
    for line in lines:
        if begins := RECORD.match(line):
            within = begins["level"] in ("ERROR", "CRITICAL")
            if within:
                errors.append([])
        if within:
            errors[-1].append(line)
    return [
        line for head, *places in errors[-NUM_ERRORS:] for line in (head, *places[-NUM_PLACES:])
    ]


def facts(settings: Settings, problems: list[str]) -> Iterator[tuple[str, str]]:
    """Name and value, line by line; what hinders a start is added to `problems`."""
    here = machine.examine()
    yield "system", f"{platform.system()} {platform.release()} {here.processor}"
    yield "python", f"{platform.python_version()} ({sys.executable})"
    yield "sqlite", f"{sqlite3.sqlite_version} (of this Python)"
    yield "corral", _version()
    try:
        build = machine.choose_torch(here)
        yield "torch build", f"{build.name}: {build.reason}"
    except Problem as problem:
        problems.append(str(problem))
    yield "installed", _installed()
    yield "packages", ", ".join(_packages()) or "none"
    yield "disk", f"{shutil.disk_usage(ROOT).free / 1e9:.1f} GB free beside the program"
    yield "browser", str(find_browser() or "no Chrome, Chromium or Edge found")
    yield from _data_facts(settings.data, problems)
    given = [name for name in names() if settings.origin(name) != "default"]
    yield "settings", ", ".join(f"{name} ({settings.origin(name)})" for name in given) or "defaults"


def _version() -> str:
    git = shutil.which("git")
    if git and (ROOT / ".git").exists():
        run = subprocess.run(
            [git, "log", "-1", "--format=%h of %cs"], cwd=ROOT, capture_output=True, text=True
        )
        return run.stdout.strip() or "unknown"
    return f"lock {install.lock_hash(install.LOCK)[:12]}"


def _installed() -> str:
    mark = install.read_mark(VENV)
    if not mark:
        return "not yet" if not VENV.exists() else "unfinished: the next start goes on"
    state = "complete" if install.complete() else "of an older lock: the next start renews it"
    return f"{state} ({mark.get('build', '?')})"


def _packages() -> list[str]:
    folders = [*VENV.glob("lib/python*/site-packages"), *VENV.glob("Lib/site-packages")]
    if not venv_python().exists() or not folders:
        return []
    found = importlib.metadata.distributions(path=[str(folder) for folder in folders])
    versions = {(each.metadata["Name"] or "").lower(): each.version for each in found}
    return [f"{name} {versions[name]}" for name in PACKAGES if name in versions]


def _data_facts(data: Path, problems: list[str]) -> Iterator[tuple[str, str]]:
    if not data.is_dir():
        yield "data", f"{data} (not made yet)"
        return
    try:
        version = (data / FORMAT_FILE).read_text(encoding="ascii").strip()
    except OSError:
        version = "none"
    free = shutil.disk_usage(data).free
    yield "data", f"{data}, format {version}, {free / 1e9:.1f} GB free"
    if not os.access(data, os.W_OK):
        problems.append(f"{data} cannot be written. Mend its permissions, or use --data FOLDER.")
    elif free < FULL_BYTES:
        problems.append(f"The disk of {data} is full. Make room there.")
    running = find_running(data)
    yield "running", f"process {running[0].pid}, port {running[0].port}" if running else "no"
    database = data / DATABASE
    if database.exists():
        size = sum(file.stat().st_size for file in data.glob(f"{DATABASE}*"))  # its WAL too
        yield (
            "database",
            f"{size / 1e6:.1f} MB, {_integrity(database, problems)}",
        )
    backups = sorted((data / "backups").glob("*.db"))
    yield "backups", f"{len(backups)}" + (f", newest {backups[-1].name}" if backups else "")


def _integrity(database: Path, problems: list[str]) -> str:
    if not venv_python().exists():
        return "not checked (nothing is installed)"
    run = subprocess.run(
        [str(venv_python()), "-m", "storage", "check", str(database)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if run.returncode:
        problems.append(
            f"The database did not pass its check: {(run.stderr or run.stdout).strip()}"
        )
        return "damaged"
    return "sound"
