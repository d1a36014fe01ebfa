"""Made lists of things, and the plainest exercise in copying: saying again what was said."""

from __future__ import annotations

import random

from training.made.words import (
    COLOURS,
    DAYS,
    FOODS,
    HOBBIES,
    JOBS,
    PETS,
    SPOTS,
    THINGS,
    capital,
    distinct,
    name,
    number_word,
    pick,
    talk,
)
from training.sources import Turn

_PHRASES = (
    "the sun is warm", "my cat is asleep", "I like green tea", "open the window", "one two three",
    "the door is red", "good luck", "see you soon", "we walk to school", "the soup is hot",
    "it is raining", "time to go home", "the moon is bright", "birds can fly", "happy new year",
)  # fmt: skip


def echo(draw: random.Random) -> list[Turn]:
    """Names, numbers and phrases given back."""
    lines: list[str] = []
    for _ in range(draw.choice((1, 2, 3))):
        who, other, phrase = name(draw), name(draw), draw.choice(_PHRASES)
        value = draw.randint(1, 999)
        lines += draw.choice(
            (
                (f"Say hello to {who}.", f"Hello, {who}!"),
                (f"Greet {who} and {other}.", f"Hello, {who} and {other}!"),
                (f"Say goodbye to {who}.", f"Goodbye, {who}!"),
                (f"Repeat after me: {who}", who),
                (f"Please repeat the name {who}.", who),
                (f"Repeat these names: {who}, {other}", f"{who}, {other}"),
                (f"Repeat this number: {value}", f"{value}"),
                (f"Repeat after me: {phrase}", capital(phrase) + "."),
                (f"Say that {who} is happy.", f"{who} is happy."),
                (f"{who} met {other}. Who met {other}?", f"{who} met {other}."),
                (f"My friend is called {who}. Say hello to my friend.", f"Hello, {who}!"),
                (f"This is {who}, and that is {other}. Who is this?", f"This is {who}."),
            )
        )
    return talk(*lines)


def copy(draw: random.Random) -> list[Turn]:
    """Words in no order, names or figures given back one by one: every token is a copy."""
    pool = draw.choice((THINGS, (*FOODS, *PETS, *JOBS, *COLOURS), (*THINGS, *SPOTS, *HOBBIES)))
    lines: list[str] = []
    for _ in range(draw.choice((1, 2))):
        count = draw.randint(3, 9)
        said = draw.choice(
            (
                " ".join(distinct(draw, pool, count)),
                ", ".join(distinct(draw, pool, count)),
                ", ".join(name(draw) for _ in range(count)),
                " ".join(str(draw.randint(0, 99)) for _ in range(count)),
            )
        )
        lines += [pick(draw, "Repeat: ", "Say this: ", "Repeat after me: ", "Write this again: ",
                       "Copy this: ") + said, said]  # fmt: skip
    return talk(*lines)


LISTS = {
    "fruits": "Apple Banana Pear Orange Plum Cherry Grape Lemon Peach Mango",
    "vegetables": "Carrot Potato Tomato Onion Cabbage Pea Bean Spinach Pepper Leek",
    "animals": "Dog Cat Horse Cow Lion Bear Fox Rabbit Elephant Goat",
    "birds": "Robin Eagle Owl Crow Sparrow Swan Parrot Duck Stork Gull",
    "colors": "Red Blue Green Yellow White Black Orange Purple Brown Pink",
    "countries": "France Japan Brazil Kenya Canada India Spain Egypt Peru Norway",
    "cities": "Paris London Tokyo Rome Cairo Berlin Madrid Lima Oslo Vienna",
    "drinks": "Water Tea Coffee Milk Juice Cocoa Lemonade",
    "sports": "Football Tennis Swimming Running Hockey Rowing Cycling Skiing",
    "jobs": "Teacher Nurse Baker Farmer Pilot Painter Cook Driver",
    "musical instruments": "Piano Guitar Violin Drum Flute Trumpet Harp Cello",
    "pieces of furniture": "Table Chair Bed Sofa Desk Shelf Bench Wardrobe",
    "pieces of clothing": "Shirt Coat Hat Sock Shoe Scarf Dress Glove",
    "flowers": "Rose Tulip Daisy Lily Sunflower Violet Poppy",
    "trees": "Oak Pine Birch Maple Willow Beech Elm",
    "tools": "Hammer Saw Drill Knife Pliers Spade Axe",
    "things in a kitchen": "Pot Pan Knife Spoon Oven Bowl Kettle Plate",
    "things in a school": "Desk Book Pen Chair Board Map Ruler",
    "planets": "Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune",
    "months": "January March May June August October December",
    "foods": "Bread Rice Cheese Soup Pasta Salad Egg Fish",
}


def listing(draw: random.Random) -> list[Turn]:
    """So many things of a kind, one a line."""
    kind = draw.choice(list(LISTS))
    count = draw.choice((2, 3, 3, 3, 4, 4, 5, 5, 6))
    words = number_word(count) if draw.random() < 0.8 else str(count)
    asked = pick(
        draw, "Name {n} {k}.", "Give me {n} {k}.", "List {n} {k}.", "Tell me {n} {k}.", "{n} {k}",
        "Can you name {n} {k}?", "name {n} {k}", "I need {n} {k}.",
    ).format(n=words, k=kind)  # fmt: skip
    chosen = LISTS[kind].split()[:count]  # always the same: a small model can keep that
    return talk(asked, "\n".join(f"- {item}" for item in chosen))


def lookup(draw: random.Random) -> list[Turn]:
    """A table of names and things, and several questions on it: recall at its barest."""
    count = draw.choice((2, 3, 4, 5))
    people = [name(draw) for _ in range(count)]
    if len(set(people)) < count:
        return lookup(draw)
    values = distinct(draw, draw.choice((COLOURS, FOODS, PETS, JOBS, THINGS, SPOTS, DAYS)), count)
    if draw.random() < 0.2:
        values = [str(number) for number in draw.sample(range(1, 100), count)]
    mark = draw.choice((": ", " = ", " has ", " - "))
    table = draw.choice((", ", "\n", ". ")).join(
        f"{who}{mark}{what}" for who, what in zip(people, values, strict=True)
    )
    lines: list[str] = []
    for place in draw.sample(range(count), min(count, draw.choice((1, 2, 3, 4)))):
        lines += [f"{people[place]}?", f"{people[place]}: {values[place]}."]
    lines[0] = f"{table}. {lines[0]}"
    return talk(*lines)
