"""Made short passages, and questions whose answer stands in them.

A passage holds one fact or several, often of the same kind with other people and things in the
gaps, so that only reading finds the answer.
"""

from __future__ import annotations

import random

from training.made.events import event
from training.made.facts import FACTS, GAPS, Fact
from training.made.words import articles, capital, hurried, name, person, pick, talk
from training.sources import Turn

# What happened to somebody, and because of what.
_REASONS = (
    ("was late", "missed the bus"),
    ("was late", "overslept"),
    ("stayed at home", "had a cold"),
    ("was tired", "worked all night"),
    ("was happy", "won the race"),
    ("was sad", "lost the game"),
    ("cried", "broke the cup"),
    ("laughed", "heard a joke"),
    ("went to bed early", "was tired"),
    ("bought a coat", "was cold"),
    ("took a taxi", "was in a hurry"),
    ("was cold", "left the coat at home"),
    ("drank a glass of water", "was thirsty"),
    ("made a sandwich", "was hungry"),
    ("called the doctor", "felt ill"),
    ("could not get in", "lost the key"),
    ("smiled", "got a letter"),
    ("missed the train", "woke up too late"),
    ("turned on the lamp", "could not see anything"),
    ("was proud", "passed the test"),
    ("opened the window", "felt hot"),
    ("slipped", "did not see the ice"),
    ("was angry", "found the cake gone"),
    ("ran home", "saw dark clouds"),
)


def _fill(fact: Fact, draw: random.Random, taken: set[str]) -> tuple[str, list[tuple[str, str]]]:
    """A wording and its questions with words in the gaps that the passage has not used yet."""
    values = {}
    for gap, fill in GAPS.items():
        while (word := fill(draw)) in taken:
            pass
        values[gap] = word
    for role in ("A", "B"):
        while (found := person(draw))[0] in taken:
            pass
        called, pronoun = found
        taken.add(called)
        values[role] = called
        if role == "A":
            his = {"he": "his", "she": "her"}[pronoun]
            values |= {"he": pronoun, "He": pronoun.capitalize(), "his": his}
            values["His"] = his.capitalize()
    taken.update(values.values())
    told = draw.choice(fact.told)
    answerable = [
        (ask, answer)
        for ask, answer in fact.asked
        if all(f"{{{gap}}}" in told for gap in (*GAPS, "A", "B") if f"{{{gap}}}" in ask + answer)
    ]
    return articles(told.format(**values)), [
        (articles(ask.format(**values)), articles(capital(answer.format(**values))))
        for ask, answer in answerable
    ]


def _reason(draw: random.Random) -> tuple[str, list[tuple[str, str]]]:
    """Somebody did something for a reason, told in one of the ways that English has."""
    who, pronoun = person(draw)
    effect, cause = draw.choice(_REASONS)
    told = pick(
        draw,
        f"{who} {cause}, so {pronoun} {effect}.",
        f"{who} {effect} because {pronoun} {cause}.",
        f"Because {who} {cause}, {pronoun} {effect}.",
        f"{who} {cause}. That is why {pronoun} {effect}.",
    )
    verb, rest = _question_form(effect)
    return told, [(f"Why {verb} {who} {rest}?", f"Because {pronoun} {cause}.")]


_BASE = {
    "stayed": "stay", "cried": "cry", "laughed": "laugh", "went": "go", "bought": "buy",
    "took": "take", "drank": "drink", "made": "make", "called": "call", "smiled": "smile",
    "missed": "miss", "turned": "turn", "opened": "open", "slipped": "slip", "ran": "run",
}  # fmt: skip


def _question_form(effect: str) -> tuple[str, str]:
    """`was late` gives `was`, `late`; `ran home` gives `did`, `run home`."""
    verb, _, rest = effect.partition(" ")
    if verb in ("was", "could"):
        return verb, rest
    return "did", f"{_BASE[verb]} {rest}".strip()


def passage(draw: random.Random) -> list[Turn]:
    """One to five facts, and one or two questions about one of them."""
    taken: set[str] = set()
    count = draw.choice((1, 1, 2, 2, 2, 3, 3, 4, 5))
    first = draw.choice(FACTS)
    alike = draw.random() < 0.6  # the same kind again: nothing but the names tells them apart
    told = [
        _fill(first if alike or not place else draw.choice(FACTS), draw, taken)
        for place in range(count)
    ]
    if draw.random() < 0.12:
        told[-1] = _reason(draw)
    if draw.random() < 0.4:
        told = [event(draw) for _ in told]
    elif draw.random() < 0.2:
        told.append(event(draw))
    text = " ".join(sentence for sentence, _ in told)
    questions = [question for _, some in told for question in some if _clear(question, told)]
    if not questions:
        return passage(draw)
    draw.shuffle(questions)
    if draw.random() < 0.04:
        questions.insert(0, _untold(draw, text))
    ask, answer = questions[0]
    if draw.random() < 0.1:  # the text first, the question when asked for it
        return talk(
            pick(draw, f"Here is a text: {text}", f"Please read this: {text}", f"Read: {text}"),
            "I have read it. What would you like to know?",
            *(line for ask, answer in questions[:3] for line in (hurried(ask, draw), answer)),
        )
    joint = draw.choice(("\n\n", "\n\n", " ", "\n"))
    asked = hurried(ask, draw)
    lines = [f"{text}{joint}{asked}", answer]
    if draw.random() < 0.15:
        lines[0] = pick(
            draw,
            f"Read this and answer the question.\n\n{text}\n\n{ask}",
            f"{ask}\n\n{text}",
            f"Text: {text}\nQuestion: {ask}",
        )
    for ask, answer in questions[1 : draw.choice((1, 1, 2, 3))]:
        lines += [hurried(ask, draw), answer]
    return talk(*lines)


def _untold(draw: random.Random, text: str) -> tuple[str, str]:
    """A question that the text does not answer, since nobody in it is asked about."""
    who = name(draw)
    asked = pick(draw, f"How old is {who}?", f"Where does {who} live?", f"What did {who} buy?",
                 f"What is {who}'s job?", f"Who is {who}?")  # fmt: skip
    return (asked, "The text does not say that.") if who not in text else _untold(draw, text)


def _clear(question: tuple[str, str], told: list[tuple[str, list[tuple[str, str]]]]) -> bool:
    """Whether only one of the sentences answers the question."""
    return sum(question[0] in (ask for ask, _ in some) for _, some in told) == 1
