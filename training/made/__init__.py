"""Conversations made from rules, where a fixed file would be learned by rote.

Each kind is a file of rows for the training; the module of the same story tells how one is made.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from training.made.answering_back import chat, offers, trouble
from training.made.beyond import beyond
from training.made.edits import (
    calendar,
    correct,
    kind_of,
    letters,
    odd_one,
    person_of,
    polite,
    shorter,
    tense,
)
from training.made.everyday import small_talk
from training.made.follow_ups import about, jokes, reasons, series
from training.made.languages import foreign, odd_english
from training.made.lists import copy, echo, listing, lookup
from training.made.looking_back import again, corrected, counted, of_list, of_sum
from training.made.memory import memory, names, pet
from training.made.passages import passage
from training.made.stories import go_on, story
from training.made.sums import (
    around,
    compare_numbers,
    compare_people,
    compare_things,
    sums,
    word_problem,
)
from training.sources import Row, Turn

KINDS: dict[str, tuple[Callable[[random.Random], list[Turn]], ...]] = {
    "sums": (sums, sums, sums, word_problem, word_problem, around),
    "comparing": (compare_numbers, compare_numbers, compare_things, compare_people),
    "memory": (memory, names, names, pet),
    "everyday": (small_talk,),
    "passages": (passage, passage, passage, lookup),
    "edits": (correct, correct, tense, person_of, polite, shorter, kind_of, kind_of, odd_one,
              letters, letters, calendar),
    "lists": (echo, copy, copy, listing),
    "beyond": (beyond,),
    "follow_ups": (about, about, about, reasons, series, series, jokes),
    "looking_back": (of_list, of_sum, again, again, corrected, counted),
    "answering_back": (chat, chat, chat, trouble, offers),
    "languages": (foreign, odd_english, odd_english),
    "stories": (story, story, story, go_on),
}  # fmt: skip


def made_rows(kind: str, number: int, seed: int) -> Iterator[Row]:
    """`number` rows of one of `KINDS`; the same ones for the same seed."""
    draw = random.Random(seed)
    for _ in range(number):
        yield {"messages": draw.choice(KINDS[kind])(draw), "source": "made"}
