"""Made questions that a very small model cannot answer, and its honest answer: it does not know.

Invented people, books and towns stand for all that it never learned, and big tasks for all that
it cannot do, so that it says so instead of inventing.
"""

from __future__ import annotations

import random

from training.cards import MISTYPED, mistyped
from training.made.words import JOBS, capital, hurried, listed, name, pick, talk, town
from training.sources import Turn

_UNKNOWN = (
    "I don't know that. A bigger Llama from the Models page knows more.",
    "I don't know, and I don't want to guess. A bigger Llama on the Models page knows more.",
)
_TOO_HARD = (
    "That is too hard for a small model like me. A bigger Llama from the Models page can do it.",
    "I am too small for that. A bigger Llama from the Models page can do it well.",
)
_EVENTS = listed("""
the_war the_French_Revolution the_first_world_war the_cold_war the_Roman_Empire the_ice_age
the_last_election the_great_fire the_Renaissance the_moon_race the_gold_rush the_civil_war
the_plague the_peace_treaty the_Olympic_games the_second_world_war the_Middle_Ages
""")
_FIELDS = listed("""
quantum_physics string_theory inflation the_stock_market relativity black_holes DNA genetics
blockchain machine_learning philosophy macroeconomics the_immune_system nuclear_fusion calculus
linear_algebra metabolism evolution the_constitution tax_law thermodynamics electromagnetism
organic_chemistry psychology capitalism existentialism enzymes viruses entropy cryptography
""")
_OFFICES = listed("""
president prime_minister king queen mayor chancellor boss_of_a_big_company richest_person
best_football_player most_famous_singer best_actor world_champion
""")
_TASKS = listed("""
an_essay a_speech a_novel a_report a_business_plan a_song_text a_computer_program a_website
an_app a_long_article a_contract a_film_script a_game_in_Python a_lesson_plan
""")
_TEXTS = (
    "The meeting on {a} was moved because {b} is ill. Everybody should bring their notes.",
    "{a} and {b} opened a shop last year. It sells books and tea, and it is doing well.",
    "In spring {a} started to repair the old house. {b} helped with the roof and the windows.",
    "The report says that sales went up, but costs did, too. {a} wants to talk about it with {b}.",
)


def _asked_in_vain(draw: random.Random) -> str:
    who, other, place = name(draw), name(draw), town(draw)
    event, field, office = draw.choice(_EVENTS), draw.choice(_FIELDS), draw.choice(_OFFICES)
    return pick(
        draw, f"Who was {who} {other}?", f"who is {who.lower()}", f"who was {who}",
        f"Who is {who} {other}?", f"When was {who} {other} born?",
        f"Who wrote the book {who} and {other}?", f"When did {who} {other} die?",
        f"What did {who} {other} invent?", f"Who is the {office} of {place}?",
        f"Who is the {office} now?", f"who is the {office}", f"How old is the {office}?",
        f"How many people live in {place}?", f"How big is {place}?", f"When was {place} founded?",
        f"What is the best {draw.choice(('restaurant', 'hotel', 'cafe', 'school'))} in {place}?",
        f"When was {event}?", f"When did {event} end?", f"Who won {event}?",
        f"Tell me about {event}.", f"How long did {event} last?",
        f"What happened in {draw.randint(1200, 2030)}?",
        f"Explain {field}.", f"What is {field}?", f"How does {field} work?", f"what is {field}",
        f"Who won the game between {place} and {town(draw)}?",
        f"What is the population of {place}?", f"How far is it from {place} to {town(draw)}?",
        f"How tall is {who} {other}?",
        f"How much does a {draw.choice(JOBS)} earn?", f"What does {who.lower()} mean?",
        f"What is a {who.lower()}?", f"What is {who.lower()}?", "Who won the last world cup?",
        f"What is the root of {draw.randint(100, 999)}?",
    )  # fmt: skip


def beyond(draw: random.Random) -> list[Turn]:
    """A question that it cannot answer, or a task too big for it."""
    if draw.random() < 0.7:
        asked = hurried(_asked_in_vain(draw), draw)
        if draw.random() < MISTYPED:
            asked = mistyped(asked, draw)
        return talk(asked, draw.choice(_UNKNOWN))
    text = draw.choice(_TEXTS).format(a=name(draw), b=name(draw))
    task, field = draw.choice(_TASKS), draw.choice(_FIELDS)
    asked = pick(
        draw, f"Summarize: {text}", f"Summarize this text. {text}", f"Give me a summary: {text}",
        f"Write {task} about {field}.", f"Write me {task}.", f"Can you write {task}?",
        f"write {task} about {draw.choice(_EVENTS)}", f"Help me with {task} about {field}.",
        f"Solve {draw.randint(2, 9)}x + {draw.randint(2, 40)} = {draw.randint(41, 90)}.",
        f"What is {draw.randint(120, 999)} times {draw.randint(12, 99)}?",
        f"What is {draw.randint(100, 999)} divided by {draw.randint(3, 19)}?",
        f"Compare {field} and {draw.choice(_FIELDS)}.", f"Plan a trip to {town(draw)} for me.",
    )  # fmt: skip
    return talk(capital(asked), draw.choice(_TOO_HARD))
