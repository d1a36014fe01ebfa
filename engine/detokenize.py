"""Token ids → text while they are made.

What comes out in pieces is exactly what `Tokenizer.decode` gives for all ids at once: characters
are held back until whole, the space that SentencePiece puts in front is dropped once, and no part
of a stop string is ever shown.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Protocol


class TokenBytes(Protocol):
    """What is needed of a tokenizer."""

    @property
    def drops_first_space(self) -> bool:
        """Whether the space before a text's first word is the tokenizer's own."""
        ...

    def token_bytes(self, id: int) -> bytes:
        """The bytes that a token adds to a text."""
        ...


class Detokenizer:
    """One reply's text. `push` each id, then `flush`; `stopped` says that a stop string came.

    `continues` says that the ids go on in text that is already there (a reply prefix, a raw
    prompt), so that a first space belongs to the text.
    """

    def __init__(
        self, tokenizer: TokenBytes, stop: Sequence[str] = (), *, continues: bool = False
    ) -> None:
        self._tokenizer = tokenizer
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")
        self._drops_space = tokenizer.drops_first_space and not continues
        self._stop = StopStrings(stop)

    @property
    def stopped(self) -> bool:
        """Whether a stop string was found. Nothing comes out any more."""
        return self._stop.stopped

    def push(self, id: int) -> str:
        """The text that is certain after one more token, often empty or several characters."""
        written = self._tokenizer.token_bytes(id)
        if self._drops_space and written:
            written = written.removeprefix(b" ")
            self._drops_space = False
        return self._stop.push(self._characters.decode(written))

    def flush(self) -> str:
        """The rest: what was held for a stop string, a cut character as U+FFFD."""
        text = self._stop.push(self._characters.decode(b"", final=True))
        return text + self._stop.flush()


class StopStrings:
    """Lets text through up to the first of some strings, holding back what may become one."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(stop)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """What of the text so far is certain to stand before any stop string."""
        if self.stopped:
            return ""
        if not self._stop:
            return text
        held = self._held + text
        found = [at for at in (held.find(stop) for stop in self._stop) if at >= 0]
        if found:
            self.stopped, self._held = True, ""
            return held[: min(found)]
        certain = len(held) - max(_overlap(held, stop) for stop in self._stop)
        self._held = held[certain:]
        return held[:certain]

    def flush(self) -> str:
        """What was held back and did not become a stop string."""
        text, self._held = self._held, ""
        return text


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a beginning of `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
