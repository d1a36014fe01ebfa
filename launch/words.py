"""The words after `launcher.py` and what each one runs."""

from __future__ import annotations

import difflib
import subprocess
import sys
from collections.abc import Callable, Sequence

from app.setting import SettingsInvalid
from app.settings import Settings
from app.settings_table import help_text
from launch import care, diagnose, moving, testing
from launch.environment import clean_environment
from launch.install import install
from launch.place import (
    Problem,
    open_log,
    prepare_data_folder,
    venv_python,
)
from launch.start import start

INTRODUCTION = """usage: python3 launcher.py [word] [settings]

Without a word: installs what is missing, starts Corral and opens it in the browser.

words:
  test [--all]    run the tests: the fast set, or the full counts
  check           facts for a bug report: machine, versions, state; no word of any conversation
  update          fetch the new version, keep the old one until the new one has started once
  move FOLDER     move conversations, models and log to another folder
  remove          remove Corral from this machine; asks first
  download NAME   fetch a model from the model hub; --token-file FILE where it asks for an account
  share           start with a share link for others; needs an account with a password

"""


def main(argv: Sequence[str]) -> int:
    """Run what the command line asks for; problems are one line on stderr and status 1 or 2."""
    word, rest = (argv[0], argv[1:]) if argv and not argv[0].startswith("-") else ("", argv)
    try:
        if {"-h", "--help"} & set(argv):
            print(INTRODUCTION + help_text("python3 launcher.py").split("\n\n", 1)[1])
            return 0
        return _run(word, rest)
    except SettingsInvalid as problem:
        print(problem, file=sys.stderr)
        return 2
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped. The same command goes on from here.", file=sys.stderr)
        return 130


def _run(word: str, rest: Sequence[str]) -> int:
    words: dict[str, Callable[[Settings], int]] = {
        "": lambda settings: start(settings, rest),
        "share": lambda settings: start(settings, [*rest, "--share"]),
        "check": diagnose.check,
        "update": care.update,
        "remove": moving.remove,
    }
    if word == "test":
        return testing.run_tests(rest)
    if word == "move":
        if not rest or rest[0].startswith("-"):
            raise SettingsInvalid("`move` needs the new folder: python3 launcher.py move FOLDER.")
        return moving.move(read_settings(rest[1:]), rest[0])
    if word == "download":
        return download(rest)
    if word not in words:
        known = [name for name in (*words, "test", "move", "download") if name]
        near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]}?" if near else f" There are {', '.join(known)}."
        raise SettingsInvalid(f"There is no word {word}.{hint}")
    return words[word](read_settings(rest))


def download(rest: Sequence[str]) -> int:
    """`download NAME [--token-file FILE] [--data FOLDER]`, done by the engine's own command."""
    if not rest or rest[0].startswith("-"):
        raise SettingsInvalid("`download` needs a name: python3 launcher.py download NAME.")
    name, others, token = rest[0], list(rest[1:]), []
    if "--token-file" in others:
        at = others.index("--token-file")
        token = others[at : at + 2]
        del others[at : at + 2]
    settings = read_settings(others)
    prepare_data_folder(settings.data)
    open_log(settings.data)
    install()
    command = [str(venv_python()), "-m", "engine", "download", name]
    models = ["--models", str(settings.data / "models")]
    return subprocess.call([*command, *models, *token], env=clean_environment(settings.data))


def read_settings(argv: Sequence[str]) -> Settings:
    """The settings, from every source."""
    return Settings.load(argv)
