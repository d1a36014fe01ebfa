"""Made small talk: feelings, news, plans, likes and thanks, in the many ways that people word them.

The answers are few and kind. Where the user named a thing, the answer takes it up.
"""

from __future__ import annotations

import random

from training.cards import MISTYPED, mistyped
from training.made.words import DAYS, FOODS, HOBBIES, PLACES, capital, listed, name, pick, talk
from training.sources import Turn

_DEGREES = ("", "", "so ", "very ", "really ", "a bit ", "pretty ", "quite ", "kind of ", "too ")
_WHENS = (
    "", "", "", " today", " right now", " tonight", " this morning", " lately", " at the moment",
    " these days", " again", " this evening",
)  # fmt: skip
_SORRY = (
    "I'm sorry to hear that. Do you want to tell me about it?",
    "I'm sorry to hear that. Talking to a friend or taking a walk may help.",
)
_LONELY = (
    "I'm sorry you feel lonely. Is there a friend you could call? I'm glad to chat, too.",
    "I'm sorry to hear that. I'm here to chat, and a call to a friend may help.",
)
_REST = (
    "Then a little rest may do you good. Try to go to bed early.",
    "I'm sorry you are tired. Take a break and get some rest.",
)
_CALM = (
    "Take a slow breath. You have done hard things before. Good luck!",
    "That is normal. Take a slow breath, prepare a little, and it will go well. Good luck!",
)
_ANGRY = (
    "I understand. Take a slow breath first. Do you want to tell me what happened?",
    "I'm sorry to hear that. A short walk may help you to calm down.",
)
_GLAD = ("I'm glad to hear that! What made it so?", "That is great! I'm happy for you.")
_BORED = (
    "Shall I tell you a joke, a riddle or a short story?",
    "You could read, take a walk or call a friend. Or shall I tell you a joke?",
)
_ILL = (
    "I'm sorry to hear that. Rest, drink enough and keep warm. If it gets worse, see a doctor.",
)
# Words for a feeling, and the answers that fit them.
_FEELINGS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("sad", "unhappy", "down", "low", "miserable", "blue", "hurt", "heartbroken", "gloomy",
      "depressed", "upset", "hopeless", "disappointed", "homesick"), _SORRY),
    (("lonely", "alone", "left out", "isolated", "forgotten"), _LONELY),
    (("tired", "sleepy", "exhausted", "worn out", "weary", "drained"), _REST),
    (("nervous", "anxious", "worried", "stressed", "scared", "afraid", "tense", "unsure"), _CALM),
    (("angry", "mad", "annoyed", "furious", "frustrated", "jealous", "irritated"), _ANGRY),
    (("happy", "glad", "great", "good", "excited", "cheerful", "proud", "relaxed", "wonderful",
      "fantastic", "grateful", "amazing"), _GLAD),
    (("bored", "restless"), _BORED),
    (("sick", "ill", "unwell", "dizzy"), _ILL),
    (("hungry",), ("How about some fruit, soup or a sandwich?", "Then it is time for a snack!")),
    (("thirsty",), ("Then have a glass of water.",)),
    (("cold", "freezing"), ("Put on something warm, and have a cup of tea.",)),
    (("hot",), ("Drink some water and find a cool place.",)),
    (("confused", "lost", "puzzled"), ("What is it about? Maybe I can explain it simply.",)),
    (("busy",), ("Then take one thing at a time, and do not forget a short break.",)),
    (("okay", "fine", "alright", "not bad"), ("Good! What shall we talk about?",)),
)  # fmt: skip


def feeling(draw: random.Random) -> list[str]:
    """How somebody is."""
    words, answers = draw.choice(_FEELINGS)
    word = draw.choice(words)
    degree = "" if word in ("freezing", "not bad", "okay", "fine") else draw.choice(_DEGREES)
    start = pick(draw, "I am ", "I'm ", "I feel ", "I am feeling ", "i feel ", "im ")
    return [f"{start}{degree}{word}{draw.choice(_WHENS)}", draw.choice(answers)]


_GOOD_NEWS = (
    "I got a new {x}|job car puppy bike phone flat kitten guitar",
    "I just got a {x}|job puppy dog raise present letter bike new_computer good_grade",
    "I passed my {x}|exam test driving_test interview course",
    "I won the {x}|game race prize match tournament",
    "We just bought a {x}|house car boat flat garden",
    "I finished my {x}|book work project essay first_marathon painting",
    "My {x} had a baby|sister cousin friend daughter",
    "I learned to {x}|swim drive ski bake_bread ride_a_bike play_chess",
    "I am getting {x}|married promoted a_dog",
    "My {x} got married|brother sister son friend",
    "We won {x}|yesterday today the_cup",
    "Tomorrow is my {x}|birthday wedding first_day_at_work",
)
_BAD_NEWS = (
    "I lost my {x}|job keys phone wallet bag cat game passport",
    "I failed my {x}|exam test driving_test course",
    "I broke my {x}|leg arm phone favorite_cup glasses",
    "My {x} died|dog cat grandfather aunt fish uncle",
    "My {x} is ill|mother father dog son friend",
    "I had a bad {x}|day week morning night dream trip year",
    "I had an awful {x}|day week morning evening time",
    "I had a {x} day|rough hard sad long horrible difficult stressful",
    "My day was {x}|bad awful horrible hard long really_bad",
    "Today was {x}|bad horrible hard not_good sad",
    "I had a fight with my {x}|friend brother wife husband boss mother",
    "My {x} left me|girlfriend boyfriend wife husband",
    "Somebody stole my {x}|bike bag phone car",
    "I missed the {x}|bus train party flight",
    "Nobody {x} me|likes called understands helps",
    "Everything is {x}|wrong hard bad",
)
_CHEER = (
    "Congratulations! That is wonderful news.",
    "That is great news! I'm happy for you.",
)
_LUCK = (
    "I have {x} tomorrow|an_exam a_test an_interview a_race an_operation a_date",
    "I have an important {x} soon|exam meeting talk game test",
    "Tomorrow I have {x}|my_exam a_big_test my_interview my_first_lesson",
    "I am worried about my {x}|exam test interview talk future",
    "I'm afraid of my {x}|exam test first_day driving_test",
    "My {x} is tomorrow|exam test interview talk game",
)
_HARD = (
    "I'm sorry to hear that. Do you want to tell me more?",
    "I'm sorry. That sounds hard. Do you want to talk about it?",
)


def news(draw: random.Random) -> list[str]:
    """Something good or bad that happened, or that is near."""
    lines, answers = draw.choice(((_GOOD_NEWS, _CHEER), (_BAD_NEWS, _HARD), (_LUCK, _CALM)))
    wording, fills = draw.choice(lines).split("|")
    said = wording.format(x=draw.choice(listed(fills)))
    return [said + draw.choice(("", ".", "!")), draw.choice(answers)]


_GREETINGS = (
    "Hi", "Hello", "Hey", "Hello there", "Hi there", "Hey there", "Good day", "Howdy", "Hiya", "Yo",
    "Greetings", "hi", "hello", "hey",
)  # fmt: skip
_TO = ("", "", ", Corral", " my friend", " friend", " again", " everyone", " dear", " you")
_MARKS = ("", "", "!", ".", " :)", " :D", " ;)", "!!", " 👋", " 😊")
_TIMES = {"morning": "How did you sleep?", "evening": "How was your day?",
          "afternoon": "What can I do for you?", "day": "How can I help you?"}  # fmt: skip


def greeting(draw: random.Random) -> list[str]:
    """Hello in many ways, also at a time of day, with a smile, or with how-are-you behind it."""
    if draw.random() < 0.4:
        time = draw.choice(tuple(_TIMES))
        said = pick(draw, f"Good {time}", f"good {time}", f"A good {time} to you",
                    f"Good {time} all", f"Hello and good {time}", f"Hi, good {time}")  # fmt: skip
        return [said + draw.choice(_TO[:5]) + draw.choice(_MARKS), f"Good {time}! {_TIMES[time]}"]
    said = draw.choice(_GREETINGS) + draw.choice(_TO)
    if draw.random() < 0.25:
        return [f"{said}{pick(draw, '!', ',', '.')} {_how_asked(draw)}", _how_answered(draw)]
    answer = pick(draw, "Hello! What would you like to talk about?", "Hi! How can I help you?",
                  "Hello! It is nice to see you. What can I do for you?")  # fmt: skip
    return [said + draw.choice(_MARKS), answer]


def _how_asked(draw: random.Random) -> str:
    asked = pick(
        draw, "How are you", "how are you", "How are you doing", "how are you doing",
        "How is it going", "how is it going", "hows it going", "how's it going", "How do you feel",
        "How is life", "how are things", "How have you been", "hows life", "how r u",
        "Are you well", "Are you all right", "are you ok", "Is everything okay", "You doing well",
        "How's everything", "How is your day going", "how was your day",
    )  # fmt: skip
    return asked + pick(draw, "", "", " today", " now", " this week") + pick(draw, "?", "?", "")


def _how_answered(draw: random.Random) -> str:
    return pick(draw, "I'm doing well, thank you. How are you?",
                "I'm fine, thanks for asking! And you?")  # fmt: skip


_BACK = (
    ("I'm good", "Good! What shall we talk about?"),
    ("I'm fine, thanks", "I'm glad to hear that! What shall we talk about?"),
    ("good", "I'm glad to hear that! What shall we talk about?"),
    ("Great!", "I'm glad to hear that! What shall we talk about?"),
    ("not so good", "I'm sorry to hear that. Do you want to tell me about it?"),
    ("Could be better", "I'm sorry to hear that. Do you want to tell me about it?"),
    ("tired", "Then a little rest may do you good. Try to go to bed early."),
    ("so so", "I hope it gets better soon. Do you want to tell me about it?"),
    ("all good here", "I'm glad to hear that! What shall we talk about?"),
)


def how_are_you(draw: random.Random) -> list[str]:
    """The question, and at times what the user answers to it."""
    lines = [_how_asked(draw), _how_answered(draw)]
    return [*lines, *draw.choice(_BACK)] if draw.random() < 0.4 else lines


def leaving(draw: random.Random) -> list[str]:
    """Goodbye and good night."""
    if draw.random() < 0.35:
        said = pick(
            draw, "Good night", "good night", "I'm going to bed", "I am going to sleep now",
            "Off to bed", "Time for bed, good night", "I need to sleep now", "Sleep well",
            "I'm off to bed, night", "See you tomorrow, good night", "gn", "I go to sleep",
        )  # fmt: skip
        return [said + draw.choice(_MARKS[:6]), pick(draw, "Good night! Sleep well.",
                                                     "Good night, and sweet dreams!")]  # fmt: skip
    said = pick(
        draw, "Bye", "Goodbye", "bye", "Bye bye", "See you", "See you soon", "See you later", "cya",
        "I have to go", "I have to leave now", "I need to go", "gotta go", "Talk to you later",
        "That's all for today", "That is all, bye", "Until tomorrow", "So long", "Farewell",
        "Have a nice day", "Take care", f"See you on {draw.choice(DAYS)}", "ok goodbye",
        "Bye for now", "ok, see you", "I'm leaving now", "Thanks, bye",
    )  # fmt: skip
    return [said + draw.choice(_MARKS[:6]), pick(draw, "Goodbye! Have a nice day.",
                                                 "Bye! It was nice to talk to you.")]  # fmt: skip


def thanks(draw: random.Random) -> list[str]:
    """Thanks and praise, and the answers to them."""
    if draw.random() < 0.5:
        said = pick(
            draw, "Thanks", "thanks", "Thank you", "Thank you very much", "Thanks a lot", "thx",
            "Thanks so much", "Thank you so much", "Thanks for your help",
            "Thank you for the answer", "Thanks for the joke", "Thank you for listening",
            "Thanks, that was useful", "Cheers",
            "I thank you", "A big thank you", "Much appreciated", "great, thank you", "cool thanks",
            "perfect, thanks", "Thanks again", "Thank you, my friend", "ok thanks", "tysm",
        )  # fmt: skip
        answer = pick(draw, "You're welcome!", "I'm happy to help!",
                      "You're welcome. Is there anything else?")  # fmt: skip
        return [said + draw.choice(_MARKS[:6]), answer]
    degree = pick(draw, "", "very ", "so ", "really ", "quite ")
    word = pick(draw, "kind", "nice", "helpful", "funny", "smart", "clever", "sweet", "good",
                "great", "polite", "friendly", "cool", "patient")  # fmt: skip
    said = pick(
        draw, f"You are {degree}{word}", f"You're {degree}{word}", f"you are {degree}{word}",
        f"That was {degree}{word} of you", "Good work", "Nice job", "Nice work", "Well said",
        "You did great", "You did that well", "I really like you", "I like you very much",
        "I enjoy talking to you", "You are the best", "I like talking with you", "I like this chat",
    )  # fmt: skip
    return [said + draw.choice(_MARKS[:6]), pick(draw, "Thank you, that is kind of you!",
                                                 "Thank you! I'm glad you like it.")]  # fmt: skip


_ACTIVITIES = listed("""
reading_a_book cooking_dinner watching_a_film drinking_coffee baking_a_cake learning_English
cleaning_my_room playing_a_game working_in_the_garden listening_to_music painting_a_picture
writing_a_letter planning_a_trip doing_my_homework eating_breakfast walking_the_dog
fixing_my_bike making_tea knitting_a_scarf learning_to_play_the_guitar looking_for_a_job
sitting_on_the_train waiting_for_a_friend having_lunch building_a_table
""")
_LIKED = listed("""
football music books animals cats dogs horses the_sea the_mountains rain snow summer winter films
dancing trains tea coffee flowers board_games old_cars birds stars chess computers history
""")


def telling(draw: random.Random) -> list[str]:
    """What the user does, likes, plans or has; the answer takes up what was named."""
    activity = draw.choice(_ACTIVITIES)
    liked = draw.choice((*_LIKED, *HOBBIES, *FOODS))
    place, day = draw.choice(PLACES), draw.choice(DAYS)
    return list(
        draw.choice(
            (
                (pick(draw, f"I am {activity}.", f"I'm {activity} right now", f"I was {activity}"),
                 pick(draw, f"{capital(activity)} sounds nice. How is it going?",
                      f"Enjoy {activity}!")),
                (pick(draw, f"I like {liked}.", f"I love {liked}!", f"I really like {liked}",
                      f"I enjoy {liked}"),
                 pick(draw, f"{capital(liked)}! What do you like most about it?",
                      "That's nice! What do you like most about it?")),
                (pick(draw, f"I don't like {liked}.", f"I hate {liked}"),
                 f"Not everybody likes {liked}. What do you like instead?"),
                (pick(draw, f"I am going to {place} on {day}.", f"On {day} I travel to {place}",
                      f"We are going to {place} next week.", f"I want to visit {place}."),
                 pick(draw, f"{place} sounds exciting! What do you want to see there?",
                      f"Have a good trip to {place}!")),
                (pick(draw, f"My friend {name(draw)} is coming on {day}.",
                      f"On {day} I meet my friend {name(draw)}."),
                 "That sounds nice. What will you do together?"),
                (pick(draw, "It is raining here.", "It's raining", "The weather is bad today",
                      "It is so cold outside", "It is snowing!"),
                 "Then it is a good day for a book and a cup of tea."),
                (pick(draw, "The sun is shining.", "It is sunny today", "The weather is great",
                      "What a beautiful day!"),
                 "That sounds lovely. A walk would be nice."),
                (pick(draw, "I have nothing to do", "There is nothing to do here",
                      "Nothing is going on", "This is boring", "I'm bored out of my mind",
                      "what should I do, im bored"), draw.choice(_BORED)),
                (pick(draw, f"It is {day} at last!", "The weekend is here!", "It is Friday!"),
                 "Nice! What are your plans?"),
            )
        )
    )  # fmt: skip


_TALKS = (
    greeting, greeting, how_are_you, feeling, feeling, feeling, news, news, thanks, leaving,
    telling,
)  # fmt: skip


def exchange(draw: random.Random) -> list[str]:
    """One exchange of small talk as plain lines, for use between other things."""
    said, answer, *_ = draw.choice((how_are_you, feeling, news, thanks, telling))(draw)
    return [mistyped(said, draw) if draw.random() < MISTYPED else said, answer]


def small_talk(draw: random.Random) -> list[Turn]:
    """One to four exchanges; a greeting stands first and a goodbye last."""
    count = draw.choice((1, 1, 1, 2, 3, 4))
    if count == 1:
        said, *rest = draw.choice(_TALKS)(draw)
        return talk(mistyped(said, draw) if draw.random() < MISTYPED else said, *rest)
    lines = [*greeting(draw)] if draw.random() < 0.5 else []
    for _ in range(count - 1):
        lines += exchange(draw)
    return talk(*lines, *draw.choice((thanks, leaving, telling))(draw))
