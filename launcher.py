#!/usr/bin/env python3
"""One command on a fresh machine: `python3 launcher.py` installs Corral and opens it.

This file only makes sure that a fitting Python runs the rest (`launch/`), so it is written for any
Python from 3.8 on. Neither it nor `launch/` imports anything beyond the standard library.
"""

import os
import shutil
import subprocess
import sys
from typing import List, Optional, Sequence, Tuple

OLDEST = (3, 11)  # numpy 2.4 and pandas 3 have no wheels below
NEWEST = (3, 14)  # torch 2.13 has no wheels above
PREFERRED = ("3.13", "3.12", "3.11", "3.14")
TRIED = "LAUNCHER_FOUND_PYTHON"  # set in the child: two Pythons never hand over to each other


def fits(version: Tuple[int, ...]) -> bool:
    """Whether packages exist for this version of Python."""
    return OLDEST <= tuple(version[:2]) <= NEWEST


def candidates(platform: str) -> List[List[str]]:
    """Commands that may start a fitting Python here, best first."""
    found = []
    for version in PREFERRED:
        path = shutil.which("python" + version)
        if path:
            found.append([path])
    if platform == "win32" and shutil.which("py"):
        found.extend(["py", "-" + version] for version in PREFERRED)
    return found


def version_of(command: Sequence[str]) -> Optional[Tuple[int, ...]]:
    """The version that a command really starts, or None if it does not start."""
    code = "import sys; print(*sys.version_info[:2])"
    try:
        answer = subprocess.run(
            [*command, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=30
        )
        return tuple(int(part) for part in answer.stdout.split())
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def another_python(platform: str) -> Optional[List[str]]:
    """A command for a fitting Python, if this machine has one."""
    for command in candidates(platform):
        version = version_of(command)
        if version and fits(version):
            return command
    return None


def advice(version: Sequence[int], platform: str) -> str:
    """What to say where no fitting Python is found."""
    wanted = "{}.{} to {}.{}".format(*OLDEST, *NEWEST)
    how = {
        "win32": "Install it from https://www.python.org/downloads/ (or type: winget install "
        "Python.Python.3.13)",
        "darwin": "Install it from https://www.python.org/downloads/ (or type: brew install "
        "python@3.13)",
    }.get(platform, "Install it with your system's packages (on Debian or Ubuntu: python3-venv)")
    found = "{}.{}".format(*version[:2])
    return f"Corral needs Python {wanted}; this is {found}. {how}, then run this again."


def main(argv: Sequence[str]) -> int:
    """Run `launch` with a fitting Python; the exit status is its own."""
    if fits(sys.version_info[:2]):
        from launch.words import main as run

        os.environ.pop(TRIED, None)
        return run(argv)
    command = None if os.environ.get(TRIED) else another_python(sys.platform)
    if command is None:
        print(advice(sys.version_info[:2], sys.platform), file=sys.stderr)
        return 1
    try:
        child = [*command, os.path.abspath(__file__), *argv]  # noqa: PTH100 - any Python 3.8
        return subprocess.call(child, env=dict(os.environ, **{TRIED: "1"}))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
