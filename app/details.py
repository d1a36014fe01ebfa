"""The details of errors in the language of the page.

An error says in English what happened, with its paths and numbers: so it stands in the log and in
the terminal. `assets/strings/*/details.json` hold these sentences with gaps, in every language:
what fills the gaps of the English one fills those of the translation. Nothing is guessed.
"""

from __future__ import annotations

import re
from functools import cache

from app.strings import FOLDER, PARAM, SOURCE_LANGUAGE, Strings, read_language

_MAX_CHARS = 4_000  # no sentence of ours is longer; the search for gaps stays quick


def translated(detail: str, strings: Strings) -> str:
    """`detail` in the language that is spoken; "" where it has no such sentence."""
    if not detail or strings.language == SOURCE_LANGUAGE:
        return detail
    for key, pattern in _patterns() if len(detail) <= _MAX_CHARS else ():
        if match := pattern.fullmatch(detail):
            # What fills a gap may itself be one of ours: why a file is damaged.
            gaps = {
                name: translated(text, strings) or text for name, text in match.groupdict().items()
            }
            return strings.say(key, **gaps)
    return ""


@cache
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    """The English sentences by key, those with the most words of their own first."""
    sentences = read_language(FOLDER / SOURCE_LANGUAGE)
    details = [(key, text) for key, text in sentences.items() if key.startswith("detail.")]
    details.sort(key=lambda row: -len(PARAM.sub("", row[1])))
    return [(key, re.compile(_pattern(text), re.DOTALL)) for key, text in details]


def _pattern(sentence: str) -> str:
    pieces = PARAM.split(sentence)  # words, gap, words, gap, ..., words
    words, gaps = pieces[::2], pieces[1::2]
    filled = "".join(re.escape(w) + f"(?P<{gap}>.+?)" for w, gap in zip(words, gaps, strict=False))
    return filled + re.escape(words[-1])
