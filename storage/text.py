"""Text on its way into the database: what is kept as it is, and what search sees of it.

Content is kept byte for byte, NUL characters included. One thing cannot be: half of a surrogate
pair is no Unicode character and has no UTF-8 form. Two halves in a row are joined into the
character they mean; a half alone becomes U+FFFD, as browsers' `toWellFormed` does.
"""

from __future__ import annotations

import re

SPLIT = "\x1f"  # stands between Han characters in the search body, never elsewhere in it
MARK_START, MARK_END = "\x02", "\x03"

_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
# Han, its iteration marks and extensions, and kana: scripts written without spaces.
_HAN = re.compile(
    "[\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_MARKUP = re.compile(r"[#>*`_~\[\]|]+")
_DOCUMENT = re.compile('<document name="([^"<>]*)"[^<>]*>')  # how an attached file begins
_MAX_TITLE = 60


def well_formed(text: str) -> str:
    """`text` with surrogate halves joined or replaced; every other character untouched."""
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def search_body(text: str) -> str:
    """What the full-text index reads: control characters as spaces, Han characters apart.

    The index's tokenizer takes a run of letters as one word, which for Chinese is a whole
    sentence. With `SPLIT` around each Han character words of one, two or more characters are
    found as phrases. `unsplit` gives the readable text back.
    """
    flat = _CONTROLS.sub(" ", text)
    if flat.isascii():
        return flat
    return _HAN.sub(f"{SPLIT}\\g<0>{SPLIT}", flat).replace(SPLIT * 2, SPLIT)


def ends_in_han(text: str) -> bool:
    return bool(text) and bool(_HAN.match(text[-1]))


def title_from(prompt: str) -> str:
    """A title from the first words of a prompt: one line, no Markdown marks, about 60 columns.

    A prompt that is an attached file and nothing else has the name of that file.
    """
    for line in prompt.splitlines():
        line = _DOCUMENT.sub(r"\1", line)
        words = " ".join(_CONTROLS.sub(" ", _MARKUP.sub(" ", line)).split())
        if words:
            return _shorten(words)
    return ""


def _shorten(words: str) -> str:
    columns = 0
    for end, character in enumerate(words):
        columns += 2 if _HAN.match(character) else 1
        if columns > _MAX_TITLE:
            space = words.rfind(" ", end // 2, end + 1)
            return words[: space if space > 0 else end].rstrip() + "…"
    return words
