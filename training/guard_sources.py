"""Where the guard's rows come from.

Three kinds: the labelled set under `safety/` of the data folder (its README names every source and
licence), everyday conversation and prose from the data folder taken as harmless (some of it under
share-alike licences, so the weights are published under CC BY-SA 4.0), and the contrast texts
written for Corral, in `training/contrast/`.
"""

from __future__ import annotations

import json
import lzma
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from safety.categories import TAXONOMIES
from training.guard_contrast import contrast_rows
from training.guard_rows import Row, balanced

_KEYS = TAXONOMIES["llama-guard-3"]

_EVERYDAY = {
    "dolly-nocontext": 3665, "dolly-open-qa": 3450, "open-trivia-qa": 1500, "wordset": 1500,
    "open-english-wordnet": 700, "xquad-en": 500, "xquad-zh": 600, "cmrc2018": 400,
    "personality-chat": 1200, "chatterbot-corpus": 300, "world-factbook": 500,
    "gpteacher-roleplay": 1200, "llms-from-scratch": 800, "based-cooking": 400,
    "self-instruct-user": 225, "self-instruct-seed": 155, "oasst1-en": 190, "oasst-seed": 143,
    "fairytaleqa": 900, "gen-topics": 1200, "gen-memory": 300, "gen-arithmetic": 250,
    "gen-skills": 500, "gen-lists": 300, "gen-rewrite": 500, "gen-messages": 400,
    "personality-chat-zh": 1500, "gen-topics-zh": 1000, "gen-arithmetic-zh": 200,
    "gen-memory-zh": 200, "chatterbot-corpus-zh": 163, "kdconv": 900, "crosswoz": 800,
}  # fmt: skip
_EVERYDAY_FILES = (
    "chitchat", "facts", "instruct", "reading", "skills", "topics", "memory", "arithmetic",
    "zh_chitchat", "zh_dialogue", "zh_reading", "definitions",
)  # fmt: skip
_PROSE_FILES = ("textbooks", "textbooks_earlier", "guides", "children", "encyclopedia")


def rows_from(data: Path | None, seed: int) -> list[Row]:
    """All rows, balanced; without a data folder the contrast texts alone."""
    rng = random.Random(seed)
    rows = list(contrast_rows(rng))
    if data:
        rows += labelled(data / "safety" / "train.jsonl.xz")
        rows += everyday(data, rng)
    return balanced(rows)


def labelled(path: Path) -> Iterator[Row]:
    """The rows of a file in the layout of the labelled set."""
    for fields in _json_lines(path):
        yield Row(
            fields["text"],
            int(fields["unsafe"]),
            fields["source"],
            fields.get("prompt", ""),
            fields["role"] == "response",
            tuple(_KEYS[code] for code in fields["categories"]),
        )


def everyday(data: Path, rng: random.Random) -> Iterator[Row]:
    """Harmless prompts and replies from the chat texts, and passages of books as replies."""
    taken: Counter[str] = Counter()
    for name in _EVERYDAY_FILES:
        rows = list(_json_lines(data / "chat" / f"{name}.jsonl.xz"))
        rng.shuffle(rows)
        for row in rows:
            source = row["source"]
            if taken[source] < _EVERYDAY.get(source, 0):
                taken[source] += 1
                yield from _conversation(row["messages"], "_zh" if name.startswith("zh") else "")
    for name in _PROSE_FILES:
        rows = list(_json_lines(data / "prose" / f"{name}.jsonl.xz"))
        rng.shuffle(rows)
        for row in rows[:900]:
            start = rng.randrange(max(1, len(row["text"]) - 900))
            passage = row["text"][start : start + rng.randrange(200, 1200)]
            asked = f"Tell me about {row['title']}." if row.get("title") else ""
            yield Row(passage, 0, "prose", asked, is_reply=True)


def _conversation(messages: Sequence[dict[str, str]], suffix: str) -> Iterator[Row]:
    asked = ""
    for message in messages[-4:]:
        if message["role"] == "user":
            asked = message["content"]
            question = asked.rsplit("\n\n", 1)[-1]  # of a passage with a question, the question
            yield Row(question, 0, f"everyday{suffix}")
        elif message["role"] == "assistant" and asked:
            yield Row(message["content"], 0, f"everyday{suffix}", asked, is_reply=True)


def _json_lines(path: Path) -> Iterator[Any]:
    opener = lzma.open if path.suffix == ".xz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
