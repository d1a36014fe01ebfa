"""Made exercises in memory: things told, other talk in between, and then each of them asked for."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from training.made.everyday import exchange
from training.made.lists import listing
from training.made.passages import passage
from training.made.sums import around, compare_numbers, sums
from training.made.words import (
    COLOURS,
    FOODS,
    HOBBIES,
    JOBS,
    PETS,
    capital,
    full_name,
    hurried,
    name,
    pick,
    talk,
    town,
)
from training.sources import Turn


@dataclass(frozen=True)
class Told:
    """Something to remember: how it is told, taken up, asked for, answered, and if never told."""

    value: Callable[[random.Random], str]
    tell: tuple[str, ...]
    reply: tuple[str, ...]
    ask: tuple[str, ...]
    answer: str
    unknown: str


def _one_of(words: Sequence[str]) -> Callable[[random.Random], str]:
    return lambda draw: draw.choice(words)


_FACTS: tuple[Told, ...] = (
    Told(
        full_name,
        ("My name is {x}.", "I am {x}.", "Hi, I'm {x}.", "Hello! My name is {x}.", "Call me {x}.",
         "my name is {x}", "Hey, {x} here.", "You can call me {x}.", "My name's {x}", "I'm {x}",
         "Hello, I am {x}.", "People call me {x}.", "My friends call me {x}.", "This is {x}.",
         "Good morning, I'm {x}!", "hi im {x}", "Im {x}", "im {x}", "its {x}",
         "Nice to meet you, I am {x}.", "It's {x} here."),
        ("Nice to meet you, {x}!", "Hello {x}! How can I help?",
         "Hi {x}! It is nice to meet you."),
        ("What's my name?", "Do you know my name?", "who am I?", "Can you tell me my name?",
         "Do you know what I am called?", "what was my name again?", "Tell me my name.",
         "Say my name.", "What did I say my name was?", "Do you still know my name?",
         "Can you remember my name?", "How am I called?", "And my name is?", "my name?",
         "Which name did I tell you?", "Do you remember what I am called?",
         "Have you forgotten my name?", "Please tell me what I am called.", "What's my name again?",
         "What is my name?", "Who are you talking to?"),
        "Your name is {x}.",
        "You have not told me your name yet.",
    ),
    Told(
        town,
        ("I live in {x}.", "I come from {x}.", "My home is in {x}.", "I am from {x}.",
         "I moved to {x}.", "i live in {x}", "My family lives in {x}, and so do I."),
        ("{x} sounds like a nice place.", "How nice! I hope you like it in {x}."),
        ("Where do I live?", "Where am I from?", "Which town did I tell you about?",
         "Do you remember where I live?", "In which town do I live?", "What is my town?"),
        "You live in {x}.",
        "You have not told me where you live.",
    ),
    Told(
        _one_of(COLOURS),
        ("My favorite color is {x}.", "I like the color {x} best.", "My favourite colour is {x}.",
         "I love the color {x}."),
        ("{X} is a lovely color!", "Good choice! {X} is a beautiful color."),
        ("What is my favorite color?", "Which color do I like best?",
         "What's my favourite colour?", "Which color do I love?"),
        "Your favorite color is {x}.",
        "You have not told me your favorite color.",
    ),
    Told(
        _one_of(FOODS),
        ("I love eating {x}.", "My favorite food is {x}.", "I really like {x}.", "I love {x}."),
        ("{X}! That sounds tasty.", "Mmm, {x}. Enjoy!"),
        ("What do I like to eat?", "What is my favorite food?", "Which food do I like?"),
        "You like {x}.",
        "You have not told me what you like to eat.",
    ),
    Told(
        _one_of(JOBS),
        ("I work as a {x}.", "I am a {x}.", "My job is being a {x}.", "I'm a {x}"),
        ("Being a {x} sounds interesting!", "That is good work. I hope you enjoy it."),
        ("What is my job?", "What do I do for work?", "Do you remember my job?"),
        "You work as a {x}.",
        "You have not told me what your job is.",
    ),
    Told(
        _one_of(HOBBIES),
        ("My hobby is {x}.", "I enjoy {x}.", "In my free time I like {x}."),
        ("{X} sounds like fun!", "What a nice hobby!"),
        ("What is my hobby?", "What do I like to do in my free time?", "Do you know my hobby?"),
        "Your hobby is {x}.",
        "You have not told me about your hobbies.",
    ),
    Told(
        lambda draw: str(draw.randint(2, 99)),
        ("My lucky number is {x}.", "Please remember the number {x}.", "Remember this number: {x}.",
         "Keep the number {x} in mind.", "The number is {x}, don't forget it."),
        ("I will remember {x}.", "{x}, got it."),
        ("What number did I tell you?", "Which number should you remember?", "What was the number?",
         "Do you remember the number?", "Tell me the number."),
        "The number is {x}.",
        "You have not told me a number yet.",
    ),
    Told(
        lambda draw: str(draw.randint(5, 90)),
        ("I am {x} years old.", "I'm {x} years old", "My age is {x}.", "I turned {x} this year."),
        ("{x} is a good age!", "Thank you for telling me. {x} is a fine age."),
        ("How old am I?", "What is my age?", "Do you remember how old I am?"),
        "You are {x} years old.",
        "You have not told me how old you are.",
    ),
)  # fmt: skip
_NAME = _FACTS[0]


def _between(draw: random.Random, most: int) -> list[str]:
    """Up to that many other exchanges: small talk as often as sums, lists and passages."""
    lines: list[str] = []
    for _ in range(draw.randint(0, most)):
        if draw.random() < 0.5:
            lines += exchange(draw)
        else:
            made = draw.choice((sums, around, compare_numbers, listing, passage))(draw)
            lines += [turn["content"] for turn in made[:2]]
    return lines


def memory(draw: random.Random) -> list[Turn]:
    """One to three things told, other talk, then each asked for; now and then one never told."""
    chosen = draw.sample(_FACTS, draw.choice((1, 1, 2, 2, 3)))
    lines: list[str] = []
    later: list[tuple[str, str]] = []
    for fact in chosen:
        x = fact.value(draw)
        words = {"x": x, "X": capital(x)}
        lines += [draw.choice(fact.tell).format(**words), draw.choice(fact.reply).format(**words)]
        later.append((hurried(draw.choice(fact.ask), draw), fact.answer.format(**words)))
        if draw.random() < 0.3:
            lines += _between(draw, 2)
        elif len(lines) == 4 and draw.random() < 0.5:  # two things told in one breath
            lines = [f"{lines[0]} {lines[2]}", lines[3]]
    lines += _between(draw, 2)
    draw.shuffle(later)
    for asked in later[: draw.choice((1, 2, 3))]:
        lines += asked
    if draw.random() < 0.15:
        fact = draw.choice([fact for fact in _FACTS if fact not in chosen])
        lines += [draw.choice(fact.ask), fact.unknown]
    return talk(*lines)


def names(draw: random.Random) -> list[Turn]:
    """A name told at the start and asked for after nothing or much else; others are named, too."""
    x = full_name(draw)
    lines = [draw.choice(_NAME.tell).format(x=x), draw.choice(_NAME.reply).format(x=x)]
    if draw.random() < 0.35:
        other = name(draw)
        kin = pick(draw, "friend", "brother", "sister", "mother", "father", "teacher", "neighbour")
        lines += [pick(draw, f"My {kin} is called {other}.", f"My {kin}'s name is {other}."),
                  f"{other} is a nice name."]  # fmt: skip
        later = [
            (pick(draw, f"What is my {kin}'s name?", f"What is my {kin} called?"),
             f"Your {kin}'s name is {other}."),
            (draw.choice(_NAME.ask), f"Your name is {x}."),
        ]  # fmt: skip
        draw.shuffle(later)
    else:
        later = [(hurried(draw.choice(_NAME.ask), draw), f"Your name is {x}.")]
    lines += _between(draw, draw.choice((0, 1, 2, 4)))
    for asked in later:
        lines += asked
    return talk(*lines)


def pet(draw: random.Random) -> list[Turn]:
    """A pet with a name, asked for in both directions."""
    kind, called = draw.choice(PETS), name(draw)
    told = pick(
        draw,
        f"I have a {kind} called {called}.",
        f"My {kind} is called {called}.",
        f"I have a {kind}. Its name is {called}.",
        f"My {kind}'s name is {called}.",
    )
    reply = pick(
        draw, f"{called} is a nice name for a {kind}!", f"How nice! I hope {called} is well."
    )
    asked = draw.choice(
        (
            (f"What is my {kind}'s name?", f"Your {kind}'s name is {called}."),
            (f"What is the name of my {kind}?", f"Your {kind}'s name is {called}."),
            (f"Who is {called}?", f"{called} is your {kind}."),
            ("What pet do I have?", f"You have a {kind} called {called}."),
        )
    )
    return talk(told, reply, *_between(draw, 2), *asked)
