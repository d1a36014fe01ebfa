"""The conversations made from rules: true, whole, and apart from what the evaluation asks."""

from __future__ import annotations

import random
import re

import pytest

from training.battery import _PEOPLE, loops
from training.made import KINDS, made_rows
from training.made.edits import correct, letters
from training.made.passages import passage
from training.made.stories import story
from training.made.sums import compare_numbers
from training.made.words import MEN, WOMEN, listed


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_makes_whole_conversations_and_the_same_ones_again(kind: str) -> None:
    rows = list(made_rows(kind, 150, seed=5))
    assert rows == list(made_rows(kind, 150, seed=5))
    assert rows != list(made_rows(kind, 150, seed=6))
    for row in rows:
        roles = [turn["role"] for turn in row["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        for turn in row["messages"]:
            assert turn["content"].strip()
            assert not re.search(r"[{}_]|  ", turn["content"]), turn
            assert turn["role"] == "user" or not loops(turn["content"])


def test_names_of_the_evaluation_are_never_drawn() -> None:
    assert not set(_PEOPLE) & {*WOMEN, *MEN}


def test_made_sums_are_right() -> None:
    signs = {"plus": lambda a, b: a + b, "minus": lambda a, b: a - b, "times": lambda a, b: a * b}
    seen = 0
    for row in made_rows("sums", 1000, seed=3):
        for turn in row["messages"]:
            for a, sign, b, result in re.findall(
                r"(\d+) (plus|minus|times) (\d+) is (-?\d+)", turn["content"]
            ):
                assert signs[sign](int(a), int(b)) == int(result)
                seen += 1
    assert seen > 500


def test_compared_numbers_are_told_apart_rightly() -> None:
    draw = random.Random(1)
    more = {"bigger", "larger", "greater", "higher", "more"}
    for _ in range(300):
        turns = compare_numbers(draw)
        for asked, answered in zip(turns[::2], turns[1::2], strict=True):
            numbers = [int(number) for number in re.findall(r"\d+", asked["content"])]
            number, word = re.findall(r"(\d+) is (\w+)\.", answered["content"])[0]
            assert int(number) == (max(numbers) if word in more else min(numbers)), asked


def test_made_memories_answer_with_what_was_told() -> None:
    names = 0
    for row in made_rows("memory", 500, seed=4):
        told = " ".join(t["content"] for t in row["messages"] if t["role"] == "user")
        for turn in row["messages"]:
            if match := re.fullmatch(r"Your name is (\w+)\.", turn["content"]):
                assert match[1] in told
                names += 1
    assert names > 200


def test_the_answer_stands_in_the_passage() -> None:
    """Every word of an answer is one of the passage or of the questions, or a word of grammar."""
    grammar = set(listed("is are was has the it in at on a because years old does for euros there"))
    draw = random.Random(2)
    for _ in range(400):
        turns = passage(draw)
        known = set(re.findall(r"\w+", " ".join(t["content"] for t in turns[::2]).lower()))
        for asked, answered in zip(turns[::2], turns[1::2], strict=True):
            words = set(re.findall(r"\w+", answered["content"].lower()))
            new = words - known - grammar
            # Verbs change their form between question and answer, so one or two may be new.
            assert len(new) <= 2, (asked, answered, new)


def test_a_question_about_a_passage_has_one_answer() -> None:
    draw = random.Random(3)
    for _ in range(300):
        turns = passage(draw)
        asked = [turn["content"].lower().rstrip("?") for turn in turns[2::2]]
        assert len(set(asked)) == len(asked)


def test_mended_sentences_keep_their_words() -> None:
    draw = random.Random(4)
    for _ in range(100):
        asked, answered = (turn["content"] for turn in correct(draw))
        assert answered[0].isupper() and answered.endswith(".")
        assert answered[:-1].lower() in asked


def test_spelling_is_right() -> None:
    draw = random.Random(5)
    for _ in range(300):
        asked, answered = (turn["content"] for turn in letters(draw))
        if "-" in answered:
            assert answered.replace("-", "").rstrip(".").lower() in asked.lower()
        if match := re.fullmatch(r'"(.+)" has (\d+) letters\.', answered):
            assert len(match[1]) == int(match[2])


def test_a_story_is_about_whom_it_was_asked_for() -> None:
    draw = random.Random(6)
    named = 0
    for _ in range(200):
        asked, told = (turn["content"] for turn in story(draw)[:2])
        if match := re.search(r"named (\w+)", asked):
            assert told.count(match[1]) > 1
            named += 1
    assert named > 20
