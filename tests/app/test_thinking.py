"""What a reasoning model thinks is told apart from what it answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.thinking import Parts, split


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Just an answer.", Parts("", "Just an answer.")),
        ("<think>\nHm.\n</think>\n\nYes.", Parts("Hm.", "Yes.")),
        ("\n<think>Hm", Parts("Hm", "", open=True)),
        ("<think>", Parts("", "", open=True)),
        ("Hm, well.\n</think>\n\nYes.", Parts("Hm, well.", "Yes.")),
        ("<think></think>Yes.", Parts("", "Yes.")),
        ("Write `</think>` at the end.", Parts("", "Write `</think>` at the end.")),
        ("```\n<think>\n</think>\n```", Parts("", "```\n<think>\n</think>\n```")),
        ("<th", Parts("", "<th")),
    ],
)
def test_parts(text: str, parts: Parts) -> None:
    assert split(text) == parts


def test_a_growing_reply_never_shows_a_part_of_the_mark() -> None:
    whole = "<think>Hm.</think>Yes."
    shown = [split(whole[:end], growing=True).answer for end in range(len(whole) + 1)]
    assert shown == [""] * len("<think>Hm.</think>") + ["", "Y", "Ye", "Yes", "Yes."]


@given(st.text(), st.text())
def test_nothing_of_an_answer_is_lost(thought: str, answer: str) -> None:
    thought = thought.replace("</think>", "")
    parts = split(f"<think>{thought}</think>{answer}")
    assert (parts.thought, parts.answer) == (thought.strip(), answer.lstrip())
