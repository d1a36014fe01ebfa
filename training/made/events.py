"""Made sentences of who did what, where, when and how, with a question about each part.

The verbs, things and places are drawn freely, so that no guess helps: whoever answers must read.
"""

from __future__ import annotations

import random

from training.made.words import (
    COLOURS,
    COUNTED,
    DAYS,
    FOODS,
    JOBS,
    MONTHS,
    NUMBERS,
    PETS,
    SPOTS,
    THINGS,
    articles,
    capital,
    full_name,
    listed,
    person,
    pick,
    town,
)

# Base form, past, and what the verb is done to.
_VERBS = tuple(
    tuple(entry.split(":"))
    for entry in listed("""
repair:repaired:thing paint:painted:thing borrow:borrowed:thing clean:cleaned:thing hide:hid:thing
carry:carried:thing drop:dropped:thing wash:washed:thing sell:sold:thing draw:drew:thing
order:ordered:thing return:returned:thing open:opened:thing pack:packed:thing bring:brought:thing
choose:chose:thing steal:stole:thing find:found:thing need:needed:thing want:wanted:thing
push:pushed:thing throw:threw:thing lift:lifted:thing build:built:thing forget:forgot:thing
cook:cooked:food taste:tasted:food eat:ate:food burn:burned:food share:shared:food
prepare:prepared:food serve:served:food peel:peeled:counted count:counted:counted
collect:collected:counted buy:bought:counted lose:lost:counted bake:baked:food
feed:fed:pet chase:chased:pet adopt:adopted:pet wash:washed:pet see:saw:pet hear:heard:pet
photograph:photographed:pet visit:visited:person thank:thanked:person invite:invited:person
teach:taught:person help:helped:person call:called:person follow:followed:person
interview:interviewed:person warn:warned:person hug:hugged:person meet:met:person
""")
)
_MOODS = listed("""
happy sad proud tired angry afraid surprised glad nervous calm worried excited bored hungry thirsty
""")
_LASTED = listed("minutes hours days weeks months years")


def _thing_done_to(draw: random.Random, sort: str) -> str:
    if sort == "thing":
        with_colour = f"{draw.choice(COLOURS)} " if draw.random() < 0.3 else ""
        return f"{pick(draw, 'the', 'a', 'the old', 'a new')} {with_colour}{draw.choice(THINGS)}"
    if sort == "counted":
        number = draw.choice(NUMBERS[1:]) if draw.random() < 0.5 else draw.randint(2, 60)
        return f"{number} {draw.choice(COUNTED)}"
    if sort == "food":
        return draw.choice(FOODS)
    return f"the {draw.choice(PETS)}" if sort == "pet" else full_name(draw)


def event(draw: random.Random) -> tuple[str, list[tuple[str, str]]]:
    """A sentence or two, and the questions that it answers with their answers."""
    who, pronoun = person(draw)
    if draw.random() < 0.2:
        who = f"the {draw.choice(JOBS)}"
    base, past, sort = draw.choice(_VERBS)
    what = _thing_done_to(draw, sort)
    where = f"in the {draw.choice(SPOTS)}" if draw.random() < 0.7 else f"in {town(draw)}"
    when = pick(draw, f"on {draw.choice(DAYS)}", f"in {draw.choice(MONTHS)}", "yesterday",
                "last night", f"at {draw.choice(NUMBERS[:12])} o'clock")  # fmt: skip
    has_place, has_time = draw.random() < 0.5, draw.random() < 0.4
    said = f"{who} {past} {what}" + (f" {where}" if has_place else "")
    whole = f"{said} {when}" if has_time else said
    if has_time and draw.random() < 0.3:
        whole = f"{when}, {said}"
    asks = "Who" if sort == "person" else "What"
    questions = [
        (f"Who {past} {what}?", f"{who} {past} {what}."),
        (f"{asks} did {who} {base}?", f"{who} {past} {what}."),
        *([(f"Where did {who} {base} {what}?", f"{who} {past} {what} {where}.")]
          if has_place else []),
        *([(f"When did {who} {base} {what}?", f"{who} {past} {what} {when}.")]
          if has_time else []),
        *([(f"How many {what.split(maxsplit=1)[1]} did {who} {base}?", f"{who} {past} {what}.")]
          if sort == "counted" else []),
    ]  # fmt: skip
    told = f"{whole}."
    if draw.random() < 0.4:
        more, question = _more(draw, who, pronoun)
        told += f" {more}"
        questions.append(question)
    return _polished(told), [(_polished(ask), _polished(answer)) for ask, answer in questions]


def _more(draw: random.Random, who: str, pronoun: str) -> tuple[str, tuple[str, str]]:
    """A second sentence about the same, told with a pronoun."""
    him = {"he": "him", "she": "her"}[pronoun]
    mood, helper = draw.choice(_MOODS), full_name(draw)
    time = f"{draw.choice(NUMBERS[1:])} {draw.choice(_LASTED)}"
    return draw.choice(
        (
            (f"{helper} helped {him}.", (f"Who helped {who}?", f"{helper} helped {who}.")),
            (f"{pronoun} was very {mood}.", (f"How did {who} feel?", f"{who} was very {mood}.")),
            (f"It took {time}.", (f"How long did it take {who}?", f"It took {time}.")),
            (f"{helper} saw it.", ("Who saw it?", f"{helper} saw it.")),
            (f"{pronoun} told {helper} about it.",
             (f"Whom did {who} tell about it?", f"{who} told {helper} about it.")),
        )
    )  # fmt: skip


def _polished(text: str) -> str:
    """Sentences begin large, and `a` before a vowel is `an`."""
    return articles(". ".join(capital(part) for part in text.split(". ")))
