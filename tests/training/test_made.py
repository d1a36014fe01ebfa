"""The conversations made from rules: true, whole, and apart from what the evaluation asks."""

from __future__ import annotations

import random
import re

import pytest

from training.battery import SPELLED, loops, names_told, not_taken_for_foreign
from training.made import KINDS, made_rows
from training.made.answering_back import chat
from training.made.edits import correct, letters
from training.made.events import event
from training.made.follow_ups import about, table
from training.made.languages import ENGLISH_PLEASE, foreign, odd_english
from training.made.looking_back import again, corrected, of_list, of_sum
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


def test_names_and_spelled_words_of_the_evaluation_are_never_drawn() -> None:
    assert not names_told() & {who.lower() for who in (*WOMEN, *MEN)}
    assert len({*WOMEN, *MEN}) > 600
    draw = random.Random(8)
    for _ in range(1000):
        asked = letters(draw)[0]["content"].lower()
        assert not {*SPELLED} & set(re.findall(r"\w+", asked)), asked


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
            if answered["content"].startswith(("The text does not say", "I have read it")):
                continue
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


def test_every_question_about_an_event_is_answered_by_its_words() -> None:
    draw = random.Random(7)
    for _ in range(300):
        told, questions = event(draw)
        words = set(re.findall(r"\w+", told.lower()))
        assert questions and len({ask for ask, _ in questions}) == len(questions)
        for ask, answer in questions:
            new = set(re.findall(r"\w+", f"{answer}".lower())) - words
            assert new <= {"helped", *re.findall(r"\w+", ask.lower())}, (told, ask, answer)


def test_tables_of_follow_ups_are_whole() -> None:
    for one, many, what, *rest in table("known.txt"):
        assert one.lower() in what.lower() and len(rest) >= 2, one
        assert many == "-" or many != one or one == "deer"
        assert all(re.match(r"(live|eat|use|more): [A-Z].+\.$", entry) for entry in rest), one
    for file, columns in (("reasons.txt", 3), ("jokes.txt", 2)):
        assert all(len(row) == columns and all(row) for row in table(file)), file
    assert all(row[2].startswith("Because") for row in table("reasons.txt"))


def test_a_thing_told_about_is_taken_up_again() -> None:
    draw = random.Random(8)
    known = {row[2]: row for row in table("known.txt")}
    followed = 0
    for _ in range(200):
        answers = [turn["content"] for turn in about(draw)[1::2]]
        row = next(known[what] for what in known if answers[0].endswith(what))
        for answer in answers[1:2]:
            assert (
                "That is all" in answer
                or any(answer in entry for entry in row[2:])
                or (answer in known)
            ), (row[0], answer)
            followed += 1
    assert followed > 100


def test_what_is_looked_back_at_was_said() -> None:
    draw = random.Random(9)
    for _ in range(200):
        turns = [turn["content"] for turn in of_list(draw)]
        named = re.findall(r"- (.+)", "\n".join(turns[:2]))
        for asked, answered in zip(turns[2::2], turns[3::2], strict=True):
            if match := re.search(r"The (first|second) one is (.+)\.", answered):
                assert named[("first", "second").index(match[1])] == match[2], asked
        turns = [turn["content"] for turn in corrected(draw)]
        assert turns[5].rstrip(".").split()[-1] in turns[2]
        turns = [turn["content"] for turn in again(draw)]
        if turns[3].startswith("You "):
            assert turns[3].endswith(f'"{turns[0]}"')


def test_sums_that_go_on_are_right() -> None:
    signs = {"plus": lambda a, b: a + b, "minus": lambda a, b: a - b, "times": lambda a, b: a * b}
    draw = random.Random(10)
    for _ in range(200):
        for turn in of_sum(draw)[1::2]:
            a, sign, b, total = re.findall(r"(\d+) (\w+) (\d+) is (-?\d+)", turn["content"])[0]
            assert signs[sign](int(a), int(b)) == int(total)


def test_answers_take_up_the_names_that_the_user_gives() -> None:
    draw = random.Random(11)
    named = 0
    for _ in range(400):
        turns = [turn["content"] for turn in chat(draw)]
        for before, answered in zip(turns[::2], turns[1::2], strict=True):
            if match := re.match(r"(\w+)(?:,| is) (?:what )?a nice name", answered):
                assert match[1].lower() in before.lower()
                named += 1
    assert named > 20


def test_english_is_asked_for_only_where_the_user_wrote_something_else() -> None:
    draw = random.Random(12)
    letters_beyond_english = 0
    for _ in range(300):
        asked, answered = (turn["content"] for turn in foreign(draw)[:2])
        assert answered == ENGLISH_PLEASE
        letters_beyond_english += not asked.isascii()
        turns = odd_english(draw)
        assert all(not_taken_for_foreign(turn["content"]) for turn in turns[1::2])
    assert letters_beyond_english > 100
