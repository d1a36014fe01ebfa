"""The part of a reply in which a reasoning model thinks: told apart from what it then answers.

Such models write `<think>…</think>` first; with many templates the prompt itself ends with the
opening mark, and only the closing one is in the reply. Nothing is taken out of what is stored, and
the guard judges all of it: this is how a reply is shown and copied.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_OPEN, _CLOSE = "<think>", "</think>"
# Alone on its line: an answer may well speak of the mark.
_ONLY_CLOSED = re.compile(r"^[ \t]*</think>[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Parts:
    """A reply in two. `open`: it still thinks."""

    thought: str
    answer: str
    open: bool = False


def split(text: str, *, growing: bool = False) -> Parts:
    """What of `text` is thought and what is answer. A `growing` one may end within a mark."""
    start = text.lstrip()
    if start.startswith(_OPEN):
        thought, closed, answer = start[len(_OPEN) :].partition(_CLOSE)
        return Parts(thought.strip(), answer.lstrip(), open=not closed)
    if growing and start and _OPEN.startswith(start):
        return Parts("", "", open=True)
    if _CLOSE in text and (mark := _ONLY_CLOSED.search(text)) and _OPEN not in text[: mark.start()]:
        return Parts(text[: mark.start()].strip(), text[mark.end() :].lstrip())
    return Parts("", text)
