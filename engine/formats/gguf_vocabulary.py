"""The tokenizer inside a GGUF file → `Vocabulary`.

A file of the kind "llama" holds SentencePiece's pieces and scores: they are put back into the
library's own model format, so that it cuts text as it did for the original file. One of the kind
"gpt2" holds byte-level BPE; by which expression text is split first is told by a name only, and the
expressions are those of llama.cpp `src/llama-vocab.cpp`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from engine.errors import CheckpointBroken, ModelUnsupported
from engine.formats.gguf import GgufFile
from engine.tokenizer_json import Json, vocabulary_of
from engine.tokenizer_model import LLAMA3_PATTERN, read_sentencepiece
from engine.vocabulary import Vocabulary

_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4

_GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_QWEN2_PATTERN = LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")
_PATTERNS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("llama-bpe", "llama3", "llama-v3", "smaug-bpe", "falcon3", "pixtral"), (LLAMA3_PATTERN,)
    ),
    **dict.fromkeys(("gpt-2", "default", ""), (_GPT2_PATTERN,)),
    **dict.fromkeys(("smollm", "starcoder", "refact"), (r"\p{N}", _GPT2_PATTERN)),
    "qwen2": (_QWEN2_PATTERN,),
}
_WHOLE_WORDS_FIRST = frozenset({"llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"})


def vocabulary_from(file: GgufFile) -> Vocabulary:
    """Read the tokenizer of `file`. Raises `CheckpointBroken`, `ModelUnsupported`."""
    kind = file.metadata.get("tokenizer.ggml.model")
    read = {"llama": _sentencepiece, "gpt2": _byte_level}.get(kind) if kind else None
    if read is None:
        raise ModelUnsupported(
            f"The tokenizer in {file.path.name} is of the kind {kind!r}; Corral reads those of "
            'Llama models, "llama" and "gpt2".'
        )
    try:
        return read(file)
    except (ValueError, IndexError, RuntimeError, TypeError, KeyError, struct.error) as error:
        raise CheckpointBroken(
            f"The tokenizer in {file.path} is damaged ({error}): download the file again."
        ) from error


def special_ids(metadata: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """The ids of BOS and EOS; the BOS is None where the file says that none is to be written."""
    bos = metadata.get("tokenizer.ggml.bos_token_id")
    eos = metadata.get("tokenizer.ggml.eos_token_id")
    if metadata.get("tokenizer.ggml.add_bos_token") is False:
        bos = None
    return (bos if type(bos) is int else None), (eos if type(eos) is int else None)


def _lists(file: GgufFile) -> tuple[list[str], list[int]]:
    """Pieces and their types, as many of the one as of the other."""
    tokens = file.metadata.get("tokenizer.ggml.tokens")
    kinds = file.metadata.get("tokenizer.ggml.token_type")
    if not isinstance(tokens, list) or not tokens or not all(type(t) is str for t in tokens):
        raise ValueError("it lists no tokens")
    if kinds is None:
        kinds = [_NORMAL] * len(tokens)
    if not isinstance(kinds, list) or len(kinds) != len(tokens):
        raise ValueError("tokens and their types are not equally many")
    return tokens, [int(kind) for kind in kinds]


def _sentencepiece(file: GgufFile) -> Vocabulary:
    tokens, kinds = _lists(file)
    scores = file.metadata.get("tokenizer.ggml.scores")
    if not isinstance(scores, list) or len(scores) != len(tokens):
        raise ValueError("tokens and their scores are not equally many")
    puts_space = file.metadata.get("tokenizer.ggml.add_space_prefix", True) is not False
    return read_sentencepiece(_model_proto(tokens, scores, kinds, puts_space=puts_space))


def _model_proto(
    tokens: Sequence[str], scores: Sequence[float], kinds: Sequence[int], *, puts_space: bool
) -> bytes:
    """A serialized `ModelProto` (sentencepiece_model.proto): BPE, byte fallback, no normalizing."""
    parts = []
    for token, score, kind in zip(tokens, scores, kinds, strict=True):
        piece = _field(1, token.encode()) + struct.pack("<Bf", 2 << 3 | 5, score)
        parts.append(_field(1, piece + _number(3, kind)))
    trainer = _number(3, 2) + _number(35, 1)  # model_type = BPE, byte_fallback
    normalizer = _field(1, b"identity") + _number(3, puts_space) + _number(4, 0) + _number(5, 1)
    return b"".join(parts) + _field(2, trainer) + _field(3, normalizer)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(int(value))


def _varint(value: int) -> bytes:
    if value < 0:
        raise ValueError("a negative number stands where none can be")
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def _byte_level(file: GgufFile) -> Vocabulary:
    tokens, kinds = _lists(file)
    name = str(file.metadata.get("tokenizer.ggml.pre", ""))
    patterns = _PATTERNS.get(name)
    if patterns is None:
        raise ModelUnsupported(
            f"{file.path.name} splits text in the way {name!r}, which Corral does not know; get "
            "this model's safetensors."
        )
    merges = file.metadata.get("tokenizer.ggml.merges", [])
    if not isinstance(merges, list) or not all(type(merge) is str for merge in merges):
        raise ValueError("it lists no merges")
    steps: list[Json] = [
        {"type": "Split", "pattern": {"Regex": each}, "behavior": "Isolated", "invert": False}
        for each in patterns
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    steps.append({**byte_level, "use_regex": False})
    added = [
        {"id": id, "content": token, "special": kind == _CONTROL, "normalized": False,
         "single_word": False, "lstrip": False, "rstrip": False}
        for id, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in (_CONTROL, _USER_DEFINED)
    ]  # fmt: skip
    beside = {token["content"] for token in added}
    return vocabulary_of(
        {
            "version": "1.0",
            "added_tokens": added,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
            "decoder": {**byte_level, "use_regex": True},
            "model": {
                "type": "BPE",
                "vocab": {t: id for id, t in enumerate(tokens) if t not in beside},
                "merges": merges,
                "ignore_merges": name in _WHOLE_WORDS_FIRST,
            },
        },
        file.path,
    )
