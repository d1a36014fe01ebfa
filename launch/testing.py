"""`launcher.py test`: installs what the tests need and runs them."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from launch.browsers import provide_browser
from launch.environment import clean_environment
from launch.install import install
from launch.place import ROOT, Problem, open_log, prepare_data_folder, say, venv_python

EVERYTHING = "full or not full"  # a later -m wins over the one in pyproject.toml
# A core each, but not many: each has a browser and models of its own. A file stays with one of
# them, so that its fixtures are made once.
SIDE_BY_SIDE = ("--numprocesses=auto", "--maxprocesses=4", "--dist=loadfile")


def run_tests(arguments: Sequence[str]) -> int:
    """The fast set, or the full counts with `--all`; ends with pytest's closing line.

    Works in a data folder of its own, so that the user's conversations are never near a test.
    """
    if unknown := [word for word in arguments if word != "--all"]:
        raise Problem(f"`test` knows --all alone, not {unknown[0]}.")
    with tempfile.TemporaryDirectory(prefix="corral-test-") as folder:
        data = Path(folder)
        prepare_data_folder(data)
        log_file = open_log(data)
        try:
            install(tests=True)
            provide_browser()
        except Problem:
            _show_end(log_file)
            raise
        choice = ["-m", EVERYTHING] if arguments else []
        say("Running the tests" + (", full counts." if arguments else "."))
        command = [str(venv_python()), "-m", "pytest", "-q", *SIDE_BY_SIDE, *choice]
        environment = clean_environment(data)
        return subprocess.call(command, cwd=ROOT, env=environment)


def _show_end(log_file: Path, lines: int = 25) -> None:
    """The log goes with its folder, so show what matters of it."""
    for line in log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]:
        print(f"  {line}")
