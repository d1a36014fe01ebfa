"""The prompt library: prompts in twelve use cases, personas, and the rule for a reply's language.

`assets/library/<language>.json` hold them. A `{{name}}` in a prompt is a variable that is filled in
before the prompt is used. The use cases are those of the human evaluation of Llama 3 (Meta, "Meta
Llama 3", April 2024: 1,800 prompts that cover twelve key use cases).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "assets" / "library"
SOURCE_LANGUAGE = "en"
USE_CASES = (
    *("advice", "brainstorming", "classification", "closed_qa", "coding", "creative_writing"),
    *("extraction", "persona", "open_qa", "reasoning", "rewriting", "summarization"),
)
_VARIABLE = re.compile(r"\{\{\s*([^{}\n]{1,60}?)\s*\}\}")


@dataclass(frozen=True, slots=True)
class LibraryPrompt:
    """A prompt to begin with."""

    use_case: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Persona:
    """A system prompt with a name."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Library:
    """What ships. `rules`: a reply language → the sentence that asks a model for it."""

    prompts: Sequence[LibraryPrompt]
    personas: Sequence[Persona]
    rules: Mapping[str, str]

    @classmethod
    def load(cls, language: str = SOURCE_LANGUAGE, folder: Path = FOLDER) -> Library:
        """Prompts and personas in `language`, else in English; the rules of all languages."""
        files = {path.stem: _read(path) for path in sorted(folder.glob("*.json"))}
        own = files.get(language) or files[SOURCE_LANGUAGE]
        return cls(
            prompts=tuple(LibraryPrompt(**prompt) for prompt in own["prompts"]),
            personas=tuple(Persona(**persona) for persona in own["personas"]),
            rules={name: str(file["rule"]) for name, file in files.items()},
        )


@cache
def library(language: str) -> Library:
    """The library in `language`, read once."""
    return Library.load(language)


def variables(text: str) -> list[str]:
    """The names of the variables in a prompt, each once, in order."""
    return list(dict.fromkeys(match[1] for match in _VARIABLE.finditer(text)))


def filled(text: str, values: Mapping[str, str]) -> str:
    """A prompt with its variables replaced; one without a value stays as it stands.

    What is filled in is not looked at again: a value may hold braces.
    """
    return _VARIABLE.sub(lambda match: values.get(match[1]) or match[0], text)


def _read(path: Path) -> dict[str, list[dict[str, str]]]:
    content: dict[str, list[dict[str, str]]] = json.loads(path.read_text(encoding="utf-8"))
    return content
