"""Where things are: the checkout, its environment, the data folder and its format.

Also the one exception of this package and the log that the launcher and the installer write to.
"""

from __future__ import annotations

import logging
import os
from logging.handlers import RotatingFileHandler
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
FORMAT = 1  # raised when an older Corral could no longer read the data folder
FORMAT_FILE = "format"

log = logging.getLogger("corral.launcher")


class Problem(Exception):
    """Something the user can mend. `str(problem)` is the sentence that says how."""


def say(text: str) -> None:
    """One line for the person at the terminal, and the same line in the log."""
    print(text, flush=True)
    log.info("%s", text)


def venv_python(venv: Path = VENV) -> Path:
    """The interpreter inside an environment."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def prepare_data_folder(data: Path) -> None:
    """Make the folder, private, and note or check the format of what it holds."""
    try:
        for folder in (data, data / "run" / "empty", data / "run" / "page", data / "log"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (data, data / "run", data / "run" / "page", data / "log"):
            folder.chmod(0o700)  # also where an earlier start left them open
        check_format(data)
    except OSError as error:
        raise Problem(
            f"The data folder {data} cannot be written ({error.strerror or error}). "
            "Make room or mend its permissions, or choose another one with --data FOLDER."
        ) from error


def check_format(data: Path) -> None:
    """Write the format version into a new folder; refuse a folder of a newer Corral."""
    file = data / FORMAT_FILE
    try:
        text = file.read_text(encoding="ascii").strip() if file.exists() else ""
        found = int(text or 0)
    except ValueError as error:
        raise Problem(f"{file} should hold one number. Write {FORMAT} into it.") from error
    if not text:  # a new folder, or one that was made while the disk was full
        file.write_text(f"{FORMAT}\n", encoding="ascii")
        return
    if found > FORMAT:
        raise Problem(
            f"The data in {data} was written by a newer Corral (format {found}, this one knows "
            f"{FORMAT}). Update with `python3 launcher.py update`, or choose another --data FOLDER."
        )


def open_log(data: Path) -> Path:
    """Send this package's log into the file that the server writes later; returns its path.

    The two never have it open at the same time: Windows could not rotate it then.
    """
    close_log()
    file = data / "log" / "corral.log"
    file.touch(mode=0o600)
    handler = RotatingFileHandler(file, maxBytes=1 << 20, backupCount=3, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    return file


def close_log() -> None:
    """Let go of the file."""
    for handler in log.handlers[:]:
        log.removeHandler(handler)
        handler.close()


__all__ = [
    "FORMAT",
    "ROOT",
    "VENV",
    "Problem",
    "check_format",
    "close_log",
    "log",
    "open_log",
    "prepare_data_folder",
    "say",
    "venv_python",
]
