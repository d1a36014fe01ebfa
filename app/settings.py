"""Every choice that can be made at the start: one definition each, one order of precedence.

A value comes from the command line, else from the environment (`CORRAL_*`), else from
`settings.toml` in the data folder, else it is the default. Everything is read once by
`Settings.load`; nothing is read at import and no other module looks at the environment.
The table in the README, `--help` and the tests are made from the same definitions.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from app.setting import BUILT_IN, Definition, SettingsInvalid, setting
from app.settings_sources import FILE_NAME, Given, read_command_line, read_environment, read_file
from engine.home import PointerUnreadable, data_folder

Origin = Literal["command line", "environment", "settings file", "default"]


@dataclass(frozen=True)
class Settings:
    """The values chosen by the user. Frozen: a change takes a new start."""

    data: Path = setting(
        data_folder,
        "Folder for conversations, models and the log.",
        shown="the system's folder for program data",
    )
    port: int = setting(
        7860,
        "Port on this machine; one that is named here is used or refused, "
        "the default gives way to the next free one.",
        low=1,
        high=65535,
    )
    browser: bool = setting(True, "Open the page in the browser after the start.")
    model: str = setting(
        BUILT_IN,
        "Name, folder or GGUF file of the model to chat with, or a server: http://HOST:PORT/v1#NAME.",
        pattern=r".+",
    )
    device: str = setting(
        "auto",
        "Where to compute: auto, cpu, cuda, cuda:1, mps.",
        pattern=r"auto|cpu|mps|cuda(:\d{1,2})?",
    )
    precision: str = setting(
        "auto", "How weights are kept.", pattern=r"auto|fp32|bf16|int8|int4|int4-128"
    )
    offload: str = setting(
        "auto",
        "Where layers go that the device has no room for: to other GPUs and to main memory (auto), "
        "to the disk as well (disk), or nowhere (never). Answers come slowly then.",
        pattern=r"auto|disk|never",
    )
    device_megabytes: int = setting(
        0,
        "Memory of the device that a model may take; 0 takes what is free.",
        low=0,
        high=4_000_000,
    )
    adapter: str = setting(
        "", "Folder of a LoRA adapter that is merged into the model.", pattern=r".*", shown="none"
    )
    extension: str = setting(
        "",
        "A longer context than the model was made for: linear:2, dynamic:2 or yarn:4.",
        pattern=r"|(linear|dynamic|yarn):\d{1,2}(\.\d{1,3})?",
        shown="none",
    )
    draft: str = setting(
        "",
        "Name, folder or GGUF file of a smaller model of the same family that guesses ahead; "
        "answers stay the same, and it rests where it does not pay. It reads each prompt too.",
        pattern=r".*",
        shown="none",
    )
    deterministic: bool = setting(
        False,
        "Compute every token as if it were alone, so that the same prompt and seed give the same "
        "answer in any precision; prompts are read more slowly.",
    )
    allow_pickle: bool = setting(
        False, "Open .pth and .bin files of models, for tensors only, of makers that you trust."
    )
    threads: int = setting(
        0, "Processor threads that compute; 0 chooses by the machine.", low=0, high=1024
    )
    context: int = setting(
        0, "Longest context in tokens; 0 takes what the model allows.", low=0, high=10_000_000
    )
    cache_megabytes: int = setting(
        0,
        "Memory for keys and values of conversations; 0 chooses by the machine.",
        low=0,
        high=4_000_000,
    )
    cache_memory_megabytes: int = setting(
        0,
        "Main memory for keys and values that were moved off a GPU; 0 chooses by the machine.",
        low=0,
        high=4_000_000,
    )
    cache_precision: str = setting(
        "auto",
        "How keys and values of conversations are kept: as suits the model (auto), or in int8, in "
        "about half the memory.",
        pattern=r"auto|int8",
    )
    cache_disk_megabytes: int = setting(
        4096,
        "Disk for keys and values of conversations, so that one opened after a restart is not "
        "read again; 0 keeps none there.",
        low=0,
        high=4_000_000,
    )
    language: str = setting(
        "auto",
        "Language of the page; auto is each browser's own.",
        pattern=r"auto|en|zh-Hans|zh-Hant",
    )
    theme: str = setting("auto", "Colours of the page.", pattern=r"auto|light|dark")
    guard: str = setting(
        BUILT_IN,
        "What judges beside the fixed rules: built-in, the folder of a guard, or the address of "
        "a remote one, which then reads everything.",
        pattern=r".+",
    )
    guard_combine: str = setting(
        "any",
        "How a further guard joins the built-in one: either may stop a text (any), their scores "
        "are averaged (weighted), or it is asked only when the built-in one is unsure (cascade).",
        pattern=r"any|weighted|cascade",
    )
    guard_key_file: str = setting(
        "", "File with the key of a remote guard.", pattern=r".*", shown="none"
    )
    code_shield: str = setting(
        "",
        "Folder that `python -m safety code-shield FOLDER` made: Meta's Code Shield then takes a "
        "second look at code.",
        pattern=r".*",
        shown="none",
    )
    hosts: tuple[str, ...] = setting(
        (),
        "Further host names, with commas, under which the page may be asked for; "
        "anyone who can reach the port under them sees the entrance.",
        pattern=r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]+\]",
        shown="none",
    )
    api: bool = setting(False, "Answer programs that show a key at /v1, in OpenAI's shape.")
    share: bool = setting(False, "Open a share link after the start; needs a password account.")
    share_hours: int = setting(24, "A share link ends after this long.", low=1, high=168)
    share_server: str = setting(
        "",
        "Tunnel server of your own, host:port; without one, Gradio's.",
        pattern=r"([A-Za-z0-9.-]{1,253}:[0-9]{1,5})?",
        shown="Gradio's",
    )
    share_certificate: str = setting(
        "", "File with the certificate of your own tunnel server.", pattern=r"[^\0]*", shown="none"
    )
    lan: bool = setting(
        False, "Answer in the local network after the start; needs a password account."
    )
    certificate: str = setting(
        "",
        "File with a certificate, so that the local network is served by HTTPS.",
        pattern=r"[^\0]*",
        shown="none",
    )
    certificate_key: str = setting(
        "", "File with the key of that certificate.", pattern=r"[^\0]*", shown="none"
    )
    session_idle_hours: int = setting(
        168, "A browser that was away this long must enter anew.", low=1, high=8760
    )
    session_days: int = setting(
        30, "Every browser must enter anew after this long.", low=1, high=365
    )
    trash_days: int = setting(
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
        known = definitions()
        line, env = read_command_line(argv, known), read_environment(environ, known)
        data = _data_folder(line.get("data") or env.get("data"), environ)
        saved = read_file(file or data / FILE_NAME, known)
        values: dict[str, Any] = {"data": data}
        origins: dict[str, Origin] = {}
        sources: tuple[tuple[Origin, Given], ...] = (
            ("command line", line),
            ("environment", env),
            ("settings file", saved),
        )
        for each in known:
            for origin, source in sources:
                if each.name in source:
                    values[each.name] = each.value(*source[each.name])
                    origins[each.name] = origin
                    break
        return cls(**values, origins=origins)

    def origin(self, name: str) -> Origin:
        """Where the value of `name` came from."""
        return self.origins.get(name, "default")


def definitions() -> tuple[Definition, ...]:
    """What is known of each setting, in the order of the table."""
    return tuple(Definition.of(each) for each in fields(Settings) if each.name != "origins")


def names() -> tuple[str, ...]:
    """The names of all settings, in the order of the table."""
    return tuple(each.name for each in definitions())


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


def _data_folder(given: tuple[object, str] | None, environ: Mapping[str, str]) -> Path:
    """The folder that was given, with the words that name its source, or the usual one."""
    if given is not None:
        folder: Path = definitions()[0].value(*given)
        return folder
    try:
        return data_folder(environ)
    except PointerUnreadable as error:
        raise SettingsInvalid(str(error)) from error
