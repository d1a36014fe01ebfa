"""Made exercises on words and sentences: mend, rewrite, spell, sort into kinds, calendar."""

from __future__ import annotations

import random
import re

from training.battery import SPELLED
from training.made.words import (
    COLOURS,
    DAYS,
    FOODS,
    MONTHS,
    PETS,
    SPOTS,
    THINGS,
    article,
    articles,
    capital,
    distinct,
    hurried,
    listed,
    name,
    pick,
    talk,
)
from training.sources import TEXTS, Turn

# Base form, third person, past: verbs with what may follow them.
_VERBS = (
    ("walk", "walks", "walked", "to the {spot}"), ("go", "goes", "went", "to the {spot}"),
    ("run", "runs", "ran", "to the {spot}"), ("eat", "eats", "ate", "{food}"),
    ("buy", "buys", "bought", "a {thing}"), ("see", "sees", "saw", "a {pet}"),
    ("find", "finds", "found", "a {thing}"), ("like", "likes", "liked", "the {colour} {thing}"),
    ("paint", "paints", "painted", "the {thing}"), ("play", "plays", "played", "in the {spot}"),
    ("sit", "sits", "sat", "in the {spot}"), ("sleep", "sleeps", "slept", "in the {spot}"),
    ("drink", "drinks", "drank", "cold water"), ("read", "reads", "read", "an old book"),
    ("write", "writes", "wrote", "a long letter"), ("make", "makes", "made", "{food}"),
    ("take", "takes", "took", "the {thing}"), ("give", "gives", "gave", "bread to the birds"),
    ("open", "opens", "opened", "the {thing}"), ("cook", "cooks", "cooked", "{food}"),
    ("wash", "washes", "washed", "the {thing}"), ("sing", "sings", "sang", "in the {spot}"),
    ("work", "works", "worked", "in the {spot}"), ("wait", "waits", "waited", "at the {spot}"),
    ("carry", "carries", "carried", "a {thing}"), ("need", "needs", "needed", "a new {thing}"),
    ("have", "has", "had", "a {colour} {thing}"), ("bring", "brings", "brought", "{food}"),
    ("help", "helps", "helped", "in the {spot}"), ("clean", "cleans", "cleaned", "the {spot}"),
)  # fmt: skip
_SUBJECTS = listed("""
the_boy the_girl the_teacher the_farmer my_brother my_mother my_friend the_old_man a_woman
the_cook our_neighbour his_uncle her_father the_nurse the_king a_child the_baker my_aunt
""")


def _sentence(draw: random.Random, tense: int) -> tuple[str, str, str, str]:
    """Subject, verb in the tense (1 third person, 2 past), base form, and the rest."""
    verbs = draw.choice(_VERBS)
    subject = name(draw) if draw.random() < 0.3 else draw.choice(_SUBJECTS)
    rest = verbs[3].format(
        spot=draw.choice(SPOTS), food=draw.choice(FOODS), thing=draw.choice(THINGS),
        pet=draw.choice(PETS), colour=draw.choice(COLOURS),
    )  # fmt: skip
    return subject, verbs[tense], verbs[0], articles(rest)


def _plain(draw: random.Random) -> str:
    """A sentence without capital and full stop, but with capital names."""
    subject, verb, _, rest = _sentence(draw, draw.choice((1, 2)))
    return f"{subject} {verb} {rest}"


def correct(draw: random.Random) -> list[Turn]:
    """A sentence typed carelessly, given back with its capital and its full stop."""
    right = _plain(draw)
    wrong = right.lower()
    asked = pick(
        draw,
        f"Correct this sentence: {wrong}",
        f"Please correct this: {wrong}",
        f"Correct: {wrong}",
        f"Fix this sentence: {wrong}",
        f"Fix the capital letters and full stop: {wrong}",
        f"Can you correct this? {wrong}",
        f"Write this correctly: {wrong}",
        f"Write it properly: {wrong}",
        f"please fix: {wrong}",
    )
    return talk(asked, capital(right) + ".")


def tense(draw: random.Random) -> list[Turn]:
    """The same sentence in the past, in the future, denied, or as a question."""
    subject, verb, base, rest = _sentence(draw, 1)
    past = next(verbs[2] for verbs in _VERBS if verbs[0] == base)
    said = f"{capital(subject)} {verb} {rest}."
    asked, answer = draw.choice(
        (
            (pick(draw, "Put this in the past tense: ", "Write this in the past: ",
                  "Change this to the past tense: "), f"{capital(subject)} {past} {rest}."),
            (pick(draw, "Put this in the future: ", "Say this in the future tense: "),
             f"{capital(subject)} will {base} {rest}."),
            (pick(draw, "Make this negative: ", "Say the opposite: ", "Add not to this: "),
             f"{capital(subject)} does not {base} {rest}."),
            (pick(draw, "Make this a question: ", "Turn this into a question: ",
                  "Write this as a question: "), f"Does {subject} {base} {rest}?"),
        )
    )  # fmt: skip
    return talk(f"{asked}{said}", answer)


def person_of(draw: random.Random) -> list[Turn]:
    """A sentence about oneself, told of somebody else."""
    _, verb, base, rest = _sentence(draw, 1)
    who = draw.choice(("he", "she", name(draw)))
    asked = pick(
        draw,
        f"Change I to {who}: I {base} {rest}.",
        f"Write this about {who}: I {base} {rest}.",
        f"Say this with {who} instead of I: I {base} {rest}.",
    )
    return talk(asked, f"{capital(who)} {verb} {rest}.")


_WISHES = (
    ("Open the window.", "Could you please open the window?"),
    ("Close the door.", "Could you please close the door?"),
    ("Give me the book.", "Could you please give me the book?"),
    ("Be quiet.", "Could you please be quiet?"),
    ("Help me.", "Could you please help me?"),
    ("Wait here.", "Could you please wait here?"),
    ("Call me tomorrow.", "Could you please call me tomorrow?"),
    ("Send me the letter.", "Could you please send me the letter?"),
    ("Come at eight.", "Could you please come at eight?"),
    ("Tell me the time.", "Could you please tell me the time?"),
    ("I want a coffee.", "I would like a coffee, please."),
    ("I want more bread.", "I would like more bread, please."),
    ("I want to go home.", "I would like to go home, please."),
    ("Bring the salt.", "Could you please bring the salt?"),
    ("Turn the music down.", "Could you please turn the music down?"),
    ("Show me the way.", "Could you please show me the way?"),
    ("Move your car.", "Could you please move your car?"),
    ("Answer my letter.", "Could you please answer my letter?"),
)


def polite(draw: random.Random) -> list[Turn]:
    """A blunt sentence said kindly."""
    blunt, kind = draw.choice(_WISHES)
    if draw.random() < 0.5:
        thing = draw.choice(THINGS)
        verb = draw.choice(("Bring", "Give me", "Show me", "Take", "Clean", "Sell me", "Open"))
        blunt = f"{verb} the {thing}."
        kind = f"Could you please {verb.lower()} the {thing}?"
    asked = pick(
        draw,
        f"Make this polite: {blunt}",
        f"Say this more politely: {blunt}",
        f"Rewrite this politely: {blunt}",
        f"How do I say this kindly? {blunt}",
        f"Make this sound nicer: {blunt}",
    )
    return talk(asked, kind)


def shorter(draw: random.Random) -> list[Turn]:
    """A sentence with padding, without it."""
    core = _plain(draw)
    long = pick(
        draw,
        f"As far as I know, {core}.",
        f"I just wanted to say that {core}.",
        f"What I mean is that {core}.",
        f"It is really true that {core}.",
        f"Well, to tell you the truth, {core}.",
        f"Everybody knows very well that {core}.",
    )
    asked = pick(draw, "Make this shorter: ", "Shorten this: ", "Say this in fewer words: ")
    return talk(asked + long, capital(core) + ".")


_KINDS = {
    "fruit": "apple banana pear plum cherry grape lemon peach mango melon",
    "vegetable": "potato onion cabbage pea bean spinach leek carrot cucumber lettuce",
    "animal": "cat horse cow lion bear fox rabbit elephant goat sheep mouse dog",
    "bird": "robin eagle owl crow sparrow swan parrot duck stork gull",
    "tool": "hammer saw drill spade axe rake screwdriver",
    "colour": "red blue green yellow white black purple brown",
    "flower": "rose tulip daisy lily sunflower violet poppy",
    "tree": "oak pine birch maple willow beech elm",
    "drink": "water tea coffee milk juice cocoa lemonade",
    "piece of clothing": "shirt coat hat sock scarf dress glove",
    "piece of furniture": "table chair bed sofa desk shelf wardrobe",
    "musical instrument": "piano guitar violin drum flute trumpet harp cello",
    "sport": "football tennis hockey rowing cycling skiing",
    "vehicle": "car bus train truck tram bike plane ship",
    "job": "teacher nurse baker farmer pilot painter cook",
}
_UNCOUNTED = listed("colour drink sport")


def kind_of(draw: random.Random) -> list[Turn]:
    """What kind of thing a thing is: one of two, yes or no, or asked openly."""
    kind, other = distinct(draw, list(_KINDS), 2)
    if {kind, other} == {"animal", "bird"}:
        return kind_of(draw)
    thing = draw.choice(_KINDS[kind].split())
    said = thing if kind in _UNCOUNTED else article(thing)
    answer = f"{capital(said)} is {article(kind)}."
    first, second = distinct(draw, [kind, other], 2)
    return talk(
        *draw.choice(
            (
                (f"Is {said} {article(first)} or {article(second)}?", answer),
                (f"Is {said} {article(first)} or {article(second)}?", answer),
                (f"Is {said} {article(kind)}?", f"Yes, {said} is {article(kind)}."),
                (f"Is {said} {article(other)}?", f"No, {said} is {article(kind)}."),
                (f"What kind of thing is {said}?", answer),
            )
        )
    )


def odd_one(draw: random.Random) -> list[Turn]:
    """Which of four words is of another kind."""
    kind, other = distinct(draw, list(_KINDS), 2)
    if {kind, other} == {"animal", "bird"}:
        return odd_one(draw)
    alien = draw.choice(_KINDS[other].split())
    words = [*distinct(draw, _KINDS[kind].split(), 3), alien]
    draw.shuffle(words)
    asked = pick(draw, "Which word does not belong: ", "Which is the odd one out: ")
    return talk(f"{asked}{', '.join(words)}?", f'"{capital(alien)}" is the odd one out.')


# Every plain word of the texts written for Corral, since letters hide inside the tokens: only
# somebody who has spelled a word or its parts before can spell it.
_SPELLED = sorted(
    {
        word.lower()
        for path in TEXTS.glob("*/*.txt")
        for word in re.findall(r"(?<![\w'-])[A-Za-z]{3,12}(?![\w'-])", path.read_text("utf-8"))
    }
    - {*SPELLED}
)


def letters(draw: random.Random) -> list[Turn]:
    """Spelling, first and last letters, and how many there are."""
    word = draw.choice(_SPELLED) if draw.random() < 0.7 else name(draw)
    quoted = pick(draw, word, f'"{word}"', f"the word {word}")
    return talk(
        *draw.choice(
            (
                (pick(draw, f"How do you spell {quoted}?", f"Spell {quoted}.", f"spell {quoted}",
                      f"Can you spell {quoted}?", f"What is the spelling of {quoted}?"),
                 "-".join(word.upper()) + "."),
                (pick(draw, f"What is the first letter of {quoted}?",
                      f"Which letter does {quoted} begin with?",
                      f"What does {quoted} start with?"),
                 f'The first letter of "{word}" is {word[0].upper()}.'),
                (pick(draw, f"What is the last letter of {quoted}?",
                      f"Which letter does {quoted} end with?"),
                 f'The last letter of "{word}" is {word[-1].upper()}.'),
                (f"How many letters are in {quoted}?", f'"{word}" has {len(word)} letters.'),
                (pick(draw, f"Write {quoted} in capital letters.", f"Make {quoted} uppercase.",
                      f"{quoted} in capitals please"), word.upper()),
            )
        )
    )  # fmt: skip


def calendar(draw: random.Random) -> list[Turn]:
    """What comes before and after a day or a month, two or three in a row."""
    lines: list[str] = []
    for _ in range(draw.choice((1, 2, 3))):
        cycle, what = draw.choice(((DAYS, "day"), (DAYS, "day"), (MONTHS, "month")))
        place = draw.randrange(len(cycle))
        step, word = draw.choice(((1, "after"), (-1, "before")))
        here, there = cycle[place], cycle[(place + step) % len(cycle)]
        asked = pick(
            draw,
            f"Which {what} is {word} {here}?",
            f"What {what} is {word} {here}?",
            f"Which {what} comes {word} {here}?",
            f"Name the {what} {word} {here}.",
            f"What comes {word} {here}?",
            f"Tell me the {what} {word} {here}.",
        )
        lines += [hurried(asked, draw), f"{there} comes {word} {here}."]
    return talk(*lines)
