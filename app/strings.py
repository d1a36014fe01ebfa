"""The sentences of the page, by key and language. No sentence stands in code.

`assets/strings/<language>/*.json` hold flat objects `{"key": "sentence with {param}"}`. A key that
a translation lacks falls back to English. Values go in as plain text: whoever builds HTML escapes.

A page speaks the language that its browser asks for (`speaking`); what has no browser before it,
such as the terminal, speaks the one of the settings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "assets" / "strings"
SOURCE_LANGUAGE = "en"
LANGUAGES = {"en": "English", "zh-Hans": "简体中文", "zh-Hant": "繁體中文"}  # by their own names
AUTO = "auto"  # each browser's own, English elsewhere
PARAM = re.compile(r"\{([a-z_]+)\}")
_spoken: ContextVar[str] = ContextVar("spoken", default="")


class StringMissing(KeyError):
    """No sentence has this key, or it was said without one of its parameters: a mistake of ours."""


def read_language(folder: Path) -> dict[str, str]:
    """All sentences below `folder`. Raises `ValueError` on a key given twice or a non-string."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.json")):
        for key, sentence in json.loads(path.read_text(encoding="utf-8")).items():
            if not isinstance(sentence, str):
                raise ValueError(f"{path}: {key} is not a string.")
            if key in found:
                raise ValueError(f"{path}: {key} is given twice.")
            found[key] = sentence
    return found


def speaking(language: str) -> None:
    """From here on, in this task or thread, speak `language` where its sentences were loaded."""
    _spoken.set(language)


def language_of(accept_language: str) -> str:
    """The first of our languages in an Accept-Language header; "" without one."""
    for part in accept_language.split(","):
        tag = part.partition(";")[0].strip().lower()
        if tag.startswith("zh"):
            return "zh-Hant" if {"tw", "hk", "mo", "hant"} & {*tag.split("-")} else "zh-Hans"
        if tag.startswith("en"):
            return "en"
    return ""


@dataclass(frozen=True, slots=True)
class Strings:
    """Sentences by language, English where one lacks some; `default` if none is asked for."""

    default: str
    by_language: Mapping[str, Mapping[str, str]]

    @classmethod
    def load(cls, language: str = SOURCE_LANGUAGE, folder: Path = FOLDER) -> Strings:
        """Read the files of `language`; of all languages for "auto".

        Raises `ValueError` for a language without files.
        """
        languages = [*LANGUAGES] if language == AUTO else [language]
        default = SOURCE_LANGUAGE if language == AUTO else language
        source = read_language(folder / SOURCE_LANGUAGE)
        by_language = {name: {**source, **_own(folder, name)} for name in languages}
        return cls(default, by_language)

    @property
    def language(self) -> str:
        """The one that is spoken now."""
        asked = _spoken.get()
        return asked if asked in self.by_language else self.default

    def say(self, key: str, /, **params: object) -> str:
        """The sentence of `key` with `{name}` replaced by `params[name]`, as plain text."""
        sentences = self._sentences
        if key not in sentences:
            raise StringMissing(key)

        def fill(match: re.Match[str]) -> str:
            if match[1] not in params:
                raise StringMissing(f"{key} needs {match[1]}")
            return str(params[match[1]])

        return PARAM.sub(fill, sentences[key])

    def __contains__(self, key: str) -> bool:
        return key in self._sentences

    def __iter__(self) -> Iterator[str]:
        return iter(self._sentences)

    def section(self, prefix: str) -> dict[str, str]:
        """All sentences whose key begins with `prefix`, under the rest of their key."""
        return {k[len(prefix) :]: v for k, v in self._sentences.items() if k.startswith(prefix)}

    def each(self, make: Callable[[], bytes]) -> Callable[[], bytes]:
        """What `make` gives in each language, made once; then the one that is spoken."""
        made = {}
        for language in self.by_language:
            speaking(language)
            made[language] = make()
        speaking("")
        return lambda: made[self.language]

    @property
    def _sentences(self) -> Mapping[str, str]:
        return self.by_language[self.language]


def _own(folder: Path, language: str) -> dict[str, str]:
    if not re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z]{2,8})?", language):
        raise ValueError(f"{language!r} is not a language code.")
    own = read_language(folder / language)
    if not own:
        raise ValueError(f"There are no sentences for the language {language!r}.")
    return own
