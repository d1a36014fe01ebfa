"""The sentences of the page, by key and language. No sentence stands in code.

`assets/strings/<language>/*.json` hold flat objects `{"key": "sentence with {param}"}`. A key that
a translation lacks falls back to English. Values go in as plain text: whoever builds HTML escapes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "assets" / "strings"
SOURCE_LANGUAGE = "en"
_PARAM = re.compile(r"\{([a-z_]+)\}")


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


@dataclass(frozen=True, slots=True)
class Strings:
    """Sentences of one language, English where it lacks some."""

    language: str
    sentences: Mapping[str, str]

    @classmethod
    def load(cls, language: str = SOURCE_LANGUAGE, folder: Path = FOLDER) -> Strings:
        """Read the files of `language`. Raises `ValueError` for a language without files."""
        if not re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z]{2,8})?", language):
            raise ValueError(f"{language!r} is not a language code.")
        own = read_language(folder / language)
        if not own:
            raise ValueError(f"There are no sentences for the language {language!r}.")
        return cls(language, {**read_language(folder / SOURCE_LANGUAGE), **own})

    def say(self, key: str, **params: object) -> str:
        """The sentence of `key` with `{name}` replaced by `params[name]`, as plain text."""
        if key not in self.sentences:
            raise StringMissing(key)

        def fill(match: re.Match[str]) -> str:
            if match[1] not in params:
                raise StringMissing(f"{key} needs {match[1]}")
            return str(params[match[1]])

        return _PARAM.sub(fill, self.sentences[key])

    def __contains__(self, key: str) -> bool:
        return key in self.sentences

    def __iter__(self) -> Iterator[str]:
        return iter(self.sentences)

    def section(self, prefix: str) -> dict[str, str]:
        """All sentences whose key begins with `prefix`, under the rest of their key."""
        return {k[len(prefix) :]: v for k, v in self.sentences.items() if k.startswith(prefix)}
