"""The words that made conversations are filled with: names, places, things, and who does what.

No name that the evaluation tells the model (`training/battery.py`) stands here, so that a name
remembered there was never seen in training.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path

from training.sources import Turn


def listed(text: str) -> list[str]:
    """The words of a text; `_` stands for a blank inside one of them."""
    return [word.replace("_", " ") for word in text.split()]


def _names(who: str) -> list[str]:
    """The names of one part of `names.txt`."""
    text = Path(__file__).with_name("names.txt").read_text(encoding="utf-8")
    part = text.split(f"[{who}]")[1].split("[")[0]
    return listed("\n".join(line for line in part.splitlines() if not line.startswith("#")))


WOMEN = _names("women")
MEN = _names("men")
SURNAMES = listed("""
Smith Garcia Okafor Nakamura Petrova Kowalski Haddad Iyer Nguyen Larsen Rossi Dubois Schneider
Mensah Tanaka Kim Wang Oliveira Demir Cohen Horvat Silva Jansen Murphy Campbell Adeyemi Mokoena
Chaudhry Fernando Santos Reyes Johansson Virtanen Popescu Kiss Novak Dimitrov Papadopoulos Khan
Abebe Kamara Diallo Moreau Fischer Lindqvist Thompson Washington Begay Tupou Perera Bhattacharya
""")
_START = listed("b br c ch d dr f fl g gr h j k kr l m n p pr qu r s sh st t th tr v w y z")
_MIDDLE = listed("a e i o u ai ea ee ar en il or un am is el or an ie")
_LINK = listed("b d dr g k l ll m mb n nd ng nn ny p r rr s sh ss st t th tt v w y z ksh lw nt")
_FINISH = listed("n l r s m ra na la ro ko sa ta x th ny dor lin vik bel mir go ndo tte ska")

PLACES = listed("""
Paris London Berlin Rome Lisbon Vienna Cairo Nairobi Lagos Delhi Mumbai Tokyo Seoul Sydney Toronto
Chicago Boston Denver Lima Bogota Quito Athens Dublin Prague Warsaw Zurich Munich Hamburg Geneva
Milan Naples Seville Porto Bergen Stockholm Helsinki Riga Vilnius Budapest Zagreb Sofia Istanbul
Beirut Amman Tunis Accra Dakar Kampala Lusaka Durban Karachi Lahore Dhaka Hanoi Manila Osaka Kyoto
Perth Auckland Montreal Seattle Houston Dallas Miami Phoenix Havana Santiago Cusco Caracas
""")
COLOURS = listed("""
red blue green yellow purple orange pink black white brown grey turquoise gold silver violet beige
dark_green dark_blue light_blue light_green navy olive scarlet lilac cream bronze striped spotted
golden colorful
""")
FOODS = listed("""
pizza soup rice pasta salad bread cheese sushi curry noodles tacos stew fish chicken apples grapes
honey yoghurt dumplings beans chocolate cake mangoes potatoes omelettes lentils popcorn waffles
plums cherries sausages porridge toast pies biscuits pudding carrots spinach pears melons figs
dates almonds peanuts walnuts mushrooms cabbage pumpkin risotto lasagna burritos falafel hummus
couscous kebab paella goulash pickles olives crackers muffins doughnuts ice_cream strawberries
blueberries bananas peaches oranges ham bacon tofu crab shrimps ravioli gnocchi meatballs
""")
PETS = listed("""
dog cat rabbit parrot hamster horse turtle goldfish canary pony lizard goat donkey sheep cow pig
duck goose hen kitten puppy mouse ferret snake frog hedgehog owl squirrel fox deer monkey lamb calf
pigeon raven swan bear camel llama zebra
""")
JOBS = listed("""
teacher nurse baker farmer pilot painter driver cook doctor gardener writer student plumber waiter
dentist tailor butcher carpenter singer engineer librarian fisherman barber clerk guard postman
lawyer judge sailor soldier miner potter florist jeweller hairdresser mechanic electrician chemist
pharmacist journalist photographer dancer actor musician drummer pianist translator secretary
cashier banker builder roofer welder beekeeper shepherd hunter ranger vet coach referee astronomer
programmer designer sculptor poet cleaner porter cobbler weaver miller brewer
""")
HOBBIES = listed("""
painting swimming reading chess cycling gardening dancing running fishing singing hiking knitting
photography baking drawing sailing skiing yoga pottery climbing rowing sewing juggling surfing
skating cooking writing camping archery origami karate tennis bowling diving carving stargazing
birdwatching quilting fencing boxing golf badminton
""")
THINGS = listed("""
bike hat car cup coat ball bag boat book chair kite lamp scarf box drum door house tent clock shirt
sofa umbrella jacket bottle pen phone ring watch guitar mirror blanket suitcase truck table desk
bed shelf pillow curtain carpet candle vase plate bowl spoon kettle pot pan basket bucket broom
ladder hammer saw rope shovel wheel tyre engine radio camera laptop keyboard violin piano flute
trumpet doll puzzle robot drone balloon flag map globe letter stamp wallet purse belt sweater skirt
dress glove sock boot sandal helmet backpack notebook pencil ruler brush key lock chain bell
whistle compass telescope magnet battery torch lantern fan heater fridge oven toaster mixer sledge
scooter tractor van canoe raft anchor barrel crate jar teapot napkin towel bench statue fountain
picture poster diary calendar necklace bracelet crown sword shield
""")
COUNTED = listed("""
apples books coins marbles cookies pens stickers eggs cards oranges shells toys stamps pencils
flowers cups stones balls pears lemons candles chairs plates fish tickets buttons nails melons
bottles boxes bricks chickens cakes peaches plums onions carrots potatoes roses tulips trees seeds
leaves feathers keys lamps bags hats socks gloves shoes boats kites drums bells ribbons beads dolls
robots cars wheels spoons forks bowls jars letters maps photos sheep cows ducks horses ants bees
sandwiches muffins nuts berries
""")
SPOTS = listed("""
garden kitchen park library school market forest station museum harbour church office beach bakery
cafe hotel hospital theatre stable barn castle zoo airport garage attic cellar village town_hall
stadium pool gym cinema factory mill bank pharmacy prison palace tower temple lighthouse cave
desert valley meadow field orchard vineyard bridge tunnel street square playground campsite cabin
bathroom bedroom hallway balcony greenhouse workshop studio shop supermarket bus_stop post_office
courtyard
""")
DAYS = listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = listed("""
January February March April May June July August September October November December
""")
NUMBERS = listed("""
one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen twenty
""")


def person(draw: random.Random) -> tuple[str, str]:
    """A first name and the pronoun that goes with it.

    More than half of the names are invented, so that copying is learned and not a list.
    """
    names, pronoun = draw.choice(((WOMEN, "she"), (MEN, "he")))
    if draw.random() < 0.4:
        return draw.choice(names), pronoun
    made = draw.choice(_START) + draw.choice(_MIDDLE)
    for _ in range(draw.choice((0, 0, 0, 0, 1, 1, 2, 3))):
        made += draw.choice(_LINK) + draw.choice(_MIDDLE)
    made += draw.choice(_FINISH)
    return (made + draw.choice(_MIDDLE) if draw.random() < 0.3 else made).capitalize(), pronoun


def name(draw: random.Random) -> str:
    """A first name, invented ones among them."""
    return person(draw)[0]


def full_name(draw: random.Random) -> str:
    """A first name, and now and then a surname behind it."""
    first = name(draw)
    return f"{first} {draw.choice(SURNAMES)}" if draw.random() < 0.15 else first


def town(draw: random.Random) -> str:
    """A town, every third one invented."""
    if draw.random() < 0.7:
        return draw.choice(PLACES)
    return name(draw) + draw.choice(("ville", "ton", "berg", "field"))


def talk(*lines: str) -> list[Turn]:
    """Turns of user and assistant in alternation."""
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": line} for i, line in enumerate(lines)]


def number_word(number: int) -> str:
    """A small number in letters."""
    return NUMBERS[number - 1]


def capital(text: str) -> str:
    """The text with its first letter large and the others as they are."""
    return text[:1].upper() + text[1:]


def article(noun: str) -> str:
    """The noun with `a` or `an` before it."""
    return f"an {noun}" if noun[0] in "aeiou" or noun.startswith("hour") else f"a {noun}"


def articles(text: str) -> str:
    """The text with `an` for every `a` that stands before a vowel."""
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)


def pick(draw: random.Random, *choices: str) -> str:
    """One of the wordings."""
    return draw.choice(choices)


def hurried(text: str, draw: random.Random) -> str:
    """Now and then without capitals or the mark at the end, as people type."""
    if draw.random() < 0.3:
        text = text.lower()
    return text.rstrip("?.!") if draw.random() < 0.15 else text


def distinct(draw: random.Random, words: Sequence[str], number: int) -> list[str]:
    """That many different words."""
    return draw.sample(list(words), number)
