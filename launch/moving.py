"""Moves the data folder without losing a file, and removes all of Corral when asked to."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from app.settings import Settings
from engine.home import MOVED_FILE, data_folder, default_data_folder
from launch.care import NEW_VENV, OLD_VENV
from launch.install import remove_environment
from launch.place import FORMAT_FILE, ROOT, VENV, Problem
from launch.start import RUN_FILE, refuse_running


def move(settings: Settings, target: str) -> int:
    """Move the data folder: copy, compare, then remove the old one and remember the new place."""
    old, new = settings.data, Path(target).expanduser().absolute()
    refuse_running(old, "move the folder again")
    if not (old / FORMAT_FILE).is_file():
        raise Problem(f"There is nothing to move: {old} is no data folder of Corral.")
    if new.exists() and (not new.is_dir() or any(new.iterdir())):
        raise Problem(f"{new} is not empty. Name a folder that does not exist yet.")
    if new == old or old in new.parents or new in old.parents:
        raise Problem(f"{new} and {old} lie within each other. Name another folder.")
    usual = old == data_folder()
    try:
        _copy_all(old, new)
        new.chmod(0o700)
        if usual:
            _remember_place(new)
    except BaseException as error:  # Ctrl-C too: half a copy would stand in the way of the next
        with contextlib.suppress(OSError):
            _clear(new)
        if not isinstance(error, OSError):
            raise
        raise Problem(
            f"The data could not be copied to {new} ({_reason(error)}). It is still whole "
            f"in {old}; make room and try again."
        ) from error
    try:
        _clear(old, keep=MOVED_FILE)  # the note that leads to the new place
    except OSError as error:
        print(f"What is left in {old} could not be removed ({_reason(error)}): delete it yourself.")
    if usual and "CORRAL_DATA" not in os.environ:
        print(f"Everything lies in {new} now; later starts look there.")
    else:
        print(f"Everything lies in {new} now. Name it from now on: --data or CORRAL_DATA.")
    return 0


def _copy_all(old: Path, new: Path) -> None:
    needed = sum(file.stat().st_size for file in old.rglob("*") if file.is_file())
    place = next(parent for parent in (new, *new.parents) if parent.is_dir())
    if shutil.disk_usage(place).free < needed + 50_000_000:
        raise Problem(f"{new} has no room for {needed / 1e6:.0f} MB. Nothing was moved.")
    left = shutil.ignore_patterns(RUN_FILE, MOVED_FILE)
    # A link to a model that lies elsewhere stays a link.
    shutil.copytree(old, new, symlinks=True, dirs_exist_ok=True, ignore=left)
    for file in old.rglob("*"):
        copy = new / file.relative_to(old)
        if file.name in (RUN_FILE, MOVED_FILE) or not file.exists():
            continue
        if copy.is_symlink() and not copy.exists():  # a relative one, which led out of the folder
            copy.unlink()
            copy.symlink_to(file.resolve())
        if not copy.exists() or (file.is_file() and copy.stat().st_size != file.stat().st_size):
            raise Problem(f"{copy} is not a whole copy. The data is still in {old}; try again.")


def _remember_place(new: Path) -> None:
    default = default_data_folder()
    pointer = default / MOVED_FILE
    if new == default:
        pointer.unlink(missing_ok=True)
        return
    default.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = pointer.with_suffix(".new")
    fresh.write_text(f"{new}\n", encoding="utf-8")
    fresh.replace(pointer)


def _forget_place() -> None:
    default = default_data_folder()
    (default / MOVED_FILE).unlink(missing_ok=True)
    if default.is_dir() and not any(default.iterdir()):
        default.rmdir()


def _reason(error: OSError) -> str:
    """In words; of many files that failed, the first one's."""
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        return str(error.args[0][0][-1])
    return error.strerror or str(error)


def _clear(folder: Path, keep: str = "") -> None:
    """Delete a folder and what is in it, less the one file to keep."""
    for entry in folder.iterdir():
        if entry.name == keep:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


def remove(settings: Settings) -> int:
    """Remove the environment and, asked for separately, the conversations. Says what is left."""
    refuse_running(settings.data, "remove it again")
    print(f"Corral is this folder ({ROOT}) and its data ({settings.data}), nothing else.")
    if VENV.exists() and _agreed(f"Remove the installed packages in {VENV}?", "yes"):
        for venv in (VENV, NEW_VENV, OLD_VENV):
            remove_environment(venv)
            venv.with_name(f"{venv.name}.lock").unlink(missing_ok=True)
        print("The packages are removed.")
    if (settings.data / FORMAT_FILE).is_file():  # --data may name any folder
        question = f"Remove ALL conversations, models, backups and logs in {settings.data}?"
        if _agreed(question, "remove everything"):
            _remove_all(settings.data)
            _forget_place()
            print("The data is removed.")
        else:
            print(f"The data stays in {settings.data}.")
    elif settings.data.exists():
        print(f"{settings.data} is no data folder of Corral: nothing in it was removed.")
    print(f"To finish, delete the folder {ROOT}.")
    return 0


def _remove_all(data: Path) -> None:
    try:
        shutil.rmtree(data)
    except OSError as error:
        raise Problem(
            f"{data} could not be removed ({_reason(error)}). Mend the cause and run this again, "
            "or delete the folder yourself."
        ) from error


def _agreed(question: str, word: str) -> bool:
    print(question)
    try:
        return input(f"Type `{word}` to agree, anything else to keep it: ").strip().lower() == word
    except EOFError:
        print()
        return False
