"""Made stories: a few plots known by heart, told of whomever and whatever the user asks for.

A small model that invents runs in circles after a few sentences; with plots to follow it comes to
an end, and copying the hero is an exercise that it can learn.
"""

from __future__ import annotations

import random

from training.made.words import COLOURS, THINGS, article, listed, name, person, pick, talk
from training.sources import Turn

_ANIMALS = listed("""
fox bear cat dog rabbit owl horse hedgehog squirrel frog duck lion penguin turtle elephant snail
bee goat lamb donkey goose wolf whale crab hen
""")
_PEOPLE = listed("""
girl boy king queen baker fisherman teacher gardener sailor painter tailor shepherd knight princess
musician grandmother child carpenter postman clockmaker dragon wizard giant snowman ghost cloud
""")
_NATURES = listed("little brave shy kind clever lonely curious old tiny lazy young merry")
_PLACES = listed("""
in_a_quiet_forest on_a_green_hill by_a_wide_river in_a_small_village near_the_sea in_an_old_house
behind_a_mountain at_the_edge_of_a_wood on_a_little_island in_a_big_town
""")
_FINDS = listed("""
golden_key old_map shiny_stone tiny_bell music_box torn_letter silver_ring strange_seed red_kite
wooden_flute broken_clock blue_feather little_lamp lost_mitten glass_ball paper_boat
""")
_ENDS = (
    "From that day on they were friends.",
    "And that is how a bad day became a good one.",
    "Everybody was happy, and they had a big dinner together.",
    "That night everybody slept well.",
    "And if you walk by, you can still hear them laugh.",
)
_HELPERS = listed("bird mouse deer beetle butterfly mole otter swallow")

# {hero} is "the little fox", {Name} its name, {he}/{his} its pronouns.
_PLOTS = (
    "Once upon a time {a_hero} named {Name} lived {place}. One morning {Name} found {find}. "
    '"Whose is this?" {he} thought. {Name} asked every house, but nobody knew. At the last door '
    'an old woman smiled. "That is mine," she said. "I lost it when I was young." To thank {Name}, '
    "she told the best story in the world. {end}",
    "Once there was {a_hero} named {Name} who lived {place}. {Name} was afraid of the dark. One "
    "night {a_helper} got lost and cried outside. {Name} was afraid, but {he} took a lamp and went "
    'out. "Follow my light," {he} said. Soon the {helper} was safe at home. {Name} looked up and '
    "saw a thousand stars, and the dark was not so bad any more. {end}",
    "{Place} lived {a_hero} called {Name}. Winter came, and there was little to eat. {Name} had "
    'one last loaf of bread. Then {a_helper} knocked at the door. "I am so hungry," it said. '
    "{Name} gave it half of the loaf. In spring the {helper} came back with seeds, and soon a "
    "whole field of wheat was growing there. {end}",
    "Once upon a time there was {a_hero} named {Name}. {Name} wanted to see the sea. {He} walked "
    "one day, and two days, and three days. On the way {he} helped {a_helper} out of a ditch. "
    '"Climb this hill with me," said the {helper}. From the top {Name} saw the wide blue sea. "It '
    'is bigger than I dreamed," {he} said. {end}',
    "There was once {a_hero} named {Name} who made the finest {thing} {place}. One day it was "
    "gone. {Name} looked everywhere and asked everyone. At last {he} saw {a_helper} asleep in it. "
    "{Name} laughed and did not wake it. The next day {he} made a second one, a {colour} one, just "
    "for the {helper}. {end}",
    "Once upon a time {a_hero} named {Name} lived {place}. Everybody said that {Name} was too "
    "small to help. Then a great storm came and blew the bridge away. {Name} swam across with a "
    "rope, and the others could follow. After that nobody said that {Name} was too small. {end}",
    "{Name} was {a_hero} who lived {place}. {He} never shared anything. One day {he} found {find} "
    "and hid it. But it is no fun to play alone. So {Name} called {a_helper}, and they played "
    'until the sun went down. "Sharing is better," said {Name}. {end}',
)


def _asked(draw: random.Random, about: str) -> str:
    return pick(
        draw,
        f"Tell me a story about {about}.",
        f"Tell me a short story about {about}.",
        f"Write a story about {about}.",
        f"Write a short story about {about}.",
        f"Can you tell me a story about {about}?",
        f"I want to hear a story about {about}.",
        f"Make up a story about {about}.",
        f"Tell a bedtime story about {about}.",
        f"story about {about}",
        f"A story about {about}, please.",
    )


def _fill(draw: random.Random, *, hero: str, called: str, pronoun: str, find: str) -> str:
    place, helper = draw.choice(_PLACES), draw.choice(_HELPERS)
    plots = [plot for plot in _PLOTS if not find or "{find}" in plot]
    his = {"he": "his", "she": "her"}[pronoun]
    return draw.choice(plots).format(
        a_hero=article(hero), Name=called, he=pronoun, He=pronoun.capitalize(), his=his,
        place=place, Place=place[0].upper() + place[1:], helper=helper, a_helper=article(helper),
        find=article(find or draw.choice(_FINDS)), thing=draw.choice(THINGS),
        colour=draw.choice([colour for colour in COLOURS if colour[0] not in "aeiou"]),
        end=draw.choice(_ENDS),
    )  # fmt: skip


# Who a story is about if nobody said it: few short names, so that the model invents none.
_HEROES = {"she": listed("Mia Lena Rosa Anna Clara"), "he": listed("Leo Max Tom Ben Paul")}


def story(draw: random.Random) -> list[Turn]:
    """A story about a hero, a name, a found thing, or just a story."""
    called, pronoun = person(draw)
    kind = draw.choice((*_ANIMALS, *_PEOPLE))
    if kind in ("girl", "queen", "princess", "grandmother", "hen"):
        pronoun = "she"
    elif kind in ("boy", "king", "knight"):
        pronoun = "he"
    nature = draw.choice(_NATURES)
    hero, find = f"{nature} {kind}", ""
    chance = draw.random()
    if not 0.6 <= chance < 0.8:  # nobody says a name
        called = draw.choice(_HEROES[pronoun])
    if chance < 0.35:
        about = article(kind)
    elif chance < 0.6:
        about = article(hero)
    elif chance < 0.8:
        about = f"{article(kind)} named {called}"
    elif chance < 0.9:
        find = draw.choice(_FINDS)
        about = article(find)
    else:
        two = draw.choice(("two brothers", "two sisters", "three friends", "a lamb and a wolf",
                           "friendship", "the moon", "the forest", "winter", "a ship"))  # fmt: skip
        about = two
    his = {"he": "his", "she": "her"}[pronoun]
    told = _fill(draw, hero=hero, called=called, pronoun=pronoun, find=find)
    lines = [_asked(draw, about), told]
    if draw.random() < 0.25:
        other = draw.choice(_HEROES[pronoun])
        lines += draw.choice(
            (
                ("Who is the story about?", f"It is about {called}, {article(hero)}."),
                (pick(draw, "What was the name?", f"What was {his} name?", "And the name?",
                      "What was the hero called?"), f"The name was {called}."),
                ("Nice story!", "Thank you! Shall I tell you another one?"),
                ("I liked that.", "I'm glad you liked it! Shall I tell you another one?"),
                (pick(draw, "Another one.", "Tell me another one.", "One more story, please."),
                 _fill(draw, hero=hero, called=other, pronoun=pronoun, find="")),
            )
        )  # fmt: skip
    return talk(*lines)


_BEGINNINGS = (
    "One day {a} found {find} {place}",
    "{A} was walking {place} when it began to snow",
    "Late in the evening somebody knocked at {a}'s door",
    "{A} woke up and the whole house was empty",
    "There was once a little ship that was afraid of the sea",
)
_GOES_ON = (
    '{A} was surprised and looked around. A small {helper} was sitting there. "Can you help me?" '
    "it asked. {A} nodded, and together they walked home. {end}",
    "At first nothing happened. Then {a} heard a quiet song. It came from {a_helper} who had lost "
    "its way. {A} showed it the path, and the {helper} thanked {a} with a {colour} flower. {end}",
)


def go_on(draw: random.Random) -> list[Turn]:
    """A beginning that the user gives, continued."""
    who, helper = name(draw), draw.choice(_HELPERS)
    words = {
        "a": who, "A": who, "find": article(draw.choice(_FINDS)), "place": draw.choice(_PLACES),
        "helper": helper, "a_helper": article(helper), "end": draw.choice(_ENDS),
        "colour": draw.choice([colour for colour in COLOURS if colour[0] not in "aeiou"]),
    }  # fmt: skip
    beginning = draw.choice(_BEGINNINGS).format(**words)
    asked = pick(
        draw, "Continue the story: ", "Go on with this story: ", "Finish this story: ",
        "How does this story go on? ",
    )  # fmt: skip
    return talk(f"{asked}{beginning}.", draw.choice(_GOES_ON).format(**words))
