"""One spelling for text that is judged, so that look-alike writing is judged alike.

Full-width and styled letters, invisible characters, letters torn apart by dots and stretched
words are the cheapest ways around a word list; they are undone here, before any guard reads.
The text that is shown is never touched.
"""

from __future__ import annotations

import re
import unicodedata

_SPACES = re.compile(r"\s+")
_STRETCHED = re.compile(r"([^\W\d_])\1{3,}")
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]"
)
_MARKS = re.compile("[\u0300-\u036f]+")
_SPACED_OUT = re.compile(r"\b(?:[a-z][ .\-_*]){3,}[a-z]\b")

# Cyrillic and Greek letters that look like Latin ones, where they stand between Latin letters.
_LOOKALIKES = str.maketrans("аеорсухіјѕԁһкмтвνοαρι", "aeopcyxijsdhkmtbvoapi")
_MIXED_WORD = re.compile(r"(?=\w*[a-z])(?=\w*[\u0370-\u03ff\u0400-\u052f])\w+")


def normalized(text: str) -> str:
    """`text` in NFKC, lower case, without invisible characters, white space runs as one space."""
    if text.isascii():
        text = text.lower()
    else:
        text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)).casefold()
        text = unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFD", text)))
        text = _MIXED_WORD.sub(lambda m: m[0].translate(_LOOKALIKES), text)
    text = _SPACES.sub(" ", text).strip()
    text = _SPACED_OUT.sub(lambda m: re.sub(r"[ .\-_*]", "", m[0]), text)
    return _STRETCHED.sub(r"\1\1", text)
