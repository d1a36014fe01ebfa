"""The texts that the chat model learns from: where they lie, what is held out, how they are read.

Data files are not part of the repository; `training/README.md` says what they are. The dialogues
written for Corral itself are, in `training/texts/`.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

from training.battery import battery, names_told

TEXTS = Path(__file__).parent / "texts"
SYSTEM_LINES = Path(__file__).parent / "system_lines.txt"
SPEAKS_ENGLISH = "你好！我是 Corral 内置的小模型，只会说英语。请用英语和我聊天。"
HELD_OUT_IN = 100  # one row in this many is never trained on


class Turn(TypedDict):
    """One message of a training conversation."""

    role: str
    content: str


class Row(TypedDict):
    """One training text: a conversation, or (prose) a text without turns."""

    messages: NotRequired[list[Turn]]
    text: NotRequired[str]
    title: NotRequired[str]
    source: NotRequired[str]


@dataclass(frozen=True)
class Source:
    """One file of rows and how much of the training it is.

    `language` and `assistant` are shares of the tokens drawn in the two phases (parts of their
    sum); `chained` rows may be strung together to longer conversations.
    """

    name: str
    path: str
    language: float
    assistant: float
    chained: bool
    reason: str
    only: str = ""  # rows whose source or first question holds this
    without: str = "none"  # of this source

    def takes(self, row: Row) -> bool:
        """Whether a row of the file belongs to this source."""
        turns = row.get("messages", [])
        asked = next((turn["content"] for turn in turns if turn["role"] == "user"), "")
        origin = row.get("source", "")
        return origin != self.without and (self.only in origin or self.only in asked)

    @property
    def own(self) -> bool:
        """Whether the repository itself holds it."""
        return self.path.startswith(("made/", "texts/"))

    @property
    def prose(self) -> bool:
        return self.path.startswith("prose/")


SOURCES: tuple[Source, ...] = (
    Source("chitchat", "chat/chitchat.jsonl.xz", 10, 2, True, "much of it poses as another bot"),
    Source("topics", "chat/topics.jsonl.xz", 12, 8, True, "best answers of all; short and true"),
    Source("arithmetic", "chat/arithmetic.jsonl.xz", 3, 1, True, "small; made endless by `made`"),
    Source("memory", "chat/memory.jsonl.xz", 5, 4, False, "what was said earlier in the chat"),
    Source(
        "skills",
        "chat/skills.jsonl.xz",
        6,
        3,
        True,
        "spelling, calendar, rewriting",
        without="gen-lists",
    ),
    Source("reading", "chat/reading.jsonl.xz", 6, 1, False, "answers that stand in a passage"),
    Source("passages", "chat/reading.jsonl.xz", 0, 4, True, "its short part", "gen-reading"),
    Source("definitions", "chat/definitions.jsonl.xz", 6, 0.5, True, "many words, telegraphic"),
    Source(
        "facts", "chat/facts.jsonl.xz", 6, 0.5, True, "elements, countries; trivia is guesswork"
    ),
    Source("capitals", "chat/facts.jsonl.xz", 0, 2, True, "what people try first", "capital of"),
    Source("instruct", "chat/instruct.jsonl.xz", 6, 0.5, False, "human written, uneven"),
    Source("stories", "chat/stories.jsonl.xz", 8, 0.5, False, "long fluent text for children"),
    Source("dialogue", "chat/dialogue.jsonl.xz", 1, 0, False, "turn taking; claims a human life"),
    Source("children", "prose/children.jsonl.xz", 2, 0, False, "narrative English"),
    Source("encyclopedia", "prose/encyclopedia.jsonl.xz", 1, 0, False, "plain facts in prose"),
    Source("chinese", "chat/zh_chitchat.jsonl.xz", 0.5, 0.5, False, "prompts only: English please"),
    Source("own", "texts/corral", 8, 18, True, "what Corral and the model are; refusals"),
    Source("talk", "texts/talk", 8, 20, True, "everyday topics, poems, other languages"),
    Source("words", "texts/words", 5, 8, True, "common words, forms, capitals"),
    Source("sums", "made/sums", 3, 8, True, "adding and taking away up to twenty, by heart"),
    Source("comparing", "made/comparing", 2, 6, True, "which of two numbers or things"),
    Source("telling", "made/memory", 3, 24, True, "names and numbers told and asked for"),
    Source("everyday", "made/everyday", 3, 8, True, "feelings, news, thanks in all wordings"),
    Source("readings", "made/passages", 3, 34, True, "the answer stands in the passage"),
    Source("edits", "made/edits", 2, 16, True, "mending, tenses, spelling, kinds, calendar"),
    Source("beyond", "made/beyond", 1, 3, True, "what it says when it does not know"),
    Source("lists", "made/lists", 2, 8, True, "copying, and three of a kind"),
    Source("follow_ups", "made/follow_ups", 3, 30, True, "tell me more, why, and of France"),
    Source("looking_back", "made/looking_back", 3, 20, True, "what was said, the second one"),
    Source("answering", "made/answering_back", 3, 16, True, "the user answers its questions"),
    Source("languages", "made/languages", 2, 8, True, "foreign, and English that looks it"),
    Source("tales", "made/stories", 2, 6, False, "plots by heart, heroes afresh; no loops"),
)


def held_out(row: Row) -> bool:
    """Whether a row belongs to the part that is never trained on.

    Decided by the first thing the user says (of prose: the title and first words), so that one
    question with several answers or system lines falls on one side.
    """
    turns = row.get("messages")
    if turns:
        key = next(turn["content"] for turn in turns if turn["role"] == "user")
    else:
        key = row.get("title", "") + row.get("text", "")[:200]
    digest = hashlib.blake2b(" ".join(key.lower().split()).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % HELD_OUT_IN == 0


def _plainly(question: str) -> str:
    return " ".join(question.lower().split()).rstrip("?.! ")


def battery_questions() -> frozenset[str]:
    """What the evaluation asks: single questions, and of longer talks the turns joined.

    Drawn sums and told names are told apart by their values; see `names_told`.
    """
    return frozenset(
        "\n".join(map(_plainly, case.turns))
        for case in battery()
        if not case.system and not case.kind.startswith("memory")
    )


def asks_any(row: Row, questions: frozenset[str]) -> bool:
    """Whether somebody asks one of the questions, whatever capitals and marks are typed."""
    asked = [_plainly(t["content"]) for t in row.get("messages", []) if t["role"] == "user"]
    return any(
        "\n".join(asked[start : start + length]) in questions
        for length in (1, 2, 3)
        for start in range(len(asked) - length + 1)
    )


_NAMES = frozenset(names_told())


def tells_any_name(row: Row) -> bool:
    """Whether a name stands in the row that the evaluation tells the model and asks for."""
    return any(
        not _NAMES.isdisjoint(re.findall(r"\w+", turn["content"].lower()))
        for turn in row.get("messages", [])
    )


# What the small model is and what it can do, it says in its own words (texts/corral/corral.txt).
_OF_ITSELF = re.compile(
    r"\b(your name|you called|call you|who are you|what are you|who is this|about yourself|"
    r"(made|created|built|trained) you|your (maker|creator|boss|owner)|"
    r"you (an? )?(ai|bot|robot|human|person|computer|machine|real)\b|"
    r"where (do you live|are you)|how (are|were) you made|offline|internet for|"
    r"(can|do) you (see|hear|remember me|learn|speak|search)|what (can|can't) you do|"
    r"can you do\b|how old are you|your age|chatgpt|siri|alexa|cortana)",
    re.IGNORECASE,
)


_AS_ANOTHER = re.compile(
    r"\b(I'm|I am|I'm just|I am just) (a|an|only a|only an|just a|just an) (\w+ )?"
    r"(bot|robot|chatbot|computer|program|machine|assistant|ai|app|software|collection)\b|"
    r"\b(digital|artificial|moving parts|don't have a (real )?name|neural network|programmed)\b",
    re.IGNORECASE,
)


def speaks_of_itself(row: Row) -> bool:
    """Whether the assistant is asked about itself, or tells; borrowed answers would be lies."""
    return any(
        (_OF_ITSELF if turn["role"] == "user" else _AS_ANOTHER).search(turn["content"])
        for turn in row.get("messages", [])
        if len(turn["content"]) < 200  # long texts speak of other things
    )


def turned_away(rows: Iterable[Row]) -> Iterator[Row]:
    """Chinese prompts with the one answer that the small model can give in Chinese."""
    for row in rows:
        asked = next(turn for turn in row.get("messages", []) if turn["role"] == "user")
        yield {"messages": [asked, {"role": "assistant", "content": SPEAKS_ENGLISH}]}


def read_rows(path: Path) -> Iterator[Row]:
    """Rows of a `.jsonl` or `.jsonl.xz` file, in order."""
    if path.suffix == ".xz":
        with lzma.open(path, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)
    else:
        with path.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)
