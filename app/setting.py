"""One setting: what is known of it, and how a value that somebody gave becomes one of its own."""

from __future__ import annotations

import re
from dataclasses import Field, dataclass, field
from pathlib import Path
from typing import Any

ENV_PREFIX = "CORRAL_"
BUILT_IN = "built-in"
_FOLDERS_AND_FILES = (
    *("model", "draft", "adapter"),
    *("certificate", "certificate_key", "share_certificate"),
)
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


class SettingsInvalid(ValueError):
    """A setting is unknown or its value is impossible. `str(error)` is one line that says so."""


def setting(
    default: object,
    help_line: str,
    *,
    low: float | None = None,
    high: float | None = None,
    pattern: str = "",
    shown: str = "",
) -> Any:
    """A field of `Settings`, with what the table, the sources and `--help` need to know of it."""
    metadata = {"help": help_line, "low": low, "high": high, "pattern": pattern, "shown": shown}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Definition:
    """What a field of `Settings` says of its setting. `low` and `high` bound whole numbers."""

    name: str
    default: object
    help: str
    low: int | None
    high: int | None
    pattern: str  # of texts, and of each word of several
    shown: str  # the default in the table, where the value itself would say little

    @classmethod
    def of(cls, each: Field[Any]) -> Definition:
        """The definition that `setting` put into a field."""
        default = Path() if each.name == "data" else each.default
        return cls(each.name, default, **each.metadata)

    @property
    def is_flag(self) -> bool:
        """On or off: on the command line it takes no value."""
        return isinstance(self.default, bool)

    @property
    def option(self) -> str:
        """`--name`, as it is given on the command line."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return ENV_PREFIX + self.name.upper()

    @property
    def range(self) -> str:
        """Which values it takes, in a few words."""
        if self.is_flag:
            return "on or off"
        if self.low is not None:
            return f"{self.low} to {self.high}"
        if re.fullmatch(r"[a-z0-9|-]+", self.pattern):
            return self.pattern.replace("|", ", ")
        named = {"data": "a folder", "hosts": "host names", "device": "see help"}
        return named.get(self.name, "text")

    def value(self, given: object, source: str) -> Any:
        """`given` as this setting's own type, checked. `source` is how an error names it.

        Raises `SettingsInvalid`.
        """
        if self.is_flag:
            return _flag(given, source)
        if self.low is not None and self.high is not None:
            return _whole_number(given, source, self.low, self.high)
        if isinstance(self.default, Path):
            return _folder(given, source)
        if isinstance(self.default, tuple):
            return _words(given, source, self.pattern)
        text = _matched(given, self.pattern, source, self.range)
        if self.name in _FOLDERS_AND_FILES and text not in ("", BUILT_IN):
            path = Path(text).expanduser()
            if path.exists():
                return str(path.absolute())  # the server works in a folder of its own
        return text


def _flag(given: object, source: str) -> bool:
    word = str(given).strip().lower()
    if word not in _TRUE | _FALSE:
        raise SettingsInvalid(f"{source} must be on or off, not {given!r}.")
    return word in _TRUE


def _whole_number(given: object, source: str, low: int, high: int) -> int:
    text = str(given).strip()
    if isinstance(given, bool) or not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise SettingsInvalid(f"{source} must be a whole number, not {given!r}.")
    if not low <= int(text) <= high:
        raise SettingsInvalid(f"{source} must lie between {low} and {high}, not {text}.")
    return int(text)


def _folder(given: object, source: str) -> Path:
    if not isinstance(given, str) or not given.strip() or "\0" in given:
        raise SettingsInvalid(f"{source} must be a folder, not {given!r}.")
    return Path(given).expanduser().absolute()


def _words(given: object, source: str, pattern: str) -> tuple[str, ...]:
    words = given if isinstance(given, list) else str(given).split(",")
    cleaned = tuple(str(word).strip().lower() for word in words if str(word).strip())
    for word in cleaned:
        _matched(word, pattern, source, "a host name")
    return cleaned


def _matched(given: object, pattern: str, source: str, wanted: str) -> str:
    if not isinstance(given, str) or not re.fullmatch(pattern, given):
        raise SettingsInvalid(f"{source} must be {wanted}, not {given!r}.")
    return given
