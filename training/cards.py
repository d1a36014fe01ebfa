"""The dialogues written for Corral: cards in `training/texts/*/*.txt`, spread to conversations.

A card is a group of lines, an empty line ends it::

    ? a question            one line per wording
    = an answer             one line per wording; ` / ` is a line break
    > a follow-up           a second exchange, optional; one line each ...
    < and its answer        ... in pairs

A table makes one card of every entry: wordings with a gap, then what fills it and the answer::

    * What is a {}? | Define {}.
    + river = A river is a large stream of water.

A line that starts with `#` is a remark. Every question meets its answers, with and without a
greeting, a capital or a full stop, because people type carelessly.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from training.sources import Row, Turn

OPENINGS = (
    "Hi! ",
    "Hello. ",
    "Hey, ",
    "Please tell me: ",
    "I have a question. ",
    "ok, ",
    "So, ",
    "Can you tell me: ",
    "One more thing: ",
    "Sorry, ",
)
CLOSINGS = (" please", " then", ", actually", ", by the way", " exactly", " now", ", my friend")
MISTYPED = 0.15  # of the questions have a letter wrong
SPREAD = 2  # careless variants of each wording, besides the wording itself


@dataclass
class Card:
    """One topic: wordings of the question, of the answer, and what may follow."""

    asks: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    follow_ups: list[tuple[str, str]] = field(default_factory=list)


def read_cards(path: Path) -> list[Card]:
    """The cards of a file; a line of no known kind raises ValueError with its number."""
    cards: list[Card] = []
    card = Card()
    wordings: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        mark, text = line[:2], line[2:].strip().replace(" / ", "\n")
        if not line.strip():
            cards += [card] if card.asks and card.answers else []
            card = Card()
        elif mark == "? ":
            card.asks.append(text)
        elif mark == "= ":
            card.answers.append(text)
        elif mark == "* ":
            wordings = [wording.strip() for wording in text.split("|")]
        elif mark == "+ " and " = " in text:
            key, answer = text.split(" = ", 1)
            cards.append(Card([wording.format(key) for wording in wordings], [answer]))
        elif mark == "> ":
            card.follow_ups.append((text, ""))
        elif mark == "< ":
            card.follow_ups[-1] = (card.follow_ups[-1][0], text)
        elif not line.startswith("#"):
            raise ValueError(f"{path.name}, line {number}: starts with none of `? = > < * + #`")
    return cards + ([card] if card.asks and card.answers else [])


def careless(ask: str, draw: random.Random) -> str:
    """The same question as somebody in a hurry might type it."""
    if draw.random() < 0.5:
        opening = draw.choice(OPENINGS)
        lower = opening.endswith((", ", ": ")) and not ask.startswith(("I ", "I'", "Corral"))
        ask = opening + (ask[0].lower() + ask[1:] if lower else ask)
    if draw.random() < 0.15 and ask[-1] in ".?!" and ask.isascii():
        ask = ask[:-1] + draw.choice(CLOSINGS) + ask[-1]
    if draw.random() < 0.35:
        ask = ask.lower()
    if draw.random() < 0.35:
        ask = ask.rstrip(".?!")
    return ask


def mistyped(text: str, draw: random.Random) -> str:
    """The text with one letter inside a word left out, doubled or swapped with the next."""
    places = [i for i in range(1, len(text) - 2) if text[i - 1 : i + 3].isalpha()]
    if not places or not text.isascii():
        return text
    at = draw.choice(places)
    here, following = text[at], text[at + 1]
    instead, taken = draw.choice((("", 1), (here * 2, 1), (following + here, 2)))
    return text[:at] + instead + text[at + taken :]


def spread(card: Card, draw: random.Random) -> Iterator[list[Turn]]:
    """Conversations of one card: every wording as written and some careless ones."""
    for ask in card.asks:
        for wording in (ask, *(careless(ask, draw) for _ in range(SPREAD))):
            if draw.random() < MISTYPED:
                wording = mistyped(wording, draw)
            lines = [wording, draw.choice(card.answers)]
            if card.follow_ups and draw.random() < 0.4:
                lines += draw.choice(card.follow_ups)
            yield [
                {"role": ("user", "assistant")[place % 2], "content": line}
                for place, line in enumerate(lines)
            ]


def card_rows(folder: Path, seed: int) -> Iterator[Row]:
    """All conversations of all card files, the same for the same seed."""
    draw = random.Random(seed)
    for path in sorted(folder.glob("*.txt")):
        for card in read_cards(path):
            for turns in spread(card, draw):
                yield {"messages": turns, "source": path.stem}
