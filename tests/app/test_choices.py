"""What a conversation asks for: read tolerantly, applied exactly, said to the model as a rule."""

from __future__ import annotations

import json
import re

import pytest

from app.chinese import converted
from app.choices import PRESETS, Choices, instructions, sampling_values
from app.library import USE_CASES, Library, filled, variables
from engine.base import Sampling

LIBRARY = Library.load()


def test_a_preset_changes_the_makers_values_and_nothing_else() -> None:
    usual = Sampling(temperature=0.6, top_p=0.9, top_k=40, max_new_tokens=77)
    assert Choices().sampling(usual) == usual
    assert Choices(preset="exact").sampling(usual).temperature == 0
    creative = Choices(preset="creative").sampling(usual)
    assert (creative.temperature, creative.top_k, creative.max_new_tokens) == (1.0, 40, 77)
    own = Choices(preset="own", values={"seed": 5, "top_k": 3}).sampling(usual)
    assert (own.seed, own.top_k, own.temperature) == (5, 3, 0.6)
    for name in PRESETS:
        Choices(preset=name).sampling(Sampling())  # raises nothing


def test_what_is_kept_reads_back_and_defaults_are_not_kept() -> None:
    chosen = Choices("own", {"temperature": 0.2}, "zh-Hant", True, "stop", "Editor")
    assert Choices.from_json(json.loads(json.dumps(chosen.to_json()))) == chosen
    assert Choices().to_json() == {}


@pytest.mark.parametrize(
    "kept",
    [
        {"preset": 3, "values": [1], "language": "tlh", "convert": "yes", "overflow": None},
        {"preset": ["own"], "values": {"temperature": float("nan"), "top_k": "x", 5: 6}},
        {"values": {"temperature": 99, "seed": -1, "max_new_tokens": 0.5, "top_p": True}},
        {"language": ["en"], "persona": {"a": 1}, "unknown": "field"},
    ],
)
def test_nonsense_is_as_if_it_had_never_been_chosen(kept: dict[str, object]) -> None:
    assert Choices.from_json(kept) == Choices()


def test_sampling_values_keep_only_what_is_possible() -> None:
    given = {"temperature": 1, "top_k": 40.0, "seed": 2**62, "logit_bias": {1: 5}, "top_p": 2}
    assert sampling_values(given) == {"temperature": 1, "top_k": 40, "seed": 2**62}


def test_the_language_is_a_rule_at_the_end_of_the_system_prompt() -> None:
    told = instructions("Be brief. ", Choices(language="zh-Hans"), LIBRARY)
    assert told == "Be brief.\n\n" + LIBRARY.rules["zh-Hans"]
    assert instructions("", Choices(language="en"), LIBRARY) == LIBRARY.rules["en"]
    assert instructions("Be brief.", Choices(), LIBRARY) == "Be brief."


@pytest.mark.parametrize("language", ["en", "zh-Hans", "zh-Hant"])
def test_every_use_case_has_prompts_in_every_language(language: str) -> None:
    library = Library.load(language)
    assert {prompt.use_case for prompt in library.prompts} == set(USE_CASES)
    assert len(library.prompts) == len(Library.load("en").prompts)
    assert len(library.personas) == len(LIBRARY.personas)
    for prompt, english in zip(library.prompts, LIBRARY.prompts, strict=True):
        assert prompt.use_case == english.use_case
        assert len(variables(prompt.text)) == len(variables(english.text)) >= 1, prompt.name
    chinese = sum(bool(re.search("[一-鿿]", prompt.text)) for prompt in library.prompts)
    assert chinese == (0 if language == "en" else len(library.prompts))


def test_an_unknown_language_has_the_english_library() -> None:
    assert Library.load("de").prompts == LIBRARY.prompts


def test_variables_are_filled_once_and_values_are_taken_as_they_are() -> None:
    text = "{{a}} and {{ b c }} and {{a}}, {not} {{}} {{d}}"
    assert variables(text) == ["a", "b c", "d"]
    assert filled(text, {"a": "{{d}}", "b c": r"\1", "d": ""}) == (
        r"{{d}} and \1 and {{d}}, {not} {{}} {{d}}"
    )


def test_answers_change_script_and_code_does_not() -> None:
    text = "头发和软件：`头发` 与\n```py\nx = '头发'\n```\n发展。支持\n~~~\n头发"
    assert converted(text, "zh-Hant") == (
        "頭髮和軟件：`头发` 與\n```py\nx = '头发'\n```\n發展。支持\n~~~\n头发"
    )
    assert converted("頭髮發展", "zh-Hans") == "头发发展"
    assert converted(text, "en") == converted(text, "") == text
    assert converted("plain", "zh-Hant") == "plain"
    assert converted("`` ` 头 `` 头 ` 头", "zh-Hant") == "`` ` 头 `` 頭 ` 頭"
