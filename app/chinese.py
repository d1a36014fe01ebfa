"""Simplified and Traditional Chinese: an answer shown in the script that was asked for.

The answer is kept as the model wrote it, so that the model finds its own words again; only what is
shown is converted, by OpenCC's tables. Code is left as it is.
"""

from __future__ import annotations

import re
from functools import cache

import opencc

# OpenCC's configurations. Those that also exchange words for Taiwan's (s2twp) get some wrong: they
# make 支援 of every 支持.
_CONFIGURATIONS = {"zh-Hans": "t2s", "zh-Hant": "s2tw"}
# Fenced blocks (the last may be open while it is written), then code within a line.
_CODE = re.compile(
    r"^ {0,3}(?P<fence>`{3,}|~{3,})[^\n]*\n.*?(?:^ {0,3}(?P=fence)[`~]*[ \t]*$|\Z)"
    r"|(?P<ticks>`+)(?!`)[^\n]*?(?<!`)(?P=ticks)(?!`)",
    re.DOTALL | re.MULTILINE,
)


def converted(text: str, language: str) -> str:
    """`text` in the script of `language`; as it is where that is no Chinese."""
    if language not in _CONFIGURATIONS or text.isascii():
        return text
    convert = _converter(language).convert
    pieces, end = [], 0
    for code in _CODE.finditer(text):
        pieces += [convert(text[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*pieces, convert(text[end:])])


@cache
def _converter(language: str) -> opencc.OpenCC:
    return opencc.OpenCC(_CONFIGURATIONS[language])
