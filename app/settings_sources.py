"""Where settings are read: the command line, the environment, and `settings.toml`.

Each reader gives what was said, by the setting's name: the value as it stood there, and the words
by which an error names the place. Nothing is converted or checked here but the names themselves.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from app.setting import ENV_PREFIX, Definition, SettingsInvalid

FILE_NAME = "settings.toml"
Given = dict[str, tuple[object, str]]


def read_command_line(argv: Sequence[str], definitions: Sequence[Definition]) -> Given:
    """`--name value`, `--name=value`, `--flag`, `--no-flag`. Later ones win.

    Raises `SettingsInvalid` for an unknown name, naming the nearest known one, and without a value.
    """
    found: Given = {}
    options = {each.option: each for each in definitions}
    negations = {f"--no-{each.option[2:]}": each for each in definitions if each.is_flag}
    rest = list(argv)
    while rest:
        word, equals, value = rest.pop(0).partition("=")
        if word in negations and not equals:
            found[negations[word].name] = (False, word)
            continue
        if word not in options:
            raise _unknown(word, (*options, *negations), "command line")
        each = options[word]
        if each.is_flag and not equals:
            found[each.name] = (True, word)
            continue
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise SettingsInvalid(f"{word} needs a value: {word} {each.name.upper()}.")
            value = rest.pop(0)
        found[each.name] = (value, word)
    return found


def read_environment(environ: Mapping[str, str], definitions: Sequence[Definition]) -> Given:
    """The variables `CORRAL_*`; an empty one counts as absent. Raises `SettingsInvalid`."""
    found: Given = {}
    known = {each.variable: each.name for each in definitions}
    for variable, value in environ.items():
        if not variable.startswith(ENV_PREFIX) or value == "":
            continue
        if variable not in known:
            raise _unknown(variable, known, "environment")
        found[known[variable]] = (value, variable)
    return found


def read_file(path: Path, definitions: Sequence[Definition]) -> Given:
    """A TOML file, which need not exist. Raises `SettingsInvalid`, also if it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"{path} cannot be read ({error}). Mend it or remove it.") from error
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsInvalid(f"{path} is not TOML ({error}). Mend it or remove it.") from error
    # The file lies in the data folder itself, so it cannot name that.
    known = [each.name for each in definitions if each.name != "data"]
    for name in content:
        if name not in known:
            raise _unknown(name, known, str(path))
    return {name: (value, f"{name} in {path}") for name, value in content.items()}


def _unknown(given: str, known: Iterable[str], where: str) -> SettingsInvalid:
    near = difflib.get_close_matches(given, list(known), n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]}?" if near else " `python3 launcher.py --help` lists them all."
    return SettingsInvalid(f"There is no setting {given} ({where}).{hint}")
