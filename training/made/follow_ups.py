"""Made follow-ups: "tell me more", "why?", "and of France?", "another one", after a first answer.

Each needs the turns before it, so the model has to look back instead of answering the words alone.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

from training.made.words import article, capital, distinct, hurried, pick, talk
from training.sources import TEXTS, Turn

_HERE = Path(__file__).parent


def table(file: str) -> list[list[str]]:
    """The lines of a table beside this module, in their columns."""
    lines = (_HERE / file).read_text(encoding="utf-8").splitlines()
    return [line.split(" ; ") for line in lines if line and not line.startswith("#")]


KNOWN = table("known.txt")
_REASONS = table("reasons.txt")
JOKES = table("jokes.txt")

_MORE = (
    "Tell me more.", "tell me more", "More, please.", "What else?", "Anything else?", "go on",
    "And what else?", "Go on.", "Do you know more about it?", "Can you tell me more?", "and?",
    "Tell me more about that.", "Interesting! What else?", "Another fact, please.", "more",
    "Really? Tell me more.", "What else do you know?", "Oh nice, go on.", "I want to know more.",
    "One more thing about it?", "Continue, please.", "ok, and what else", "Tell me another fact.",
)  # fmt: skip
_ASKS = {
    "live": ("Where do they live?", "And where do they live?", "Where can I find them?",
             "In which places do they live?", "ok and where do they live", "Where is their home?",
             "Where do you find them?", "where are they found"),
    "eat": ("What do they eat?", "And what do they eat?", "What is their food?", "And their food?",
            "what kind of food do they eat", "What do they like to eat?"),
    "use": ("What is it for?", "What is it good for?", "What do people do with it?",
            "what is it used for", "What do we need it for?", "And what is the use of it?",
            "What can I do with it?"),
    "more": _MORE,
}  # fmt: skip


def opened(draw: random.Random, one: str, many: str, what: str) -> str:
    """The first question about a thing or a person."""
    single = one if many == "-" else article(one)
    many = one.removeprefix("a ") if many == "-" else many
    if what.startswith(f"{one} was"):
        return pick(
            draw, f"Who was {one}?", f"Tell me about {one}.", f"What do you know about {one}?",
            f"Who is {one}?", f"do you know {one}", f"tell me something about {one}",
        )  # fmt: skip
    return pick(
        draw, f"What is {single}?", f"What's {single}?", f"Tell me about {many}.",
        f"What do you know about {many}?", f"Tell me something about {many}.",
        f"tell me about {many} please", f"I want to know something about {many}.",
        f"Do you know anything about {many}?", f"Can you tell me about {many}?",
        f"Explain what {single} is.", f"Let's talk about {many}.",
    )  # fmt: skip


def _told(draw: random.Random, known: list[str], opening: str) -> list[str]:
    """One thing: the opening, what it is, and some of the rest, `more` in the order of the file."""
    one, many, what, *rest = known
    lines = [opening, what]
    asked = [pair.split(": ", 1) for pair in rest]
    wanted = sorted({kind for kind, _ in asked}, key=lambda _: draw.random())
    order = [kind for kind in wanted for other, _ in asked if other == kind]
    said: dict[str, list[str]] = {kind: [a for k, a in asked if k == kind] for kind in wanted}
    for kind in order[: draw.choice((1, 1, 2, 3, 4))]:
        ask = draw.choice(_ASKS[kind])
        if kind in ("live", "eat") and many != "-" and draw.random() < 0.25:
            ask = f"{'Where' if kind == 'live' else 'What'} do {many} {kind}?"
        lines += [hurried(ask, draw), said[kind].pop(0)]
    if not said.get("more") and draw.random() < 0.5:
        about = one if many == "-" else many
        lines += [draw.choice(_MORE),
                  f"That is all I know about {about}. A bigger Llama knows more."]  # fmt: skip
    return lines


def about(draw: random.Random) -> list[Turn]:
    """A thing and more of it; now and then another thing comes up and is meant from then on."""
    first, second = distinct(draw, KNOWN, 2)
    many = first[0] if first[1] == "-" else first[1]
    lines = _told(draw, first, hurried(opened(draw, *first[:3]), draw))
    if first[1] != "-" and draw.random() < 0.15:
        lines[0] = pick(draw, f"Do you like {many}?", f"do you like {many}", f"I like {many}.",
                        f"I love {many}!", f"What do you think about {many}?")  # fmt: skip
        lines[1] = pick(draw, f"I like to read about {many}. {first[2]}",
                        f"{capital(many)} are interesting! {first[2]}")  # fmt: skip
    if draw.random() < 0.35:
        other = second[0] if second[1] == "-" else second[1]
        asked = pick(draw, f"And what about {other}?", f"What about {other}?", f"And {other}?",
                     f"How about {other}?", f"and {other}")  # fmt: skip
        lines += _told(draw, second, asked)
    return talk(*lines)


_NO = ("No", "Better not", "Not")


def reasons(draw: random.Random) -> list[Turn]:
    """A question, its answer, and why; then perhaps thanks or a word of understanding."""
    lines: list[str] = []
    for asked, answer, because in distinct(draw, _REASONS, draw.choice((1, 1, 2))):
        why = pick(
            draw, "Why?", "why", "Why is that?", "And why?", "How come?", "why so", "But why?",
            "Can you tell me why?", "What is the reason?", "Why do you think so?", "Oh, why?",
            "Tell me why.", "Really? Why?", "why is that so",
        )  # fmt: skip
        if answer.startswith(_NO) and draw.random() < 0.4:
            why = pick(draw, "Why not?", "why not", "And why not?", "Oh, why not?")
        lines += [hurried(asked, draw), answer, why, because]
    if draw.random() < 0.4:
        lines += understood(draw)
    return talk(*lines)


def understood(draw: random.Random) -> list[str]:
    """What people say when they got their answer, and what is said to that."""
    if draw.random() < 0.5:
        return [
            pick(draw, "Thanks", "Thank you!", "thanks, that helps", "Great, thank you", "thx",
                 "Ah, thanks.", "Thank you, I did not know that.", "Perfect, thanks!",
                 "That was helpful, thanks", "Thanks for explaining", "Cool, thanks"),
            pick(draw, "You're welcome!", "You're welcome. Is there anything else?",
                 "I'm happy to help!"),
        ]  # fmt: skip
    return [
        pick(draw, "I see", "I see.", "Ah, ok", "Got it.", "makes sense", "Interesting!", "Okay.",
             "Oh, I didn't know that", "Aha", "Good to know", "That makes sense.", "wow", "Cool!"),
        pick(draw, "Good! What else would you like to know?",
             "I'm glad. Do you have another question?"),
    ]  # fmt: skip


def _tables() -> list[tuple[list[str], list[tuple[str, str]]]]:
    """The tables among the cards on words: wordings with a gap, and what fills it with answers."""
    tables: list[tuple[list[str], list[tuple[str, str]]]] = []
    for line in (TEXTS / "words" / "common.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("* "):
            tables.append(([wording.strip() for wording in line[2:].split("|")], []))
        elif line.startswith("+ "):
            key, answer = line[2:].split(" = ", 1)
            tables[-1][1].append((key, answer))
    return tables


TABLES = _tables()


def series(draw: random.Random) -> list[Turn]:
    """A question out of a table, and then the same of other things in two or three words."""
    wordings, entries = draw.choice(TABLES)
    chosen = distinct(draw, entries, draw.choice((2, 2, 3, 4)))
    wording = draw.choice(wordings)
    gap = re.search(r"(\b(?:of|for|before|after) )?(\ban? )?\{\}", wording)
    assert gap is not None
    lines = [hurried(wording.format(chosen[0][0]), draw), chosen[0][1]]
    for key, answer in chosen[1:]:
        thing = (gap[2] or "") + key
        asked = pick(draw, "And {x}?", "and {x}", "What about {x}?", "{x}?", "How about {x}?",
                     "And {of}{x}?", "and {of}{x}?", "And now {x}.", "ok, and {x}?",
                     "Now {of}{x}, please.")  # fmt: skip
        lines += [capital(asked.format(x=thing, of=gap[1] or "")), answer]
    return talk(*lines)


def jokes(draw: random.Random) -> list[Turn]:
    """A joke, the next ones in the order of the file, and what is funny about them."""
    place = draw.randrange(len(JOKES))
    lines = [
        pick(draw, "Tell me a joke.", "A joke, please.", "joke", "Do you know a joke?",
             "Can you tell me a joke?", "Make me laugh.", "Another joke please."),
        JOKES[place][0],
    ]  # fmt: skip
    for _ in range(draw.choice((1, 1, 2, 3))):
        choice = draw.random()
        if choice < 0.5:
            place = (place + 1) % len(JOKES)
            lines += [
                pick(draw, "Another one.", "Another one, please!", "One more.", "another", "again!",
                     "Haha, another one.", "Tell me one more.", "Do you have another one?",
                     "And another?", "next one", "I want one more joke."),
                JOKES[place][0],
            ]  # fmt: skip
        elif choice < 0.8:
            lines += [
                pick(draw, "I don't get it.", "Why is that funny?", "Explain it, please.",
                     "What is funny about it?", "I don't understand the joke.", "why is it funny",
                     "Can you explain the joke?", "explain"),
                JOKES[place][1],
            ]  # fmt: skip
        else:
            place = (place + 1) % len(JOKES)
            lines += [
                pick(draw, "haha", "That was funny!", "lol", "Good one!", "Very funny."),
                "I'm glad you liked it! Do you want another one?",
                pick(draw, "Yes", "yes please", "Sure!", "ok", "Yes, one more."),
                JOKES[place][0],
            ]  # fmt: skip
    return talk(*lines)
