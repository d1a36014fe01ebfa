"""Where one person's Corral keeps its data: the system's folder for it, or where it was moved to.

One place that the launcher, the app and the commands of the engine all ask, so that all of them
find the models and conversations after `launcher.py move`. Needs Python alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

MOVED_FILE = "moved-to"  # in the system's folder: one line, the folder that holds the data now

OFFLOADED = "offloaded"  # in the data folder: layers of a model while it runs from the disk
MEASURED = "measured"  # in the data folder: what was measured of models, a file for each


class PointerUnreadable(Exception):
    """The note that says where the data was moved cannot be read. `str(error)` says what to do."""


def default_data_folder(
    platform: str = sys.platform, environ: Mapping[str, str] = os.environ, home: Path | None = None
) -> Path:
    """Where this operating system keeps the data of one person's programs."""
    home = home or Path.home()
    if platform == "darwin":
        return home / "Library" / "Application Support" / "Corral"
    if platform == "win32":  # not the roaming profile, which is copied at every sign-in: models
        return Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "Corral"
    base = environ.get("XDG_DATA_HOME", "")
    # The XDG base directory specification: a relative value is to be ignored.
    return (Path(base) if Path(base).is_absolute() else home / ".local" / "share") / "corral"


def data_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The default data folder, or the place that `move` has taken it to.

    Raises `PointerUnreadable`.
    """
    default = default_data_folder(environ=environ)
    pointer = default / MOVED_FILE
    try:
        return Path(pointer.read_text(encoding="utf-8").strip())
    except (FileNotFoundError, NotADirectoryError):
        return default
    except (OSError, UnicodeDecodeError) as error:
        raise PointerUnreadable(f"{pointer} cannot be read. Mend it or remove it.") from error
