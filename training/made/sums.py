"""Made sums, small word problems, and comparisons of numbers and things."""

from __future__ import annotations

import random

from training.made.words import COUNTED, article, capital, hurried, listed, name, pick, talk
from training.sources import Turn

_SUM = {
    "+": (
        "What is {a} plus {b}?",
        "{a} plus {b}",
        "What's {a} + {b}?",
        "{a} + {b} = ?",
        "{a}+{b}",
        "Add {a} and {b}.",
        "How much is {a} plus {b}?",
        "Can you add {a} and {b}?",
        "What do you get when you add {a} and {b}?",
        "calculate {a} + {b}",
    ),
    "-": (
        "What is {a} minus {b}?",
        "{a} minus {b}",
        "What's {a} - {b}?",
        "{a} - {b} = ?",
        "{a}-{b}",
        "Subtract {b} from {a}.",
        "How much is {a} minus {b}?",
        "Take {b} away from {a}.",
        "calculate {a} - {b}",
        "What is {a} take away {b}?",
    ),
    "x": (
        "What is {a} times {b}?",
        "{a} times {b}",
        "What's {a} * {b}?",
        "{a} x {b} = ?",
        "{a}*{b}",
        "Multiply {a} by {b}.",
        "How much is {a} times {b}?",
        "calculate {a} x {b}",
        "What is {a} multiplied by {b}?",
    ),
}
SAID = {"+": "plus", "-": "minus", "x": "times"}


def result(a: int, sign: str, b: int) -> int:
    """What the sum comes to."""
    return a + b if sign == "+" else a - b if sign == "-" else a * b


def _numbers(draw: random.Random, sign: str) -> tuple[int, int]:
    if sign == "x":
        return draw.randint(0, 10), draw.randint(0, 10)
    top = draw.choice((10, 20, 20, 20, 20, 20, 20, 100))
    a, b = draw.randint(0, top), draw.randint(0, top)
    return (max(a, b), min(a, b)) if sign == "-" and draw.random() < 0.9 else (a, b)


def sums(draw: random.Random) -> list[Turn]:
    """One to three sums, each answered by a sentence that repeats it."""
    lines: list[str] = []
    for _ in range(draw.choice((1, 1, 2, 3))):
        sign = draw.choice("++--x")
        a, b = _numbers(draw, sign)
        asked = draw.choice(_SUM[sign]).format(a=a, b=b)
        if draw.random() < 0.3:
            asked = pick(draw, "Hi! ", "Please tell me: ", "Quick question: ", "ok, ") + asked
        lines += [asked, f"{a} {SAID[sign]} {b} is {result(a, sign, b)}."]
    return talk(*lines)


def word_problem(draw: random.Random) -> list[Turn]:
    """A small story with a sum in it."""
    a, b = draw.randint(1, 20), draw.randint(1, 20)
    a, b = max(a, b), min(a, b)
    thing, who = draw.choice(COUNTED), name(draw)
    if draw.random() < 0.5:
        asked = pick(
            draw,
            f"{who} has {a} {thing} and gets {b} more. How many {thing} does {who} have now?",
            f"I have {a} {thing}. I buy {b} more. How many {thing} do I have?",
            f"{a} {thing} are on the table and {b} in the box. How many {thing} are there?",
        )
        return talk(asked, f"{a} plus {b} is {a + b}, so the answer is {a + b} {thing}.")
    asked = pick(
        draw,
        f"{who} has {a} {thing} and gives away {b}. How many {thing} are left?",
        f"I had {a} {thing} and lost {b}. How many do I have now?",
        f"There were {a} {thing} in the bag. {who} took {b}. How many {thing} are left?",
    )
    return talk(asked, f"{a} minus {b} is {a - b}, so {a - b} {thing} are left.")


def around(draw: random.Random) -> list[Turn]:
    """What comes next and before, even and odd, halves, doubles, counting."""
    a, b = sorted(draw.sample(range(1, 100), 2))
    even = "an even" if a % 2 == 0 else "an odd"
    return talk(
        *draw.choice(
            (
                (f"What number comes after {a}?", f"{a + 1} comes after {a}."),
                (f"What number comes before {a}?", f"{a - 1} comes before {a}."),
                (f"Is {a} even or odd?", f"{a} is {even} number."),
                (f"What is half of {2 * a}?", f"Half of {2 * a} is {a}."),
                (f"Double {a}.", f"Double {a} is {2 * a}."),
                (f"Count from {a} to {a + 6}.", ", ".join(map(str, range(a, a + 7))) + "."),
            )
        )
    )


_MORE = ("bigger", "larger", "greater", "higher", "more")
_LESS = ("smaller", "less", "lower", "fewer")
_WHICH = (
    "Which is {w}, {a} or {b}?",
    "Which number is {w}: {a} or {b}?",
    "What is {w}, {a} or {b}?",
    "Is {a} or {b} {w}?",
    "{a} or {b}, which is {w}?",
    "Which one is {w}, {a} or {b}?",
    "Tell me which is {w}: {a} or {b}.",
)


def _pair(draw: random.Random) -> tuple[int, int]:
    """Two different numbers; often close ones, where only the second digit decides."""
    top = draw.choice((20, 100, 100, 100, 100, 1000))
    a = draw.randint(1, top - 1)
    if draw.random() < 0.3:
        b = max(1, a + draw.choice((-9, -5, -3, -2, -1, 1, 2, 3, 5, 9)))
        return a, b if b != a else a + 1
    b = draw.randint(1, top - 1)
    return a, b if b != a else a + 1


def compare_numbers(draw: random.Random) -> list[Turn]:
    """Two to six pairs of numbers; the answer begins with the one asked for."""
    lines: list[str] = []
    for _ in range(draw.choice((1, 2, 4, 6))):
        a, b = _pair(draw)
        more = draw.random() < 0.65
        word = draw.choice(_MORE if more else _LESS)
        wanted = max(a, b) if more else min(a, b)
        if draw.random() < 0.15:
            yes = a == wanted
            lines += [f"Is {a} {word} than {b}?", f"{'Yes' if yes else 'No'}, {wanted} is {word}."]
            continue
        asked = draw.choice(_WHICH).format(w=word, a=a, b=b)
        lines += [hurried(asked, draw), f"{wanted} is {word}."]
    return talk(*lines)


# From the least to the most of each, so that any two can be compared.
_SCALES: tuple[tuple[tuple[str, ...], tuple[str, ...], str], ...] = (
    (("bigger", "larger", "heavier"), ("smaller", "lighter"),
     "ant bee mouse rabbit cat dog sheep pig lion horse elephant whale"),
    (("faster",), ("slower",), "snail turtle cow dog horse train plane rocket"),
    (("hotter", "warmer"), ("colder", "cooler"), "snowball fridge classroom cup_of_tea oven fire"),
    (("bigger", "larger"), ("smaller",), "grape plum apple melon pumpkin"),
    (("longer",), ("shorter",), "second minute hour day week month year century"),
    (("bigger", "larger"), ("smaller",), "room house street village city country continent planet"),
)  # fmt: skip


def compare_things(draw: random.Random) -> list[Turn]:
    """Which of two well-known things is more or less of something."""
    more, less, scale = draw.choice(_SCALES)
    order = listed(scale)
    low, high = sorted(draw.sample(range(len(order)), 2))
    first, second = draw.sample((order[low], order[high]), 2)
    is_more = draw.random() < 0.6
    word = draw.choice(more if is_more else less)
    wanted = order[high] if is_more else order[low]
    asked = pick(
        draw,
        f"Which is {word}, {article(first)} or {article(second)}?",
        f"What is {word}: {article(first)} or {article(second)}?",
        f"Is {article(first)} {word} than {article(second)}?",
    )
    if asked.startswith("Is "):
        said = "Yes" if first == wanted else "No"
        return talk(asked, f"{said}, {article(wanted)} is {word}.")
    return talk(asked, f"{capital(article(wanted))} is {word}.")


def compare_people(draw: random.Random) -> list[Turn]:
    """Two or three people told in order of something; who is most or least of it."""
    word, most, other, least = draw.choice(
        (
            ("older", "oldest", "younger", "youngest"),
            ("taller", "tallest", "shorter", "shortest"),
            ("faster", "fastest", "slower", "slowest"),
            ("stronger", "strongest", "weaker", "weakest"),
        )
    )
    a, b, c = name(draw), name(draw), name(draw)
    if draw.random() < 0.6:
        asked, said = draw.choice(
            ((f"Who is {word}?", f"{a} is {word}."), (f"Who is {other}?", f"{b} is {other}."))
        )
        return talk(f"{a} is {word} than {b}. {asked}", said)
    asked, said = draw.choice(
        (
            (f"Who is the {most}?", f"{a} is the {most}."),
            (f"Who is the {least}?", f"{c} is the {least}."),
        )
    )
    return talk(f"{a} is {word} than {b}. {b} is {word} than {c}. {asked}", said)
