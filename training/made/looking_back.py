"""Made looking back: the second of a list, the sum so far, what was said, corrections."""

from __future__ import annotations

import random

from training.made.everyday import exchange
from training.made.follow_ups import KNOWN, TABLES, opened, understood
from training.made.lists import LISTS
from training.made.sums import SAID, result, sums
from training.made.words import capital, name, number_word, pick, talk
from training.sources import Turn

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")


def of_list(draw: random.Random) -> list[Turn]:
    """A list, and questions about its places, its length and what comes next."""
    kind = draw.choice(list(LISTS))
    every = LISTS[kind].split()
    count = draw.choice((2, 3, 3, 4, 5))
    items = every[:count]

    def bullets(some: list[str]) -> str:
        return "\n".join(f"- {item}" for item in some)

    asked = pick(draw, "Name {n} {k}.", "Give me {n} {k}.", "List {n} {k}.", "Tell me {n} {k}.")
    lines = [asked.format(n=number_word(count), k=kind), bullets(items)]
    for _ in range(draw.choice((1, 2, 2, 3))):
        place = draw.randrange(count)
        extra = draw.choice((1, 1, 2))
        choice = draw.random()
        if choice < 0.4:
            last = place == count - 1 == len(items) - 1 and draw.random() < 0.5
            which = "last" if last else _ORDINALS[place]
            lines += [
                pick(draw, f"What was the {which} one?", f"Which one is the {which}?",
                     f"And the {which} one?", f"the {which} one?", f"Which was {which}?",
                     f"What is the {which} one again?", f"Tell me only the {which} one."),
                f"The {which} one is {items[place]}.",
            ]  # fmt: skip
        elif choice < 0.6 and len(items) + extra <= len(every):
            following = every[len(items) : len(items) + extra]
            many = number_word(extra)
            asked = pick(draw, f"{many} more", f"{capital(many)} more, please.",
                         f"Give me {many} more.", f"And {many} more?")  # fmt: skip
            if extra == 1 and draw.random() < 0.5:
                asked = pick(draw, "Another one.", "another one please", "And another?")
            lines += [asked, bullets(following)]
            items = [*items, *following]
        elif choice < 0.75:
            lines += [pick(draw, "How many did you name?", "How many are these?"),
                      f"That is {number_word(len(items))}."]  # fmt: skip
        elif choice < 0.9:
            item = draw.choice(every)
            yes = item in items
            answer = f"Yes, {item} is on the list." if yes else f"No, {item} is not on the list."
            lines += [f"Is {item.lower()} one of them?", answer]
        else:
            lines += [pick(draw, "Say them again.", "Can you repeat the list?", "Once more?",
                           "List them all again."), bullets(items)]  # fmt: skip
    return talk(*lines)


def of_sum(draw: random.Random) -> list[Turn]:
    """A sum, and sums that go on from its result."""
    a, b = draw.randint(0, 15), draw.randint(0, 12)
    total = a + b
    last = f"{a} plus {b} is {total}."
    lines = [pick(draw, f"What is {a} plus {b}?", f"{a}+{b}", f"Add {a} and {b}."), last]
    for _ in range(draw.choice((1, 2, 3))):
        if draw.random() < 0.2:
            lines += [pick(draw, "Are you sure?", "Really?", "is that right?", "Sure about that?"),
                      f"Yes, {last}"]  # fmt: skip
            continue
        sign = draw.choice("++--x")
        c = draw.randint(0, min(total, 20)) if sign == "-" else draw.randint(1, 9)
        if sign == "x":
            c = 2
        word = SAID[sign]
        asked = pick(draw, f"And {word} {c}?", f"now {word} {c}", f"and then {word} {c}",
                     f"And that {word} {c}?", f"ok, {word} {c}")  # fmt: skip
        if draw.random() < 0.3 and sign != "x":  # a new sum of the same kind
            total = draw.randint(1, 20)
            c = draw.randint(0, total if sign == "-" else 12)
            asked = pick(draw, f"And {total} {word} {c}?", f"What about {total} {word} {c}?",
                         f"and {total} {word} {c}")  # fmt: skip
        new = result(total, sign, c)
        last = f"{total} {word} {c} is {new}."
        lines += [asked, last]
        if new > 60:
            break
        total = new
    return talk(*lines)


def _any_exchange(draw: random.Random) -> list[str]:
    """One question and its answer of any kind."""
    choice = draw.random()
    if choice < 0.3:
        return exchange(draw)
    if choice < 0.5:
        return [turn["content"] for turn in sums(draw)[:2]]
    if choice < 0.75:
        wordings, entries = draw.choice(TABLES)
        key, answer = draw.choice(entries)
        return [draw.choice(wordings).format(key), answer]
    one, many, what, *_ = draw.choice(KNOWN)
    return [opened(draw, one, many, what), what]


def again(draw: random.Random) -> list[Turn]:
    """What was said, once more; what was asked; thanks after any kind of help."""
    asked, answer = _any_exchange(draw)
    lines = [asked, answer]
    choice = draw.random()
    if choice < 0.35:
        lines += [
            pick(draw, "Say that again.", "Can you repeat that?", "What did you say?", "Pardon?",
                 "Once more, please.", "Please repeat your answer.", "Come again?",
                 "I did not read that, say it again", "What did you just say?", "repeat that",
                 "What was your answer?", "Sorry, can you say that again?"),
            answer,
        ]  # fmt: skip
    elif choice < 0.6:
        said = "asked" if asked.rstrip().endswith("?") else "said"
        lines += [
            pick(draw, "What did I just ask?", "What was my question?", "What did I say?",
                 "What did I write?", "What was my last message?", "Repeat my question."),
            f'You {said}: "{asked}"',
        ]  # fmt: skip
    else:
        lines += understood(draw)
    if draw.random() < 0.4:
        lines += _any_exchange(draw)
    return talk(*lines)


def corrected(draw: random.Random) -> list[Turn]:
    """Something told, then told otherwise: what was said last counts."""
    old, new = name(draw), name(draw)
    if draw.random() < 0.5:
        lines = [
            pick(draw, f"My name is {old}.", f"I am {old}.", f"Call me {old}."),
            f"Nice to meet you, {old}!",
            pick(draw, f"No, my name is {new}.", f"Sorry, I meant {new}.",
                 f"Actually, it is {new}.",
                 f"Wait, I am {new}, not {old}.", f"That was wrong. My name is {new}.",
                 f"You can also call me {new}.", f"no its {new}"),
            f"Thank you, {new}! Now I know.",
            pick(draw, "What is my name?", "So what am I called?", "Who am I?", "what's my name"),
            f"Your name is {new}.",
        ]  # fmt: skip
    else:
        a, b = draw.sample(range(2, 100), 2)
        lines = [
            pick(draw, f"Remember the number {a}.", f"My lucky number is {a}."),
            f"I will remember {a}.",
            pick(draw, f"No, make that {b}.", f"Sorry, I meant {b}.", f"Change it to {b}.",
                 f"Forget it, take {b}.", f"Actually, it is {b}."),
            f"I will remember {b}.",
            pick(draw, "What was the number?", "Which number is it?", "So what is the number?"),
            f"The number is {b}.",
        ]  # fmt: skip
    return talk(*lines)


def counted(draw: random.Random) -> list[Turn]:
    """How many letters, words or things there were in what was just said."""
    words = [name(draw) for _ in range(draw.choice((2, 3, 4, 5)))]
    listed = ", ".join(words[:-1]) + f" and {words[-1]}"
    place = draw.randrange(len(words))
    return talk(
        pick(draw, f"My friends are {listed}.", f"{listed} are coming to dinner.",
             f"I met {listed} today."),
        pick(draw, "How nice! Have a good time with them.", "That sounds lovely!"),
        *draw.choice(
            (
                ("How many people did I name?", f"You named {number_word(len(words))}."),
                (f"Who was the {_ORDINALS[place]}?",
                 f"The {_ORDINALS[place]} was {words[place]}."),
                ("Who was the last one?", f"The last one was {words[-1]}."),
                (pick(draw, "Say their names.", "Who are they?", "Repeat the names."),
                 f"They are {listed}."),
            )
        ),
    )  # fmt: skip
