"""The facts that made passages tell: wordings with gaps, what may fill them, and the questions."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from training.made.words import (
    COLOURS,
    COUNTED,
    DAYS,
    FOODS,
    HOBBIES,
    JOBS,
    MONTHS,
    NUMBERS,
    PETS,
    SPOTS,
    THINGS,
    listed,
    town,
)


@dataclass(frozen=True)
class Fact:
    """Wordings of a statement, and questions with their answers; gaps are named in braces."""

    told: tuple[str, ...]
    asked: tuple[tuple[str, str], ...]


_RELATIVES = listed("brother sister mother father uncle aunt friend neighbour cousin teacher")
_SIBLINGS = listed("brother sister son daughter cousin nephew niece grandchild")
_BUILDINGS = listed("school museum bakery library bank pool shop station church office")
_MADE = listed("""
soup bread pancakes a_cake tea dinner breakfast a_pie noodles a_salad coffee lunch cocoa jam
lemonade waffles a_stew porridge an_omelette rice toast a_sandwich popcorn muffins curry dumplings
a_pizza biscuits a_kite a_mask a_paper_boat a_mess a_basket a_necklace a_snowman
""")
_PLANTS = listed("""
tulips carrots beans lilies potatoes trees onions sunflowers tomatoes pumpkins herbs peas daisies
violets cabbages melons cucumbers leeks apple_trees cherry_trees palms pines oaks grapes berries
poppies lavender mint basil parsley corn wheat barley bushes orchids cactuses ivy ferns radishes
garlic
""")
_SKIES = listed("""
cloudy windy foggy sunny stormy cold hot warm grey icy snowy wet dry mild humid frosty chilly misty
bright dark calm lovely terrible rather_cool very_hot
""")
_HOUSES = listed("""
a_big_house a_tall_tower an_old_farmhouse a_tiny_flat a_white_cottage a_caravan a_wooden_hut
a_houseboat a_new_building a_stone_house a_tent a_castle a_yellow_bungalow a_quiet_room a_villa
a_log_cabin
""")
_BY = listed("""
by_the_river near_the_forest next_to_the_station on_a_hill at_the_edge_of_town by_the_lake
near_the_church behind_the_market in_the_mountains across_from_the_park in_the_old_town
by_the_canal near_the_bridge above_a_bakery below_the_castle beside_the_railway in_a_valley
on_an_island near_the_harbour next_to_a_school behind_the_stadium opposite_the_library
in_the_desert near_the_border outside_the_city on_the_coast
""")
_UNDER = listed("""
under_the_bed on_the_sofa behind_the_door in_the_garden on_the_roof next_to_the_oven in_a_basket
under_a_tree in_the_barn on_the_stairs at_the_window by_the_fire in_the_box on_the_carpet
under_the_desk behind_the_curtain on_the_balcony in_the_bathtub beside_the_piano on_the_shelf
in_the_cupboard under_the_bench near_the_gate inside_the_tent on_the_pillow between_two_chairs
in_the_wardrobe on_top_of_the_fridge
""")
_WITH = listed("by_bus by_train by_car on_foot by_bike by_boat by_tram on_horseback by_plane")


def _of(choices: list[str] | tuple[str, ...]) -> Callable[[random.Random], str]:
    return lambda draw: draw.choice(choices)


def _time(draw: random.Random) -> str:
    hour = draw.choice(NUMBERS[:12])
    return draw.choice(
        (hour, hour, f"half past {hour}", f"a quarter to {hour}", "noon", "midnight", "dawn",
         "sunset", f"{draw.randint(1, 12)}:{draw.randint(10, 59)}", f"ten past {hour}")
    )  # fmt: skip


def _small(draw: random.Random) -> str:
    return draw.choice(NUMBERS[1:]) if draw.random() < 0.5 else str(draw.randint(2, 99))


GAPS: dict[str, Callable[[random.Random], str]] = {
    "colour": _of(COLOURS), "thing": _of(THINGS), "spot": _of(SPOTS), "job": _of(JOBS),
    "counted": _of(COUNTED), "day": _of(DAYS), "month": _of(MONTHS), "food": _of(FOODS),
    "pet": _of(PETS), "hobby": _of(HOBBIES), "relative": _of(_RELATIVES),
    "sibling": _of(_SIBLINGS), "made": _of(_MADE), "building": _of(_BUILDINGS),
    "plants": _of(_PLANTS), "sky": _of(_SKIES), "house": _of(_HOUSES),
    "by": _of(_BY), "under": _of(_UNDER), "with": _of(_WITH), "time": _time, "town": town,
    "n": _small,
}  # fmt: skip

FACTS: tuple[Fact, ...] = (
    Fact(
        ("{A} has a {colour} {thing}.", "{A} owns a {colour} {thing}.",
         "{A} bought a {colour} {thing}.", "{A} has a {colour} {thing} and likes it very much."),
        (("What color is the {thing}?", "The {thing} is {colour}."),
         ("What color is {A}'s {thing}?", "{A}'s {thing} is {colour}."),
         ("Who has the {thing}?", "{A} has the {thing}."),
         ("Who has something {colour}?", "{A} has a {colour} {thing}.")),
    ),
    Fact(
        ("The {thing} is {colour}.", "There is a {colour} {thing} in the room."),
        (("What color is the {thing}?", "The {thing} is {colour}."),
         ("Which thing is {colour}?", "The {thing} is {colour}.")),
    ),
    Fact(
        ("{A} bought {n} {counted}.", "{A} bought {n} {counted} at the {spot}.",
         "{A} went to the {spot}. {He} bought {n} {counted} there.",
         "{A} went to the {spot} and bought {n} {counted} and a {thing}."),
        (("How many {counted} did {A} buy?", "{A} bought {n} {counted}."),
         ("Who bought {counted}?", "{A} bought {counted}.")),
    ),
    Fact(
        ("There are {n} {counted} in the {spot}.", "In the {spot} there are {n} {counted}."),
        (("How many {counted} are there?", "There are {n} {counted}."),
         ("Where are the {counted}?", "The {counted} are in the {spot}.")),
    ),
    Fact(
        ("The {pet} slept {under}.", "The {pet} was sleeping {under}."),
        (("Where did the {pet} sleep?", "The {pet} slept {under}."),
         ("Who slept {under}?", "The {pet} slept {under}.")),
    ),
    Fact(
        ("The {pet} sat {under}.", "The {pet} is sitting {under}."),
        (("Where is the {pet}?", "The {pet} is {under}."),
         ("Which animal is {under}?", "The {pet} is {under}.")),
    ),
    Fact(
        ("{A} is a {job}.", "{A} works as a {job}.", "{A} is a {job} and works in the {spot}.",
         "{A} is a {job}. {His} day begins early."),
        (("What is {A}'s job?", "{A} is a {job}."), ("Who is a {job}?", "{A} is a {job}."),
         ("What does {A} do for work?", "{A} is a {job}.")),
    ),
    Fact(
        ("Mrs. {A} is a {job}.", "Mr. {A} is a {job}.", "Dr. {A} is a {job}."),
        (("Who is a {job}?", "{A} is a {job}."), ("What is {A}?", "{A} is a {job}.")),
    ),
    Fact(
        ("{A} lost the {thing} in the {spot}. {B} found it {under}.",
         "{A} lost a {thing}. {His} {relative} {B} found it in the {spot}.",
         "{A} lost the {thing} in the {spot}, but {B} found it."),
        (("Who found the {thing}?", "{B} found the {thing}."),
         ("Who lost the {thing}?", "{A} lost the {thing}."),
         ("What did {A} lose?", "{A} lost the {thing}.")),
    ),
    Fact(
        ("{A} lost a {thing} in the {spot}. {His} {relative} found it.",
         "{A} was looking for the {thing}. In the end {his} {relative} found it."),
        (("Who found the {thing}?", "{A}'s {relative} found the {thing}."),
         ("Who found it?", "{A}'s {relative} found it.")),
    ),
    Fact(
        ("The train to {town} leaves at {time}.", "The train for {town} goes at {time}."),
        (("When does the train to {town} leave?", "The train to {town} leaves at {time}."),
         ("Which train leaves at {time}?", "The train to {town} leaves at {time}.")),
    ),
    Fact(
        ("The bus to {town} comes at {time}.", "A bus goes to {town} at {time}."),
        (("When does the bus to {town} come?", "The bus to {town} comes at {time}."),
         ("Where does the bus at {time} go?", "It goes to {town}.")),
    ),
    Fact(
        ("{A} was hungry and made {made}.", "{A} made {made}.", "{A} made {made} in the kitchen.",
         "{A} was in the kitchen, so {he} made {made}. It was very good."),
        (("What did {A} make?", "{A} made {made}."), ("Who made {made}?", "{A} made {made}.")),
    ),
    Fact(
        ("{A} lives in {house} {by}.", "{A} lives {by}.", "{A} lives {by}. {He} loves it there.",
         "{A} lives in a house {by}. {He} likes {hobby}."),
        (("Where does {A} live?", "{A} lives {by}."), ("Who lives {by}?", "{A} lives {by}.")),
    ),
    Fact(
        ("{A} lives in {town}.", "{A} lives in {town} with {his} {relative}.",
         "{A} comes from {town}. {He} likes {food}."),
        (("Where does {A} live?", "{A} lives in {town}."),
         ("Who is from {town}?", "{A} is from {town}."),
         ("In which town is {A} at home?", "{A} is at home in {town}.")),
    ),
    Fact(
        ("On {day} it was {sky}.", "It was {sky} on {day}.", "The weather on {day} was {sky}."),
        (("How was the weather on {day}?", "On {day} it was {sky}."),
         ("What was it like on {day}?", "On {day} it was {sky}."),
         ("On which day was it {sky}?", "It was {sky} on {day}.")),
    ),
    Fact(
        ("On {day} it snowed.", "It snowed on {day}."),
        (("When did it snow?", "It snowed on {day}."),
         ("What happened on {day}?", "On {day} it snowed."),
         ("How was the weather on {day}?", "On {day} it snowed.")),
    ),
    Fact(
        ("{A} gave the {thing} to {B}.", "{A} gave the {colour} {thing} to {B}.",
         "{A} had a {thing}. {He} gave it to {B}.", "{A} gave {B} a {thing}. {B} was happy.",
         "{A} gave the {thing} to {B}. Then {B} went to the {spot}."),
        (("Who has the {thing} now?", "{B} has the {thing} now."),
         ("Who got the {thing}?", "{B} got the {thing}."),
         ("Who gave the {thing} away?", "{A} gave the {thing} away."),
         ("What did {A} give to {B}?", "{A} gave the {thing} to {B}.")),
    ),
    Fact(
        ("The {building} is closed on {day}s.", "On {day}s the {building} is closed.",
         "The {building} is never open on {day}s."),
        (("On which day is the {building} closed?", "The {building} is closed on {day}s."),
         ("When is the {building} closed?", "The {building} is closed on {day}s."),
         ("What is closed on {day}s?", "The {building} is closed on {day}s.")),
    ),
    Fact(
        ("The {building} opens at {time}.", "The {building} opens at {time} every day.",
         "The {building} is near the {spot}. It opens at {time}."),
        (("When does the {building} open?", "The {building} opens at {time}."),
         ("What opens at {time}?", "The {building} opens at {time}.")),
    ),
    Fact(
        ("The {building} closes at {time}.",),
        (("When does the {building} close?", "The {building} closes at {time}."),
         ("Which place closes at {time}?", "The {building} closes at {time}.")),
    ),
    Fact(
        ("{A} planted {plants} behind the {spot}.", "{A} planted {plants} in {month}.",
         "{A} planted {plants}.", "In {month} {A} planted {plants} beside the {spot}."),
        (("What did {A} plant?", "{A} planted {plants}."),
         ("Who planted {plants}?", "{A} planted {plants}.")),
    ),
    Fact(
        ("{A} is {n} years old.", "{A} is {n}.", "{A} turned {n} in {month}."),
        (("How old is {A}?", "{A} is {n} years old."), ("Who is {n}?", "{A} is {n}.")),
    ),
    Fact(
        ("{A} has a {sibling} called {B}. {B} is {n}.", "{A}'s {sibling} {B} is {n} years old.",
         "{A} likes {food}. {His} {sibling} {B} is {n}."),
        (("How old is {B}?", "{B} is {n} years old."),
         ("Who is {B}?", "{B} is {A}'s {sibling}.")),
    ),
    Fact(
        ("{A} sold the {thing} and bought {n} {counted}.",
         "{A} sold {his} old {thing} and bought {n} {counted}."),
        (("What did {A} sell?", "{A} sold the {thing}."),
         ("What did {A} buy?", "{A} bought {n} {counted}.")),
    ),
    Fact(
        ("The {job} bought {n} {counted}.", "The {job} bought a {thing} and {n} {counted}."),
        (("What did the {job} buy?", "The {job} bought {n} {counted}."),
         ("Who bought the {counted}?", "The {job} bought the {counted}.")),
    ),
    Fact(
        ("The {job} sold the {thing} and bought a {colour} lamp.",
         "The old {job} sold a {thing} to {A}."),
        (("What did the {job} sell?", "The {job} sold the {thing}."),
         ("Who sold the {thing}?", "The {job} sold the {thing}.")),
    ),
    Fact(
        ("{A} likes {food}.", "{A}'s favorite food is {food}.", "{A} likes to eat {food}."),
        (("What does {A} like to eat?", "{A} likes {food}."),
         ("Who likes {food}?", "{A} likes {food}.")),
    ),
    Fact(
        ("{A} likes {hobby}.", "{A} loves {hobby} on {day}s.", "In summer {A} enjoys {hobby}."),
        (("What does {A} like to do?", "{A} likes {hobby}."),
         ("Who likes {hobby}?", "{A} likes {hobby}.")),
    ),
    Fact(
        ("{A} has a {pet} called {B}.", "{A}'s {pet} is called {B}.",
         "{A} has a {pet}. Its name is {B}."),
        (("What is the {pet} called?", "The {pet} is called {B}."),
         ("Who has a {pet}?", "{A} has a {pet}."), ("What animal is {B}?", "{B} is a {pet}."),
         ("What pet does {A} have?", "{A} has a {pet}.")),
    ),
    Fact(
        ("{A} went to the {spot}. There {he} met {B}.", "{A} met {B} in the {spot}.",
         "On {day} {A} met {B} at the {spot}."),
        (("Who did {A} meet?", "{A} met {B}."), ("Where did {A} meet {B}?", "In the {spot}."),
         ("Who met {B}?", "{A} met {B}.")),
    ),
    Fact(
        ("{A} went to the {spot} {with}.", "{A} went to the {spot} on {day}.",
         "{A} ran to the {spot}.", "{A} is in the {spot}."),
        (("Where did {A} go?", "{A} went to the {spot}."), ("Where is {A}?", "In the {spot}."),
         ("Who went to the {spot}?", "{A} went to the {spot}.")),
    ),
    Fact(
        ("{A} goes to work {with}.", "{A} travels {with}.", "{A} came {with}."),
        (("How does {A} travel?", "{A} travels {with}."), ("Who travels {with}?", "{A} does.")),
    ),
    Fact(
        ("{A} put the {thing} {under}.", "{A} hid the {thing} {under}.",
         "{A} left the {thing} {under}."),
        (("Where is the {thing}?", "The {thing} is {under}."),
         ("Who had the {thing}?", "{A} had the {thing}.")),
    ),
    Fact(
        ("The {thing} costs {n} euros.", "A {thing} costs {n} euros in this shop."),
        (("How much is the {thing}?", "The {thing} costs {n} euros."),
         ("What costs {n} euros?", "The {thing} costs {n} euros.")),
    ),
    Fact(
        ("{A}'s birthday is in {month}.", "{A} was born in {month}."),
        (("When is {A}'s birthday?", "{A}'s birthday is in {month}."),
         ("Who was born in {month}?", "{A} was born in {month}.")),
    ),
    Fact(
        ("{A} was born in {town} in {month}.", "{A} was born in {town}."),
        (("Where was {A} born?", "{A} was born in {town}."),),
    ),
    Fact(
        ("{A} visited {town} in {month}.", "In {month} {A} went to {town}."),
        (("When did {A} go there?", "{A} went there in {month}."),
         ("Where did {A} go in {month}?", "{A} went to {town}."),
         ("Which town did {A} see?", "{A} saw {town}.")),
    ),
    Fact(
        ("{A} saw a {pet} in the {spot}.", "In the {spot} {A} saw a {pet}."),
        (("What did {A} see?", "{A} saw a {pet}."), ("Who saw the {pet}?", "{A} saw the {pet}."),
         ("Where was the {pet}?", "The {pet} was in the {spot}.")),
    ),
    Fact(
        ("{A} broke the {thing}.", "By accident {A} broke the {thing}.",
         "{A} fell and broke the {thing}. {B} repaired it."),
        (("What did {A} break?", "{A} broke the {thing}."),
         ("Who broke the {thing}?", "{A} broke the {thing}.")),
    ),
    Fact(
        ("The {thing} belongs to {A}.", "This {thing} is {A}'s."),
        (("Whose {thing} is it?", "It is {A}'s {thing}."),
         ("What belongs to {A}?", "The {thing} belongs to {A}.")),
    ),
    Fact(
        ("{A} wrote a letter to {B}.", "{A} sent a letter to {B} in {town}."),
        (("Who wrote the letter?", "{A} wrote the letter."),
         ("Who got the letter?", "{B} got the letter.")),
    ),
    Fact(
        ("{A} called {B} on {day}.", "On {day} {A} called {B}."),
        (("When did {A} call {B}?", "{A} called {B} on {day}."),
         ("Who called {B}?", "{A} called {B}."), ("Who did {A} call?", "{A} called {B}.")),
    ),
    Fact(
        ("{A} helped {B} with the {thing}.", "{B} could not lift the {thing}, so {A} helped."),
        (("Who helped {B}?", "{A} helped {B}."), ("Who helped?", "{A} helped {B}.")),
    ),
)  # fmt: skip
