"""`tokenizer.model` → `Vocabulary`: SentencePiece or tiktoken ranks.

LLaMA 1, Llama 2 and Code Llama have the first, Llama 3 and later the second; the first line tells
which. The split pattern and the names of the special tokens of the second form are not in the file;
both are those of meta-llama/llama-models, `models/llama3/tokenizer.py` (names as of Llama 3.1,
which only gave names to places that were reserved in Llama 3).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, decoders, pre_tokenizers
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE

from engine.errors import CheckpointBroken
from engine.json_values import MAX_TOKENIZER_BYTES, refuse_huge
from engine.vocabulary import Vocabulary, byte_level_alphabet, byte_of, is_marker

_RANK_LINE = re.compile(rb"[A-Za-z0-9+/]+=* \d+\s*")
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3_NAMED = {
    0: "begin_of_text", 1: "end_of_text", 4: "finetune_right_pad_id", 6: "start_header_id",
    7: "end_header_id", 8: "eom_id", 9: "eot_id", 10: "python_tag",
}  # fmt: skip
_LLAMA3_NUM_SPECIAL = 256

# sentencepiece_model.proto: ModelProto.pieces = 1, .normalizer_spec = 3;
# SentencePiece.piece = 1, .type = 3; NormalizerSpec.add_dummy_prefix = 3
_UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 2, 3, 4, 6
# Code Llama's markers for filling gaps, which its file lists as ordinary pieces.
_INFILL = frozenset({"▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"})
_NO_DUMMY_PREFIX = bytes([3 << 3 | 2, 2, 3 << 3, 0])  # a repeated sub-message is merged


def read_tokenizer_model(path: Path) -> Vocabulary:
    """Read `path`. Raises `CheckpointBroken`."""
    refuse_huge(path, MAX_TOKENIZER_BYTES)
    content = path.read_bytes()
    try:
        if _RANK_LINE.fullmatch(content.split(b"\n", 1)[0]):
            return read_ranks(content)
        return read_sentencepiece(content)
    except (ValueError, IndexError, RuntimeError, UnicodeDecodeError) as error:
        raise CheckpointBroken(f"{path} is not a readable tokenizer file: {error}") from error


def read_sentencepiece(content: bytes) -> Vocabulary:
    """A serialized SentencePiece model. Raises `ValueError` or `RuntimeError` on broken ones."""
    from sentencepiece import SentencePieceProcessor

    entries = list(_sentencepiece_entries(content))
    if not entries:
        raise ValueError("it lists no pieces")
    start = SentencePieceProcessor(model_proto=content)
    middle = SentencePieceProcessor(model_proto=content + _NO_DUMMY_PREFIX)
    pieces: list[bytes] = []
    controls: dict[str, int] = {}
    unknown_id = None
    for id, (piece, kind) in enumerate(entries):
        written = byte_of(piece) if kind == _BYTE else piece.replace("▁", " ").encode()
        if kind == _UNKNOWN:
            unknown_id = id
        marker = piece in _INFILL or (kind == _USER_DEFINED and is_marker(piece))
        if kind in (_UNKNOWN, _CONTROL) or marker:
            controls[piece] = id
            written = written if kind == _USER_DEFINED else b""
        pieces.append(written or b"")

    def encode(text: str, continues: bool) -> list[int]:
        return list((middle if continues else start).encode(text))

    return Vocabulary(
        pieces=pieces,
        controls=controls,
        encode=encode,
        drops_first_space=start.encode("a") != middle.encode("a"),
        unknown_id=unknown_id,
        bos_id=start.bos_id() if start.bos_id() >= 0 else None,
        eos_id=start.eos_id() if start.eos_id() >= 0 else None,
        names={piece: id for id, (piece, _) in enumerate(entries)},
    )


def read_ranks(content: bytes, pattern: str = LLAMA3_PATTERN) -> Vocabulary:
    """Lines of "base64 rank", as tiktoken writes them. Raises `ValueError` on broken ones.

    tiktoken joins the neighbours whose union has the lowest rank. `tokenizers` joins pairs in a
    listed order, so every way to cut a token in two known parts is listed, by the token's rank.
    """
    ranks = _parse_ranks(content)
    letter = {byte: character for character, byte in byte_level_alphabet().items()}
    written = {token: "".join(letter[byte] for byte in token) for token in ranks}
    vocab = {written[token]: rank for token, rank in ranks.items()}
    merges: list[tuple[str, str]] = []
    for token in sorted(ranks, key=ranks.__getitem__):
        cuts = ((token[:i], token[i:]) for i in range(1, len(token)))
        known = [(a, b) for a, b in cuts if a in ranks and b in ranks]
        known.sort(key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
        merges.extend((written[a], written[b]) for a, b in known)
    backend = Backend(BPE(vocab, merges, ignore_merges=True))
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    backend.decoder = decoders.ByteLevel()
    first = len(ranks)
    controls = {name: first + i for i, name in enumerate(_llama3_specials())}
    pieces = [b""] * (first + _LLAMA3_NUM_SPECIAL)
    for token, rank in ranks.items():
        pieces[rank] = token
    return Vocabulary(
        pieces=pieces,
        controls=controls,
        encode=lambda text, _continues: list(backend.encode(text, add_special_tokens=False).ids),
        drops_first_space=False,
        bos_id=controls["<|begin_of_text|>"],
        eos_id=controls["<|end_of_text|>"],
        names=vocab | controls,
    )


def _parse_ranks(content: bytes) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for line in content.splitlines():
        if not line.strip():
            continue
        try:
            encoded, rank = line.split()
            ranks[base64.b64decode(encoded, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise ValueError(f"the line {line[:40]!r} is not a token and a rank") from error
    if sorted(ranks.values()) != list(range(len(ranks))) or any(
        bytes([byte]) not in ranks for byte in range(256)
    ):
        raise ValueError("ranks are missing or repeated")
    return ranks


def _llama3_specials() -> Iterator[str]:
    reserved = 0
    for place in range(_LLAMA3_NUM_SPECIAL):
        if place in _LLAMA3_NAMED:
            yield f"<|{_LLAMA3_NAMED[place]}|>"
        else:
            yield f"<|reserved_special_token_{reserved}|>"
            reserved += 1


def _sentencepiece_entries(content: bytes) -> Iterator[tuple[str, int]]:
    """(piece, type) of each entry; type 1 is an ordinary piece."""
    for number, value in _fields(content):
        if number == 1 and isinstance(value, bytes):
            entry = dict(_fields(value))
            piece, kind = entry.get(1, b""), entry.get(3, 1)
            if not isinstance(piece, bytes) or not isinstance(kind, int):
                raise ValueError("a piece has fields of the wrong type")
            yield piece.decode("utf-8"), kind


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of a protobuf message: wire types 0, 1, 2 and 5."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            integer, at = _varint(message, at)
            yield number, integer
            continue
        if wire == 2:
            length, at = _varint(message, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} is not known")
        if at + length > len(message):
            raise ValueError("it ends in the middle of a field")
        yield number, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("it ends in the middle of a number")
        byte = message[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
    raise ValueError("a number is too long")
