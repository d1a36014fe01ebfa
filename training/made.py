"""Conversations made from rules: sums and memory, where a fixed file would be learned by rote."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from training.sources import Row, Turn


def _talk(*lines: str) -> list[Turn]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": line} for i, line in enumerate(lines)]


# --- sums -------------------------------------------------------------------------------------

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
_SAID = {"+": "plus", "-": "minus", "x": "times"}


def _result(a: int, sign: str, b: int) -> int:
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
            asked = draw.choice(("Hi! ", "Please tell me: ", "Quick question: ", "ok, ")) + asked
        lines += [asked, f"{a} {_SAID[sign]} {b} is {_result(a, sign, b)}."]
    return _talk(*lines)


_THINGS = (
    "apples",
    "books",
    "coins",
    "marbles",
    "cookies",
    "pens",
    "stickers",
    "eggs",
    "cards",
    "oranges",
    "shells",
    "toys",
    "stamps",
    "pencils",
    "flowers",
    "cups",
    "stones",
    "balls",
)


def word_problem(draw: random.Random) -> list[Turn]:
    """A small story with a sum in it."""
    a, b = draw.randint(1, 20), draw.randint(1, 20)
    a, b = max(a, b), min(a, b)
    thing, who = draw.choice(_THINGS), name(draw)
    if draw.random() < 0.5:
        asked = draw.choice(
            (
                f"{who} has {a} {thing} and gets {b} more. How many {thing} does {who} have now?",
                f"I have {a} {thing}. I buy {b} more. How many {thing} do I have?",
                f"{a} {thing} are on the table and {b} in the box. How many {thing} are there?",
            )
        )
        return _talk(asked, f"{a} plus {b} is {a + b}, so the answer is {a + b} {thing}.")
    asked = draw.choice(
        (
            f"{who} has {a} {thing} and gives away {b}. How many {thing} are left?",
            f"I had {a} {thing} and lost {b}. How many do I have now?",
            f"There were {a} {thing} in the bag. {who} took {b}. How many {thing} are left?",
        )
    )
    return _talk(asked, f"{a} minus {b} is {a - b}, so {a - b} {thing} are left.")


def compare(draw: random.Random) -> list[Turn]:
    """Bigger, smaller, next, before, even, odd."""
    a, b = draw.sample(range(1, 100), 2)
    big, small = max(a, b), min(a, b)
    even = "an even" if a % 2 == 0 else "an odd"
    return _talk(
        *draw.choice(
            (
                (f"Which is bigger, {a} or {b}?", f"{big} is bigger than {small}."),
                (f"Which number is smaller: {a} or {b}?", f"{small} is smaller than {big}."),
                (f"What number comes after {a}?", f"{a + 1} comes after {a}."),
                (f"What number comes before {a}?", f"{a - 1} comes before {a}."),
                (f"Is {a} even or odd?", f"{a} is {even} number."),
                (f"What is half of {2 * a}?", f"Half of {2 * a} is {a}."),
                (f"Double {a}.", f"Double {a} is {2 * a}."),
                (
                    f"Count from {small} to {small + 6}.",
                    ", ".join(map(str, range(small, small + 7))) + ".",
                ),
            )
        )
    )


# --- memory -----------------------------------------------------------------------------------

_NAMES = [
    "Anna",
    "Ben",
    "Clara",
    "David",
    "Emma",
    "Felix",
    "Grace",
    "Hugo",
    "Ivy",
    "Jack",
    "Kate",
    "Leo",
    "Mia",
    "Noah",
    "Olga",
    "Paul",
    "Quinn",
    "Rosa",
    "Sam",
    "Tina",
    "Uma",
    "Victor",
    "Wendy",
    "Xavier",
    "Yara",
    "Zoe",
    "Ahmed",
    "Aisha",
    "Bruno",
    "Carmen",
    "Diego",
    "Elena",
    "Fatima",
    "George",
    "Hana",
    "Igor",
    "Jana",
    "Karl",
    "Lena",
    "Marco",
    "Nadia",
    "Oscar",
    "Priya",
    "Ravi",
    "Sofia",
    "Tomas",
    "Ulla",
    "Vera",
    "Walter",
    "Yuki",
    "Zainab",
    "Maria",
    "Peter",
    "Lucy",
    "Henry",
    "Alice",
    "Martin",
    "Julia",
    "Simon",
    "Laura",
    "Robert",
    "Susan",
    "Kevin",
    "Linda",
    "Brian",
    "Helen",
    "Mark",
    "Ruth",
    "Omar",
    "Leila",
    "Chen",
    "Mei",
    "Hiro",
    "Kofi",
    "Amara",
    "Sven",
    "Ingrid",
    "Pavel",
    "Marta",
    "Luis",
    "Ines",
    "Jonas",
    "Freya",
    "Dario",
    "Nora",
]
_START = [
    "b",
    "br",
    "c",
    "d",
    "dr",
    "f",
    "g",
    "h",
    "j",
    "k",
    "l",
    "m",
    "n",
    "p",
    "r",
    "s",
    "t",
    "tr",
    "v",
    "w",
    "z",
    "st",
    "k",
    "m",
]
_MIDDLE = ["a", "e", "i", "o", "u", "ai", "ea", "ar", "en", "il", "or", "un", "am", "is", "el"]
_FINISH = [
    "n",
    "l",
    "r",
    "s",
    "m",
    "ra",
    "na",
    "la",
    "ro",
    "ko",
    "sa",
    "ta",
    "x",
    "th",
    "ny",
    "dor",
    "lin",
    "vik",
    "bel",
]


def name(draw: random.Random) -> str:
    """A first name; every third is invented, so that copying is learned and not a list."""
    if draw.random() < 0.65:
        return draw.choice(_NAMES)
    made = draw.choice(_START) + draw.choice(_MIDDLE) + draw.choice(_FINISH)
    return (made + draw.choice(_MIDDLE) if draw.random() < 0.3 else made).capitalize()


_PLACES = [
    "Paris",
    "London",
    "Berlin",
    "Madrid",
    "Rome",
    "Lisbon",
    "Vienna",
    "Oslo",
    "Cairo",
    "Nairobi",
    "Lagos",
    "Delhi",
    "Mumbai",
    "Tokyo",
    "Seoul",
    "Sydney",
    "Toronto",
    "Chicago",
    "Boston",
    "Denver",
    "Lima",
    "Bogota",
    "Quito",
    "Athens",
    "Dublin",
    "Prague",
    "Warsaw",
    "Zurich",
    "Munich",
]
_COLOURS = [
    "red",
    "blue",
    "green",
    "yellow",
    "purple",
    "orange",
    "pink",
    "black",
    "white",
    "brown",
    "turquoise",
    "grey",
    "gold",
]
_FOODS = [
    "pizza",
    "soup",
    "rice",
    "pasta",
    "salad",
    "bread",
    "cheese",
    "sushi",
    "curry",
    "pancakes",
    "noodles",
    "tacos",
    "stew",
    "fish",
]
_PETS = [
    "dog",
    "cat",
    "rabbit",
    "parrot",
    "hamster",
    "horse",
    "turtle",
    "goldfish",
    "canary",
    "pony",
]
_JOBS = [
    "teacher",
    "nurse",
    "baker",
    "farmer",
    "pilot",
    "painter",
    "driver",
    "cook",
    "doctor",
    "gardener",
    "writer",
    "student",
]
_HOBBIES = [
    "painting",
    "swimming",
    "reading",
    "chess",
    "cycling",
    "gardening",
    "dancing",
    "running",
    "fishing",
    "singing",
]

# What is told, how it is acknowledged, how it is asked for later, how it is answered.
_FACTS: tuple[
    tuple[
        str, Callable[[random.Random], str], tuple[str, ...], tuple[str, ...], tuple[str, ...], str
    ],
    ...,
] = (
    (
        "name",
        name,
        (
            "My name is {x}.",
            "I am {x}.",
            "Hi, I'm {x}.",
            "Hello! My name is {x}.",
            "Call me {x}.",
            "my name is {x}",
            "Hey, {x} here.",
            "You can call me {x}.",
        ),
        ("Nice to meet you, {x}!", "Hello {x}! How can I help?", "Hi {x}! It is nice to meet you."),
        (
            "What is my name?",
            "What's my name?",
            "Do you remember my name?",
            "who am I?",
            "Can you tell me my name?",
            "Do you know what I am called?",
            "what was my name again?",
        ),
        "Your name is {x}.",
    ),
    (
        "town",
        lambda draw: draw.choice(_PLACES) if draw.random() < 0.7 else name(draw) + "ville",
        ("I live in {x}.", "I come from {x}.", "My home is in {x}.", "I am from {x}."),
        ("{x} sounds like a nice place.", "How nice! I hope you like it in {x}."),
        (
            "Where do I live?",
            "Where am I from?",
            "Which town did I tell you about?",
            "Do you remember where I live?",
        ),
        "You live in {x}.",
    ),
    (
        "colour",
        lambda draw: draw.choice(_COLOURS),
        ("My favorite color is {x}.", "I like the color {x} best.", "My favourite colour is {x}."),
        ("{X} is a lovely color!", "Good choice! {X} is a beautiful color."),
        (
            "What is my favorite color?",
            "Which color do I like best?",
            "What's my favourite colour?",
        ),
        "Your favorite color is {x}.",
    ),
    (
        "food",
        lambda draw: draw.choice(_FOODS),
        ("I love eating {x}.", "My favorite food is {x}.", "I really like {x}."),
        ("{X}! That sounds tasty.", "Mmm, {x}. Enjoy!"),
        ("What do I like to eat?", "What is my favorite food?", "Which food do I like?"),
        "You like {x}.",
    ),
    (
        "work",
        lambda draw: draw.choice(_JOBS),
        ("I work as a {x}.", "I am a {x}.", "My job is being a {x}."),
        ("Being a {x} sounds interesting!", "That is good work. I hope you enjoy it."),
        ("What is my job?", "What do I do for work?", "Do you remember my job?"),
        "You work as a {x}.",
    ),
    (
        "hobby",
        lambda draw: draw.choice(_HOBBIES),
        ("My hobby is {x}.", "I enjoy {x}.", "In my free time I like {x}."),
        ("{X} sounds like fun!", "What a nice hobby!"),
        ("What is my hobby?", "What do I like to do in my free time?"),
        "Your hobby is {x}.",
    ),
    (
        "number",
        lambda draw: str(draw.randint(2, 99)),
        (
            "My lucky number is {x}.",
            "Please remember the number {x}.",
            "Remember this number: {x}.",
        ),
        ("I will remember {x}.", "{x}, got it."),
        (
            "What number did I tell you?",
            "Which number should you remember?",
            "What was the number?",
        ),
        "The number is {x}.",
    ),
)
_UNKNOWN = {
    "name": "You have not told me your name yet.",
    "town": "You have not told me where you live.",
    "colour": "You have not told me your favorite color.",
    "food": "You have not told me what you like to eat.",
    "work": "You have not told me what your job is.",
    "hobby": "You have not told me about your hobbies.",
    "number": "You have not told me a number yet.",
}


def pet(draw: random.Random) -> list[Turn]:
    """A pet with a name, asked for in both directions."""
    kind, called = draw.choice(_PETS), name(draw)
    told = draw.choice(
        (
            f"I have a {kind} called {called}.",
            f"My {kind} is called {called}.",
            f"I have a {kind}. Its name is {called}.",
            f"My {kind}'s name is {called}.",
        )
    )
    lines = [
        told,
        draw.choice(
            (f"{called} is a nice name for a {kind}!", f"How nice! I hope {called} is well.")
        ),
    ]
    lines += [*_filler(draw)]
    lines += draw.choice(
        (
            (f"What is my {kind}'s name?", f"Your {kind}'s name is {called}."),
            (f"What is the name of my {kind}?", f"Your {kind}'s name is {called}."),
            (f"Who is {called}?", f"{called} is your {kind}."),
            ("What pet do I have?", f"You have a {kind} called {called}."),
        )
    )
    return _talk(*lines)


_PHRASES = (
    "the sun is warm", "my cat is asleep", "I like green tea", "open the window", "one two three",
    "the door is red", "good luck", "see you soon", "we walk to school", "the soup is hot",
)  # fmt: skip


def echo(draw: random.Random) -> list[Turn]:
    """Saying again what was said: the plainest exercise in copying."""
    lines: list[str] = []
    for _ in range(draw.choice((1, 1, 2))):
        who, other, phrase = name(draw), name(draw), draw.choice(_PHRASES)
        value = draw.randint(1, 999)
        lines += draw.choice(
            (
                (f"Say hello to {who}.", f"Hello, {who}!"),
                (f"Greet {who} and {other}.", f"Hello, {who} and {other}!"),
                (f"Say goodbye to {who}.", f"Goodbye, {who}!"),
                (f"Repeat after me: {who}", who),
                (f"Please repeat the name {who}.", who),
                (f"Repeat this number: {value}", f"{value}"),
                (f"Repeat after me: {phrase}", phrase[0].upper() + phrase[1:] + "."),
                (f"Say that {who} is happy.", f"{who} is happy."),
                (f"{who} is older than {other}. Who is older?", f"{who} is older."),
                (f"{who} met {other}. Who met {other}?", f"{who} met {other}."),
                (f"My friend is called {who}. Say hello to my friend.", f"Hello, {who}!"),
            )
        )
    return _talk(*lines)


_LISTS = {
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
_COUNTS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}


def listing(draw: random.Random) -> list[Turn]:
    """So many things of a kind, one a line."""
    kind = draw.choice(list(_LISTS))
    count = draw.choice((2, 3, 3, 3, 4, 4, 5, 5, 6))
    words = _COUNTS[count] if draw.random() < 0.8 else str(count)
    asked = draw.choice(
        ("Name {n} {k}.", "Give me {n} {k}.", "List {n} {k}.", "Tell me {n} {k}.", "{n} {k}",
         "Can you name {n} {k}?", "name {n} {k}", "I need {n} {k}.")
    ).format(n=words, k=kind)  # fmt: skip
    chosen = _LISTS[kind].split()[:count]  # always the same: a small model can keep that
    return _talk(asked, "\n".join(f"- {item}" for item in chosen))


_THINGS_OWNED = ("bike", "hat", "car", "cup", "coat", "ball", "bag", "boat", "book", "chair")
_SPOTS = ("garden", "kitchen", "park", "library", "school", "market", "forest", "station")


def passage(draw: random.Random) -> list[Turn]:
    """Two sentences and a question whose answer stands in them."""
    a, b = name(draw), name(draw)
    colour, thing, other = draw.choice(_COLOURS), *draw.sample(_THINGS_OWNED, 2)
    spot, work, count = draw.choice(_SPOTS), draw.choice(_JOBS), draw.randint(2, 12)
    plural = draw.choice(_THINGS)
    text, ask, answer = draw.choice(
        (
            (f"{a} has a {colour} {thing}. {b} has a {other}.",
             f"What color is the {thing}?", f"The {thing} is {colour}."),
            (f"{a} has a {thing}. {b} has a {other}.", f"Who has the {other}?",
             f"{b} has the {other}."),
            (f"{a} went to the {spot}. There {a} met {b}.", f"Where did {a} go?",
             f"{a} went to the {spot}."),
            (f"{a} went to the {spot}. There {a} met {b}.", f"Who did {a} meet?", f"{a} met {b}."),
            (f"{a} is a {work}. {b} lives near the {spot}.", f"What is {a}'s job?",
             f"{a} is a {work}."),
            (f"{a} is a {work}. {b} lives near the {spot}.", f"Where does {b} live?",
             f"{b} lives near the {spot}."),
            (f"{a} bought {count} {plural} at the {spot}.", f"How many {plural} did {a} buy?",
             f"{a} bought {count} {plural}."),
            (f"{a} is {count + 3} years old. {b} is {count}.", f"How old is {b}?",
             f"{b} is {count} years old."),
            (f"{a} lost a {thing} in the {spot}. {b} found it.", f"Who found the {thing}?",
             f"{b} found the {thing}."),
            (f"{a} lost a {thing} in the {spot}. {b} found it.", f"Where did {a} lose the {thing}?",
             f"{a} lost it in the {spot}."),
            (f"{a} gave the {thing} to {b}. Then {b} went to the {spot}.",
             f"Who has the {thing} now?", f"{b} has the {thing} now."),
            (f"The {spot} opens at {count}. It is closed on Sundays.",
             f"When does the {spot} open?", f"The {spot} opens at {count}."),
        )
    )  # fmt: skip
    joint = draw.choice(("\n\n", " ", "\n"))
    return _talk(f"{text}{joint}{ask}", answer)


def _filler(draw: random.Random) -> list[str]:
    """Nothing, or one or two other exchanges between telling and asking."""
    lines: list[str] = []
    for _ in range(draw.choice((0, 0, 1, 1, 2, 3))):
        made = draw.choice((sums, compare, listing, passage))(draw)
        lines += [turn["content"] for turn in made[:2]]
    return lines


def memory(draw: random.Random) -> list[Turn]:
    """One to three things told, other talk, then each asked for; now and then one never told."""
    chosen = draw.sample(_FACTS, draw.choice((1, 1, 2, 2, 3)))
    told: list[tuple[tuple[str, ...], str, str]] = []
    lines: list[str] = []
    for _, value, tell, reply, ask, answer in chosen:
        x = value(draw)
        words = {"x": x, "X": x[:1].upper() + x[1:]}
        lines += [draw.choice(tell).format(**words), draw.choice(reply).format(**words)]
        told.append((ask, answer.format(**words), x))
        if draw.random() < 0.3:
            lines += _filler(draw)
    lines += _filler(draw)
    draw.shuffle(told)
    for ask, answer, _ in told[: draw.choice((1, 2, 3))]:
        lines += [draw.choice(ask), answer]
    if draw.random() < 0.15:
        known = {fact[0] for fact in chosen}
        fact = draw.choice([fact for fact in _FACTS if fact[0] not in known])
        lines += [draw.choice(fact[4]), _UNKNOWN[fact[0]]]
    return _talk(*lines)


_KINDS: dict[str, tuple[Callable[[random.Random], list[Turn]], ...]] = {
    "sums": (sums, sums, sums, sums, word_problem, compare),
    "memory": (memory, memory, pet),
    "exercises": (echo, listing, passage, passage),
}


def made_rows(kind: str, number: int, seed: int) -> Iterator[Row]:
    """`number` rows of `sums`, `memory` or `exercises`; the same ones for the same seed."""
    draw = random.Random(seed)
    for _ in range(number):
        yield {"messages": draw.choice(_KINDS[kind])(draw), "source": "made"}
