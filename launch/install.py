"""Makes `.venv`: what the lock names, checked by hash, then torch in the build for this machine.

Every step can be repeated: pip keeps what is already there, and the mark that says "complete" is
written last. The mark holds the hash of the lock, so a changed lock installs again by itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from launch import machine
from launch.packages import pip, pip_environment
from launch.place import ROOT, VENV, Problem, log, say, venv_python

LOCK = ROOT / "requirements" / "lock.txt"
TEST_LOCK = ROOT / "requirements" / "test-lock.txt"
MARK = "corral.json"
LOCKED_MB = 900  # the locked packages, installed
PROBE_SECONDS = 5
IMPORTS = "import app.server, app.page.mount, engine.local, safety.classifier"


def lock_hash(lock: Path) -> str:
    """What a mark compares: the packages that should be there."""
    return hashlib.sha256(lock.read_bytes()).hexdigest()


def read_mark(venv: Path) -> dict[str, str]:
    """What the last complete installation noted; empty where there is none."""
    try:
        mark = json.loads((venv / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in mark.items()} if isinstance(mark, dict) else {}


def write_mark(venv: Path, mark: Mapping[str, str]) -> None:
    """Note a complete installation, in one step."""
    fresh = venv / (MARK + ".new")
    fresh.write_text(json.dumps(dict(mark), indent=1) + "\n", encoding="utf-8")
    fresh.replace(venv / MARK)


def complete(venv: Path = VENV, *, tests: bool = False) -> bool:
    """Whether this environment holds exactly what the locks name."""
    mark = read_mark(venv)
    same = (
        mark.get("lock") == lock_hash(LOCK) and mark.get("torch_version") == machine.TORCH_VERSION
    )
    if tests:
        same = same and mark.get("test_lock") == lock_hash(TEST_LOCK)
    return same and venv_python(venv).exists()


def install(venv: Path = VENV, *, tests: bool = False) -> None:
    """Bring `venv` to the state of the locks. Returns at once where it is there already.

    Raises `Problem` where this machine cannot hold or reach what is needed.
    """
    if complete(venv, tests=tests):
        return
    with only_one(venv):
        _install(venv, tests=tests)


@contextlib.contextmanager
def only_one(venv: Path) -> Iterator[None]:
    """Hold other starts off this environment; wait for one that is at it already.

    The lock belongs to the process and goes with it, however it ends.
    """
    try:
        file = venv.with_name(f"{venv.name}.lock").open("a+b")
    except OSError as error:
        raise Problem(
            f"The folder {venv.parent} cannot be written ({error.strerror}). Corral installs "
            "itself there: move it to a folder of your own and run this again."
        ) from error
    with file:
        if not _lock(file, wait=False):
            say("Another start is installing already: waiting for it.")
            while not _lock(file, wait=True):
                time.sleep(1)
        yield


def _lock(file: BinaryIO, *, wait: bool) -> bool:
    """Take the lock; whether that worked. Closing the file gives it back."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _install(venv: Path, *, tests: bool) -> None:
    if not complete(venv):
        started = time.monotonic()
        build = machine.choose_torch(machine.examine())
        say(f"Installing Corral into {venv} (once; later starts take seconds).")
        check_tools()
        free_mb = machine.refuse_full_disk(venv.parent, LOCKED_MB + build.megabytes)
        say(f"Disk: {free_mb / 1000:.0f} GB free, enough.")
        check_network()
        say("Step 1 of 4: making the environment.")
        make_environment(venv)
        say(f"Step 2 of 4: {count(LOCK)} packages from the lock, each checked by its hash.")
        pip(venv, ["--no-deps", "--require-hashes", "-r", str(LOCK)], "the packages")
        say(f"Step 3 of 4: PyTorch {machine.TORCH_VERSION}. {build.reason}.")
        install_torch(venv, build)
        say("Step 4 of 4: a first import of everything.")
        check_imports(venv)
        write_mark(
            venv,
            {"lock": lock_hash(LOCK), "torch_version": machine.TORCH_VERSION, "build": build.name},
        )
        say(f"Installed in {time.monotonic() - started:.0f} seconds.")
    if tests:
        say(f"Installing {count(TEST_LOCK)} packages for the tests.")
        pip(venv, ["--no-deps", "--require-hashes", "-r", str(TEST_LOCK)], "the test tools")
        write_mark(venv, {**read_mark(venv), "test_lock": lock_hash(TEST_LOCK)})


def count(lock: Path) -> int:
    """How many packages a lock names."""
    return len(re.findall(r"^[A-Za-z0-9][\w.-]*==", lock.read_text(encoding="utf-8"), re.M))


def check_tools() -> None:
    """Raise `Problem` where this Python cannot make environments."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        raise Problem(
            f"This Python lacks its {missing[0]} module. On Debian or Ubuntu type "
            f"`sudo apt install python{version}-venv`, elsewhere install Python from python.org; "
            "then run this again."
        )
    say(f"Python {version}: fits, and can make environments.")


def check_network() -> None:
    """Say whether the package index answers. No more: pip may be set up with another one."""
    if reachable("https://pypi.org/simple/pip/"):
        say("Network: the package index answers.")
    else:
        say("Network: pypi.org does not answer; trying what pip is set up with on this machine.")


def reachable(url: str) -> bool:
    """Whether an address answers within a few seconds (through the proxy the system names)."""
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=PROBE_SECONDS):
            return True
    except (OSError, ValueError) as error:  # URLError and timeouts are OSErrors
        log.info("%s does not answer: %s", url, error)
        return False


def make_environment(venv: Path) -> None:
    """An environment whose Python runs; a damaged one is made anew."""
    python = venv_python(venv)
    if python.exists() and _runs([str(python), "-m", "pip", "--version"]):
        return
    base = getattr(sys, "_base_executable", None) or sys.executable
    made = subprocess.run(
        [base, "-m", "venv", "--clear", str(venv)], capture_output=True, text=True
    )
    log.info("venv: %s", (made.stdout + made.stderr).strip() or "made")
    if made.returncode:
        raise Problem(
            f"The environment {venv} cannot be made: {_last_line(made.stdout + made.stderr)} "
            "Make sure that this folder can be written and run this again."
        )


def install_torch(venv: Path, build: machine.TorchBuild) -> None:
    """The chosen build from PyTorch's own index, else what the configured index has."""
    if build.index is not None:
        if reachable(f"{build.index}/torch/"):
            try:
                pip(venv, ["--index-url", build.index, build.requirement], "PyTorch")
                return
            except Problem as problem:
                log.info("%s", problem)
        say(f"  {build.index} cannot be used from here: taking PyTorch from pip's own index.")
        if sys.platform == "linux" and build.name == "cpu":
            say("  On Linux that may be the build for NVIDIA's GPUs, which takes up to 5.5 GB.")
    pip(venv, [build.fallback], "PyTorch")


def check_imports(venv: Path) -> None:
    """Import the program once: a broken library shows now, and the bytecode is written."""
    run = subprocess.run(
        [str(venv_python(venv)), "-c", IMPORTS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=pip_environment(),
    )
    if run.returncode:
        log.error("first import: %s", run.stderr)
        hint = (
            " On Windows this often means that the Microsoft Visual C++ Redistributable is missing."
        )
        raise Problem(
            f"What was installed does not start: {_last_line(run.stderr)}"
            f"{hint if os.name == 'nt' else ''} Remove the folder {venv} and run this again."
        )


def remove_environment(venv: Path) -> None:
    """Delete an environment, if there is one."""
    if venv.exists():
        shutil.rmtree(venv)


def _runs(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else "no reason was given."
    return last if last.endswith(".") else last + "."
