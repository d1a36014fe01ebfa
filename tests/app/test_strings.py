"""Sentences are found, filled and never silently missing."""

from __future__ import annotations

import json
import re
from contextvars import copy_context
from pathlib import Path

import pytest

from app.strings import (
    FOLDER,
    LANGUAGES,
    SOURCE_LANGUAGE,
    StringMissing,
    Strings,
    read_language,
    speaking,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for language, content in (
        ("en", {"a.hello": "Hello {name}!", "a.bye": "Bye {0} {x.y}"}),
        ("fr", {"a.hello": "Bonjour {name} !"}),
    ):
        (tmp_path / language).mkdir()
        (tmp_path / language / "page.json").write_text(json.dumps(content), encoding="utf-8")
    return tmp_path


def test_say_fills_named_params_only(folder: Path) -> None:
    strings = Strings.load("en", folder)
    assert strings.say("a.hello", name="{name} & <b>") == "Hello {name} & <b>!"
    assert strings.say("a.bye") == "Bye {0} {x.y}"


def test_a_translation_falls_back_to_english(folder: Path) -> None:
    strings = Strings.load("fr", folder)
    assert strings.say("a.hello", name="x") == "Bonjour x !"
    assert "a.bye" in strings
    assert strings.section("a.") == {"hello": "Bonjour {name} !", "bye": "Bye {0} {x.y}"}


def test_missing_keys_and_params_raise(folder: Path) -> None:
    strings = Strings.load("en", folder)
    with pytest.raises(StringMissing):
        strings.say("nothing")
    with pytest.raises(StringMissing, match="needs name"):
        strings.say("a.hello")


def test_unknown_languages_and_double_keys_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="no sentences"):
        Strings.load("de", folder)
    with pytest.raises(ValueError, match="not a language code"):
        Strings.load("../en", folder)
    (folder / "en" / "z.json").write_text('{"a.hello": "again"}', encoding="utf-8")
    with pytest.raises(ValueError, match="twice"):
        read_language(folder / "en")
    (folder / "en" / "z.json").write_text('{"n": 1}', encoding="utf-8")
    with pytest.raises(ValueError, match="not a string"):
        read_language(folder / "en")


def test_a_page_is_answered_in_its_own_language(folder: Path) -> None:
    strings = Strings("en", {name: read_language(folder / name) for name in ("en", "fr")})

    def said(language: str) -> str:
        speaking(language)
        return strings.say("a.hello", name="x")

    spoken = {language: copy_context().run(said, language) for language in ("fr", "en", "", "xx")}
    assert spoken == {"fr": "Bonjour x !", "en": "Hello x!", "": "Hello x!", "xx": "Hello x!"}
    assert strings.language == "en"


@pytest.mark.parametrize("language", [name for name in LANGUAGES if name != SOURCE_LANGUAGE])
def test_no_sentence_is_missing_in_a_translation(language: str) -> None:
    source, own = read_language(FOLDER / SOURCE_LANGUAGE), read_language(FOLDER / language)
    assert sorted(set(source) - set(own)) == [], f"these keys are missing in {language}"
    assert sorted(set(own) - set(source)) == [], f"these keys of {language} are not in English"
    params = {key: sorted(set(re.findall(r"\{[a-z_]+\}", text))) for key, text in source.items()}
    other = {key: sorted(set(re.findall(r"\{[a-z_]+\}", text))) for key, text in own.items()}
    assert other == params
    empty = [key for key, text in own.items() if bool(text) != bool(source[key])]
    assert empty == []
