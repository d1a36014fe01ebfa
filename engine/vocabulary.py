"""What a tokenizer file holds, whatever its format: the bytes of each id, and how text is cut.

`tokenizer_json` and `tokenizer_model` read files into a `Vocabulary`; `tokenizer` makes the safe
public object of it. A *control* token is one that only our own code may write: markers of turns,
begin and end of text, padding. Files mark most of them, silent in text; `is_marker` also
catches those that fine-tuned models add as ordinary tokens although a template gives them meaning
(`<think>`): they stay visible when a model writes them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

_MARKER = re.compile(r"▁?(<[^<>\s]+>|<\|.+\|>|\[/?[A-Z_]+\]|<｜.+｜>)", re.DOTALL)
_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")


@dataclass(frozen=True)
class Vocabulary:
    """One tokenizer file, read.

    `pieces[id]` is the UTF-8 the token stands for, b"" for silent control tokens and unused ids.
    `encode(text, continues)` cuts plain text; `continues` leaves out the space that
    SentencePiece puts before a text that starts something new. `encode` may still find a control
    token in hostile text; `Tokenizer` sees to that. `drops_first_space` says that decoding takes
    that space away again.
    """

    pieces: Sequence[bytes]
    controls: Mapping[str, int]
    encode: Callable[[str, bool], list[int]]
    drops_first_space: bool
    unknown_id: int | None = None
    bos_id: int | None = None
    eos_id: int | None = None
    names: Mapping[str, int] = field(default_factory=dict)  # every piece as written in the file


def is_marker(piece: str) -> bool:
    """Whether an added token reads like the marker of a chat format, as `<|im_start|>` does."""
    return _MARKER.fullmatch(piece) is not None and byte_of(piece) is None


def byte_of(piece: str) -> bytes | None:
    """The byte that SentencePiece's fallback piece `<0x0A>` stands for, None for others."""
    match = _BYTE_PIECE.fullmatch(piece)
    return bytes([int(match[1], 16)]) if match else None


def byte_level_alphabet() -> dict[str, int]:
    """GPT-2's reversible map: each of 256 bytes as one printable character, the other way round.

    Printable Latin-1 stands for itself; the other bytes take U+0100 onwards in order
    (openai/gpt-2, `src/encoder.py`, `bytes_to_unicode`).
    """
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {chr(byte): byte for byte in own}
    others = (byte for byte in range(256) if byte not in set(own))
    alphabet.update({chr(0x100 + i): byte for i, byte in enumerate(others)})
    return alphabet
