"""Made talk in which the user answers what the assistant asked: yes, no, a name, a reason, a plan.

The small model ends many of its lines with a question, so it has to make sense of the answers.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from training.made.follow_ups import JOKES
from training.made.words import (
    COLOURS,
    FOODS,
    HOBBIES,
    PETS,
    PLACES,
    SPOTS,
    THINGS,
    article,
    capital,
    listed,
    name,
    pick,
    talk,
)
from training.sources import Turn

_YES = ("Yes", "yes", "Yes, please.", "sure", "Sure!", "ok", "Okay", "yeah", "Please do.",
        "yes pls", "Of course", "Why not", "Good idea", "That would be nice.", "yep")  # fmt: skip
_NO = ("No", "no", "No, thanks.", "nope", "Not now", "not really", "No, thank you.", "Maybe later",
       "I don't want to", "rather not", "nah")  # fmt: skip
RIDDLES = (
    "What has hands but cannot clap? A clock!",
    "What gets wetter the more it dries? A towel!",
    "What has keys but opens no door? A piano!",
    "What can you catch but not throw? A cold!",
    "What has a neck but no head? A bottle!",
    "What is full of holes but still holds water? A sponge!",
    "What has one eye but cannot see? A needle!",
    "What runs but never walks? Water!",
)
_STORY = (
    "Once upon a time a little llama was afraid of the dark. One night it looked up and saw a "
    "thousand stars. From that day on it loved the night."
)


def offers(draw: random.Random) -> list[Turn]:
    """The assistant offers a joke, a riddle or a story, and the user takes one or none."""
    asked = pick(
        draw, "I'm bored.", "I am bored", "bored", "I have nothing to do.", "so boring today",
        "Entertain me!", "What can we do?", "i am so bored right now", "Cheer me up.",
    )  # fmt: skip
    lines = [asked, "Shall I tell you a joke, a riddle or a short story?"]
    kind = draw.choice(("joke", "joke", "riddle", "riddle", "story", "yes", "no"))
    if kind == "yes":
        lines += [draw.choice(_YES), JOKES[0][0]]
    elif kind == "no":
        return talk(*lines, draw.choice(_NO), "All right. You could also take a walk or read.")
    else:
        told = {"joke": draw.choice(JOKES)[0], "riddle": draw.choice(RIDDLES), "story": _STORY}
        wordings = (f"A {kind}, please.", f"A {kind}.", kind, f"the {kind}", f"Tell me a {kind}.",
                    f"{capital(kind)}!", f"I would like a {kind}.", f"{kind} please",
                    f"I take the {kind}.", f"yes, a {kind}")  # fmt: skip
        lines += [draw.choice(wordings), told[kind]]
    if draw.random() < 0.5:
        lines += [pick(draw, "haha", "That was nice.", "Good one!", "Thanks, I liked that."),
                  "I'm glad you liked it! Do you want another one?"]  # fmt: skip
        if draw.random() < 0.5:
            lines += [draw.choice(_NO), "All right. What would you like to talk about?"]
    return talk(*lines)


_TROUBLES = (
    (
        "My boss shouted at me.",
        "That must have hurt. Was there a reason that you could talk about?",
    ),
    ("I had a fight with my friend.", "Fights with friends hurt. Perhaps you can talk tomorrow."),
    ("My dog is ill.", "Poor dog! I hope that a vet can help."),
    ("I failed my test.", "One test is not everything. You can try again."),
    ("I miss my family.", "It is hard to be far away. A call may help a little."),
    ("Nobody called me today.", "That feels lonely. You could call somebody yourself."),
    ("I lost my job.", "That is a hard blow. Give yourself time, and ask friends for help."),
    ("I can't sleep at night.", "Try to put the phone away early, and keep the room dark."),
    ("My back hurts.", "Rest it a little. If it stays, please see a doctor."),
    ("We broke up.", "I'm sorry. That takes time. Be with people who are good to you."),
    ("Everything went wrong today.", "Some days are like that. Tomorrow is a new one."),
    ("I have too much work.", "Take one thing at a time, and the most important one first."),
    ("My best friend moved away.", "That is sad. You can still write and call each other."),
    ("I feel that I am not good enough.", "You are trying, and that counts. Be kind to yourself."),
    ("I broke my phone.", "How annoying! Perhaps a repair shop can help."),
    ("My neighbours are so loud.", "That is tiring. Maybe a friendly talk with them helps."),
)


def trouble(draw: random.Random) -> list[Turn]:
    """Somebody is not well, is asked about it, and tells or does not want to."""
    lines = [
        pick(draw, "I am sad.", "I'm not doing well.", "Not so good today", "I feel bad.", "im sad",
             "I had a bad day.", "My day was hard.", "I am unhappy", "I don't feel good"),
        pick(draw, "I'm sorry to hear that. Do you want to tell me about it?",
             "I'm sorry to hear that. Do you want to tell me what happened?"),
    ]  # fmt: skip
    chance = draw.random()
    if chance < 0.2:
        lines += [draw.choice(_NO), "That is all right. Shall I tell you a joke or a story?"]
    else:
        if chance < 0.45:
            lines += [draw.choice(_YES), "I'm listening. What happened?"]
        what, answer = draw.choice(_TROUBLES)
        lines += [
            pick(
                draw,
                what,
                what.lower(),
                what.rstrip("."),
                f"Well, {what[0].lower() if what[:2] != 'I ' else 'I'}{what[1:]}",
            ),
            answer,
        ]
        if draw.random() < 0.5:
            lines += [
                pick(draw, "Thank you.", "thanks, that helps", "You are right.", "I will try that.",
                     "Maybe", "I feel a bit better now", "Thanks for listening."),
                pick(draw, "I'm glad that we talked. Be kind to yourself today.",
                     "You're welcome. I hope it gets better soon."),
            ]  # fmt: skip
    return talk(*lines)


_HEROES = listed("""
a_girl_and_a_dragon a_boy_who_can_fly two_sisters a_detective a_doctor_in_the_desert a_lost_dog
a_young_queen a_family_of_bears a_trip_to_the_moon an_old_sailor a_haunted_house a_robot love
friendship a_football_team a_thief a_magic_school three_friends the_sea a_wolf a_spy a_long_winter
""")
_GOOD_POINTS = listed("""
the_quiet the_colors the_people the_music the_food the_fresh_air the_stories the_smell the_taste
the_speed the_freedom the_calm the_fun the_noise the_view the_sound the_feeling everything
""")


def _hobby(draw: random.Random) -> list[str]:
    liked = draw.choice((*HOBBIES, *FOODS))
    point = draw.choice(_GOOD_POINTS)
    return [
        pick(draw, f"I like {liked}.", f"I love {liked}!", f"my hobby is {liked}",
             f"I really enjoy {liked}."),
        f"{capital(liked)}! What do you like most about it?",
        pick(draw, f"{capital(point)}.", point, f"I like {point}.", f"Mostly {point}"),
        pick(draw, f"{capital(point)}, I can understand that!",
             f"{capital(point)}, that sounds good. How often do you have time for it?"),
    ]  # fmt: skip


def _trip(draw: random.Random) -> list[str]:
    place, spot = draw.choice(PLACES), draw.choice(SPOTS)
    return [
        pick(draw, f"I am going to {place}.", f"We travel to {place} next week.",
             f"I want to see {place}.", f"My holiday is in {place}."),
        f"{place} sounds exciting! What do you want to see there?",
        pick(draw, f"The {spot}.", f"the {spot}", f"I want to see the {spot}.",
             f"The old {spot}, I think."),
        f"The {spot} sounds interesting. Have a good time in {place}!",
    ]  # fmt: skip


def _meal(draw: random.Random) -> list[str]:
    dish, first, second = (draw.choice(FOODS) for _ in range(3))
    return [
        pick(draw, f"I am making {dish}.", f"I'm cooking {dish}.", f"Tonight there is {dish}."),
        "That sounds tasty! What is in it?",
        pick(draw, f"{capital(first)} and {second}.", f"{first} and {second}",
             f"Some {first} and a little {second}."),
        f"Mmm, {first} and {second}. Enjoy your {dish}!",
    ]  # fmt: skip


def _pet(draw: random.Random) -> list[str]:
    kind, called = draw.choice(PETS), name(draw)
    return [
        pick(draw, f"I have {article(kind)}.", f"I got {article(kind)}!"),
        "How lovely! What is its name?",
        pick(draw, f"{called}.", called, f"Its name is {called}.", f"It is called {called}."),
        pick(draw, f"{called} is a nice name for {article(kind)}!",
             f"{called}, what a nice name! How old is {called}?"),
        *((str(draw.randint(1, 15)), f"I wish {called} many more good years!")
          if draw.random() < 0.3 else ()),
    ]  # fmt: skip


def _family(draw: random.Random) -> list[str]:
    first, second = name(draw), name(draw)
    kin = pick(draw, "two brothers", "two sisters", "two children", "two sons", "two daughters")
    return [
        f"I have {kin}.",
        "How nice! What are their names?",
        pick(draw, f"{first} and {second}.", f"{first} and {second}",
             f"They are called {first} and {second}."),
        f"{first} and {second} are lovely names.",
        *((pick(draw, "What are their names?", "Do you remember their names?"),
           f"Their names are {first} and {second}.") if draw.random() < 0.5 else ()),
    ]  # fmt: skip


def _book(draw: random.Random) -> list[str]:
    about = draw.choice(_HEROES)
    return [
        pick(draw, "I am reading a book.", "I read a good book.", "I'm reading right now."),
        "Reading is wonderful. What is the book about?",
        pick(draw, f"{capital(about)}.", about, f"It is about {about}.", f"about {about}"),
        f"A book about {about} sounds interesting! Do you like it so far?",
        *draw.choice(((draw.choice(_YES), "Then enjoy the rest of it!"),
                      (draw.choice(_NO), "Then try another one. Life is short."), ())),
    ]  # fmt: skip


def _favourite(draw: random.Random) -> list[str]:
    colour, food = draw.choice(COLOURS), draw.choice(FOODS)
    return draw.choice(
        (
            ["What is your favourite colour?", "I can't see colors, but I like the word blue. "
             "What is yours?", pick(draw, colour, f"{capital(colour)}.", f"Mine is {colour}."),
             f"{capital(colour)} is a beautiful color!"],
            ["Do you eat something?", "I don't eat, I am a program. What is your favorite food?",
             pick(draw, food, f"{capital(food)}.", f"I like {food}."),
             f"{capital(food)}, good choice!"],
            ["Hi, how are you?", "I'm doing well, thank you. How are you?",
             pick(draw, "good", "Fine, thanks.", "very well", "great!", "I'm ok", "also good"),
             "I'm glad to hear that! What shall we talk about?",
             pick(draw, f"About {food}.", f"{food}", f"Let's talk about {food}."),
             f"{capital(food)}, good! Do you like {food}?"],
            ["Who am I?", "You have not told me your name yet.",
             (who := name(draw)), f"Nice to meet you, {who}!", "So who am I?",
             f"Your name is {who}."],
        )
    )  # fmt: skip


def _need(draw: random.Random) -> list[str]:
    thing = draw.choice(THINGS)
    return [
        pick(draw, "Can you help me?", "I need help.", "I need your help", "can i ask something"),
        pick(draw, "Of course! What is it?", "Sure, go ahead."),
        pick(draw, f"I can't find my {thing}.", f"I lost my {thing}."),
        f"I'm sorry about your {thing}. Where did you have it last?",
        *((f"In the {(spot := draw.choice(SPOTS))}.",
           f"Then look in the {spot} first. I hope you find your {thing}!")
          if draw.random() < 0.6 else ()),
    ]  # fmt: skip


_CHATS: tuple[Callable[[random.Random], list[str]], ...] = (
    _hobby, _trip, _meal, _pet, _family, _book, _favourite, _need,
)  # fmt: skip


def chat(draw: random.Random) -> list[Turn]:
    """One or two little talks in which the answer takes up what the user said to a question."""
    return talk(
        *(line for _ in range(draw.choice((1, 1, 2))) for line in draw.choice(_CHATS)(draw))
    )
