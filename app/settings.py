"""Every choice that can be made at the start: one definition each, one order of precedence.

A value comes from the command line, else from the environment (`CORRAL_*`), else from
`settings.toml` in the data folder, else it is the default. Everything is read once by
`Settings.load`; nothing is read at import and no other module looks at the environment.
The table in the README, `--help` and the tests are made from the same definitions.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from engine.home import PointerUnreadable, data_folder

Origin = Literal["command line", "environment", "settings file", "default"]

ENV_PREFIX = "CORRAL_"
FILE_NAME = "settings.toml"
BUILT_IN = "built-in"
_PATHS = ("model", "adapter", "certificate", "certificate_key", "share_certificate")
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


class SettingsInvalid(ValueError):
    """A setting is unknown or its value is impossible. `str(error)` is one line that says so."""


def _setting(
    default: object,
    help_line: str,
    *,
    low: float | None = None,
    high: float | None = None,
    pattern: str = "",
    shown: str = "",
) -> Any:
    """A dataclass field with what the table, the parser and `--help` need to know of it."""
    metadata = {"help": help_line, "low": low, "high": high, "pattern": pattern, "shown": shown}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the settings table."""

    name: str
    option: str
    variable: str
    default: str
    range: str
    help: str


@dataclass(frozen=True)
class Settings:
    """The values chosen by the user. Frozen: a change takes a new start."""

    data: Path = _setting(
        data_folder,
        "Folder for conversations, models and the log.",
        shown="the system's folder for program data",
    )
    port: int = _setting(
        7860,
        "Port on this machine; one that is named here is used or refused, "
        "the default gives way to the next free one.",
        low=1,
        high=65535,
    )
    browser: bool = _setting(True, "Open the page in the browser after the start.")
    model: str = _setting(
        BUILT_IN,
        "Name, folder or GGUF file of the model to chat with, or a server: http://HOST:PORT/v1#NAME.",
        pattern=r".+",
    )
    device: str = _setting(
        "auto",
        "Where to compute: auto, cpu, cuda, cuda:1, mps.",
        pattern=r"auto|cpu|mps|cuda(:\d{1,2})?",
    )
    precision: str = _setting("auto", "How weights are kept.", pattern=r"auto|fp32|bf16|int8|int4")
    adapter: str = _setting(
        "", "Folder of a LoRA adapter that is merged into the model.", pattern=r".*", shown="none"
    )
    extension: str = _setting(
        "",
        "A longer context than the model was made for: linear:2, dynamic:2 or yarn:4.",
        pattern=r"|(linear|dynamic|yarn):\d{1,2}(\.\d{1,3})?",
        shown="none",
    )
    allow_pickle: bool = _setting(
        False, "Open .pth files of models; only for downloads that are Meta's own."
    )
    threads: int = _setting(
        0, "Processor threads that compute; 0 chooses by the machine.", low=0, high=1024
    )
    context: int = _setting(
        0, "Longest context in tokens; 0 takes what the model allows.", low=0, high=10_000_000
    )
    cache_megabytes: int = _setting(
        0,
        "Memory for keys and values of conversations; 0 chooses by the machine.",
        low=0,
        high=4_000_000,
    )
    cache_disk_megabytes: int = _setting(
        4096,
        "Disk for keys and values of conversations, so that one opened after a restart is not "
        "read again; 0 keeps none there.",
        low=0,
        high=4_000_000,
    )
    language: str = _setting(
        "auto",
        "Language of the page; auto is each browser's own.",
        pattern=r"auto|en|zh-Hans|zh-Hant",
    )
    theme: str = _setting("auto", "Colours of the page.", pattern=r"auto|light|dark")
    guard: str = _setting(
        BUILT_IN,
        "What judges beside the fixed rules: built-in, the folder of a guard, or the address of "
        "a remote one, which then reads everything.",
        pattern=r".+",
    )
    guard_combine: str = _setting(
        "any",
        "How a further guard joins the built-in one: either may stop a text (any), their scores "
        "are averaged (weighted), or it is asked only when the built-in one is unsure (cascade).",
        pattern=r"any|weighted|cascade",
    )
    guard_key_file: str = _setting(
        "", "File with the key of a remote guard.", pattern=r".*", shown="none"
    )
    hosts: tuple[str, ...] = _setting(
        (),
        "Further host names, with commas, under which the page may be asked for; "
        "anyone who can reach the port under them sees the entrance.",
        pattern=r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]+\]",
        shown="none",
    )
    api: bool = _setting(False, "Answer programs that show a key at /v1, in OpenAI's shape.")
    share: bool = _setting(False, "Open a share link after the start; needs a password account.")
    share_hours: int = _setting(24, "A share link ends after this long.", low=1, high=168)
    share_server: str = _setting(
        "",
        "Tunnel server of your own, host:port; without one, Gradio's.",
        pattern=r"([A-Za-z0-9.-]{1,253}:[0-9]{1,5})?",
        shown="Gradio's",
    )
    share_certificate: str = _setting(
        "", "File with the certificate of your own tunnel server.", pattern=r"[^\0]*", shown="none"
    )
    lan: bool = _setting(
        False, "Answer in the local network after the start; needs a password account."
    )
    certificate: str = _setting(
        "",
        "File with a certificate, so that the local network is served by HTTPS.",
        pattern=r"[^\0]*",
        shown="none",
    )
    certificate_key: str = _setting(
        "", "File with the key of that certificate.", pattern=r"[^\0]*", shown="none"
    )
    session_idle_hours: int = _setting(
        168, "A browser that was away this long must enter anew.", low=1, high=8760
    )
    session_days: int = _setting(
        30, "Every browser must enter anew after this long.", low=1, high=365
    )
    trash_days: int = _setting(
        30, "Conversations in the trash are removed for good after this long.", low=1, high=3650
    )
    origins: Mapping[str, Origin] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def load(
        cls,
        argv: Sequence[str] = (),
        environ: Mapping[str, str] = os.environ,
        file: Path | None = None,
    ) -> Settings:
        """Read every source. `file` defaults to `settings.toml` in the data folder.

        Raises `SettingsInvalid` for unknown names (naming the nearest known one) and for values
        out of range, naming the source that holds the mistake.
        """
        line = _read_command_line(argv)
        env = _read_environ(environ)
        chosen = line.get("data") or env.get("data")
        data = _value("data", *chosen) if chosen else _usual_data_folder(environ)
        saved = _read_file(file or data / FILE_NAME)
        values: dict[str, Any] = {"data": data}
        origins: dict[str, Origin] = {}
        sources: tuple[tuple[Origin, Mapping[str, tuple[object, str]]], ...] = (
            ("command line", line),
            ("environment", env),
            ("settings file", saved),
        )
        for name in names():
            for origin, source in sources:
                if name in source:
                    values[name] = _value(name, *source[name])
                    origins[name] = origin
                    break
        return cls(**values, origins=origins)

    def origin(self, name: str) -> Origin:
        """Where the value of `name` came from."""
        return self.origins.get(name, "default")


def _usual_data_folder(environ: Mapping[str, str]) -> Path:
    try:
        return data_folder(environ)
    except PointerUnreadable as error:
        raise SettingsInvalid(str(error)) from error


def names() -> tuple[str, ...]:
    """The names of all settings, in the order of the table."""
    return tuple(f.name for f in fields(Settings) if f.name != "origins")


def table() -> tuple[Row, ...]:
    """One row per setting: what the README and `--help` show."""
    rows = []
    for f in fields(Settings):
        if f.name == "origins":
            continue
        option = f"--{_dashed(f.name)}"
        if isinstance(f.default, bool):
            option = f"--no-{_dashed(f.name)}" if f.default else option
        rows.append(
            Row(
                f.name,
                option,
                ENV_PREFIX + f.name.upper(),
                f.metadata["shown"] or _shown(f.default),
                _range(f.name),
                f.metadata["help"],
            )
        )
    return tuple(rows)


def markdown_table() -> str:
    """`table()` as Markdown, for the README."""
    cells = [("Setting", "Environment", "Default", "Range", "What it does"), ("---",) * 5]
    for r in table():
        cells.append((f"`{r.option}`", f"`{r.variable}`", r.default, r.range, r.help))
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def help_text(program: str = "python -m app") -> str:
    """What `--help` prints."""
    lines = [f"usage: {program} [serve | selftest] [settings]", "", "settings:"]
    for r in table():
        value = "" if isinstance(_field(r.name).default, bool) else f" {r.name.upper()}"
        lines.append(f"  {r.option}{value}")
        lines.append(f"      {r.help} [{r.range}; default: {r.default}; {r.variable}]")
    lines.append(f"Each can also stand in {FILE_NAME} in the data folder.")
    return "\n".join(lines)


def open_data_folder(folder: Path) -> Path:
    """Make `folder` if need be, readable by its owner alone. Raises `SettingsInvalid`."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.name == "posix" and stat.S_IMODE(folder.stat().st_mode) & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise SettingsInvalid(
            f"The data folder {folder} cannot be used ({error.strerror or error}). "
            "Choose another one with --data FOLDER."
        ) from error
    return folder


def _field(name: str) -> Any:
    return Settings.__dataclass_fields__[name]


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    return str(default)


def _range(name: str) -> str:
    f = _field(name)
    if isinstance(f.default, bool):
        return "on or off"
    if f.metadata["low"] is not None:
        return f"{f.metadata['low']} to {f.metadata['high']}"
    if re.fullmatch(r"[a-z0-9|]+", f.metadata["pattern"]):
        return str(f.metadata["pattern"]).replace("|", ", ")
    return {"data": "a folder", "hosts": "host names", "device": "see help"}.get(name, "text")


def _unknown(given: str, known: Iterable[str], where: str) -> SettingsInvalid:
    near = difflib.get_close_matches(given, list(known), n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]}?" if near else " `python -m app --help` lists them all."
    return SettingsInvalid(f"There is no setting {given} ({where}).{hint}")


def _read_command_line(argv: Sequence[str]) -> dict[str, tuple[object, str]]:
    """`--name value`, `--name=value`, `--flag`, `--no-flag`. Later ones win."""
    found: dict[str, tuple[object, str]] = {}
    options = {f"--{_dashed(name)}": name for name in names()}
    flags = {f"--no-{_dashed(n)}": n for n in names() if isinstance(_field(n).default, bool)}
    rest = list(argv)
    while rest:
        word, equals, value = rest.pop(0).partition("=")
        if word in flags and not equals:
            found[flags[word]] = (False, word)
            continue
        if word not in options:
            raise _unknown(word, (*options, *flags), "command line")
        name = options[word]
        if isinstance(_field(name).default, bool) and not equals:
            found[name] = (True, word)
            continue
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise SettingsInvalid(f"{word} needs a value: {word} {name.upper()}.")
            value = rest.pop(0)
        found[name] = (value, word)
    return found


def _read_environ(environ: Mapping[str, str]) -> dict[str, tuple[object, str]]:
    found: dict[str, tuple[object, str]] = {}
    known = {ENV_PREFIX + name.upper(): name for name in names()}
    for variable, value in environ.items():
        if not variable.startswith(ENV_PREFIX) or value == "":
            continue
        if variable not in known:
            raise _unknown(variable, known, "environment")
        found[known[variable]] = (value, variable)
    return found


def _read_file(path: Path) -> dict[str, tuple[object, str]]:
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
    known = [name for name in names() if name != "data"]  # the file lies in the folder itself
    for name in content:
        if name not in known:
            raise _unknown(name, known, str(path))
    return {name: (value, f"{name} in {path}") for name, value in content.items()}


def _value(name: str, given: object, source: str) -> Any:
    """`given` as the type of the setting `name`, checked. `source` is how an error names it."""
    f = _field(name)
    default = Path() if name == "data" else f.default
    if isinstance(default, bool):
        return _bool(given, source)
    if isinstance(default, int):
        return _int(given, source, int(f.metadata["low"]), int(f.metadata["high"]))
    if isinstance(default, Path):
        if not isinstance(given, str) or not given.strip() or "\0" in given:
            raise SettingsInvalid(f"{source} must be a folder, not {given!r}.")
        return Path(given).expanduser().absolute()
    if isinstance(default, tuple):
        words = given if isinstance(given, list) else str(given).split(",")
        cleaned = tuple(str(word).strip().lower() for word in words if str(word).strip())
        for word in cleaned:
            _match(word, f.metadata["pattern"], source, "a host name")
        return cleaned
    text = _match(given, f.metadata["pattern"], source, _range(name))
    if name in _PATHS and text != BUILT_IN and text and Path(text).expanduser().exists():
        return str(Path(text).expanduser().absolute())  # the server works in a folder of its own
    return text


def _bool(given: object, source: str) -> bool:
    word = str(given).strip().lower()
    if word not in _TRUE | _FALSE:
        raise SettingsInvalid(f"{source} must be on or off, not {given!r}.")
    return word in _TRUE


def _int(given: object, source: str, low: int, high: int) -> int:
    text = str(given).strip()
    if isinstance(given, bool) or not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise SettingsInvalid(f"{source} must be a whole number, not {given!r}.")
    if not low <= int(text) <= high:
        raise SettingsInvalid(f"{source} must lie between {low} and {high}, not {text}.")
    return int(text)


def _match(given: object, pattern: str, source: str, wanted: str) -> str:
    if not isinstance(given, str) or not re.fullmatch(pattern, given):
        raise SettingsInvalid(f"{source} must be {wanted}, not {given!r}.")
    return given
