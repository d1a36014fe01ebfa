"""Contrast texts written for the guard: look-alikes that are harmless, and their harmful twins.

`training/contrast/` holds acts (verb phrases), frames that ask about an act, wrappers that dress a
question up, whole sentences, replies, and everyday topics. Frames and wrappers carry harmful and
harmless acts alike, so that only the act can tell them apart. `{a|b}` in a line is a choice, and
may nest.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from safety.categories import TAXONOMIES
from training.guard_rows import Row

FOLDER = Path(__file__).parent / "contrast"
_KEYS = TAXONOMIES["llama-guard-3"]
_CHOICE = re.compile(r"\{([^{}]*\|[^{}]*)\}")  # an innermost choice


@dataclass(frozen=True)
class Act:
    """Something that somebody may want to do. `categories` are empty for a harmless act."""

    text: str
    categories: tuple[str, ...]

    @property
    def unsafe(self) -> int:
        """1 for a harmful act."""
        return int(bool(self.categories))


def sections(name: str) -> Iterator[tuple[list[str], str]]:
    """(words of the heading above it, line) for every line of a file."""
    heading: list[str] = []
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            heading = line[3:].split()
        elif line.strip() and not line.startswith("# "):
            yield heading, line.strip()


def expanded(line: str, rng: random.Random) -> str:
    """`line` with every choice taken at random."""
    while match := _CHOICE.search(line):
        line = line[: match.start()] + rng.choice(match[1].split("|")) + line[match.end() :]
    return re.sub(r" +([,.?!]|$)", r"\1", re.sub(r"  +", " ", line)).strip()


def acts(name: str, rng: random.Random, *, most: int) -> list[Act]:
    """Different expansions of every act in a file, at most `most` a line."""
    found: dict[str, Act] = {}
    for heading, line in sections(name):
        codes = [word for word in heading if word in _KEYS]
        for _ in range(most):
            text = expanded(line, rng)
            found[text] = Act(text, tuple(_KEYS[code] for code in codes))
    return list(found.values())


def contrast_rows(rng: random.Random) -> Iterator[Row]:
    """Every contrast text: questions, wrapped questions, sentences and replies."""
    english = acts("harmful_acts.txt", rng, most=12) + acts("harmless_acts.txt", rng, most=14)
    chinese = acts("acts_zh.txt", rng, most=40)
    yield from _asked(english, "frames.txt", "wrappers.txt", rng)
    yield from _asked(chinese, "frames_zh.txt", "wrappers_zh.txt", rng)
    yield from _sentences(rng)
    yield from _topics(rng)
    yield from _replies(english, "frames.txt", "en", rng)
    yield from _replies(chinese, "frames_zh.txt", "zh", rng)


def _asked(found: list[Act], frames: str, wrappers: str, rng: random.Random) -> Iterator[Row]:
    asking = [line for _, line in sections(frames)]
    dressing = [line for _, line in sections(wrappers)]
    for act in found:
        for frame in rng.sample(asking, 3):
            question = frame.replace("{act}", act.text)
            yield _row(question, act)
            if rng.random() < 0.25:
                yield _row(rng.choice(dressing).replace("{ask}", question), act)


def _sentences(rng: random.Random) -> Iterator[Row]:
    for heading, line in sections("sentences.txt"):
        categories = tuple(_KEYS[word] for word in heading if word in _KEYS)
        for text in dict.fromkeys(expanded(line, rng) for _ in range(30)):
            yield Row(text, int(heading[0] == "unsafe"), "contrast", categories=categories)


def _topics(rng: random.Random) -> Iterator[Row]:
    """Harmless questions about everyday things: every word of a section in four of its frames."""
    frames: dict[str, list[str]] = {}
    for heading, line in sections("topics.txt"):
        section = " ".join(heading)
        if line.startswith("> "):
            frames.setdefault(section, []).append(line[2:])
            continue
        for word in line.split(", "):
            for frame in rng.sample(frames[section], 5):
                text = expanded(frame.replace("{n}", word), rng)
                yield Row(text[0].upper() + text[1:], 0, "topics")


def _replies(found: list[Act], frames: str, language: str, rng: random.Random) -> Iterator[Row]:
    asking = [line for _, line in sections(frames)]
    lines = [(h[0], line) for h, line in sections("replies.txt") if h[1] == language]
    refusals = [line for kind, line in lines if kind == "refuse"]
    compliance = [line for kind, line in lines if kind == "comply"]
    for act in found:
        question = rng.choice(asking).replace("{act}", act.text)
        if rng.random() < 0.5:
            yield _row(rng.choice(compliance).replace("{act}", act.text), act, question)
        if act.unsafe and rng.random() < 0.5:
            text = rng.choice(refusals).replace("{act}", act.text)
            yield Row(text, 0, "contrast", question, is_reply=True)


def _row(text: str, act: Act, question: str | None = None) -> Row:
    return Row(
        text,
        act.unsafe,
        "contrast",
        question or "",
        is_reply=question is not None,
        categories=act.categories,
    )
