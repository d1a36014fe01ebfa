"""`tokenizer.json` → `Vocabulary`, by the `tokenizers` library alone.

The file is the whole truth: class names in `tokenizer_config.json` are not looked at, because
they turn byte-level vocabularies into SentencePiece ones where they are wrong (spaces vanish).
Control tokens are taken out of the file before the library sees it, so that it cannot find them
in text.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from engine.errors import CheckpointBroken, ModelUnsupported
from engine.json_values import MAX_TOKENIZER_BYTES, refuse_huge
from engine.vocabulary import Vocabulary, byte_level_alphabet, byte_of, is_marker

Json = dict[str, Any]


def read_tokenizer_json(path: Path) -> Vocabulary:
    """Read `path`. Raises `CheckpointBroken` or `ModelUnsupported`."""
    try:
        refuse_huge(path, MAX_TOKENIZER_BYTES)
        file: Json = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointBroken(f"{path} is not a readable tokenizer file: {error}") from error
    return vocabulary_of(file, path)


def vocabulary_of(file: Json, path: Path) -> Vocabulary:
    """The vocabulary of a parsed file, which `path` is called in messages."""
    try:
        _check_kind(file, path)
        names = _names(file)
        added = {str(token["content"]): token for token in file.get("added_tokens") or ()}
        controls = {t: names[t] for t in added if added[t].get("special") or is_marker(t)}
        plain = _plain(file, controls)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointBroken(f"{path} is not a readable tokenizer file: {error}") from error
    backend = _backend(plain, path)
    puts_space = any(map(_puts_space, _parts({**file, "decoder": None})))

    def encode(text: str, continues: bool) -> list[int]:
        text = f" {text}" if puts_space and not continues else text
        return list(backend.encode(text, add_special_tokens=False).ids)

    read = _byte_level_piece if _is_byte_level(file) else _metaspace_piece
    pieces = [b""] * (max(names.values(), default=-1) + 1)
    for text, id in names.items():
        if text in added and not added[text].get("special"):
            pieces[id] = text.encode("utf-8", "replace")
        elif text not in controls:
            pieces[id] = read(text)
    return Vocabulary(
        pieces=pieces,
        controls=controls,
        encode=encode,
        drops_first_space=puts_space,
        unknown_id=names.get(file["model"].get("unk_token") or ""),
        names=names,
    )


def _check_kind(file: Json, path: Path) -> None:
    """Only BPE, over bytes or over SentencePiece's "▁" for spaces, is Llama's."""
    spaces = any("▁" in json.dumps(part, ensure_ascii=False) for part in _parts(file))
    if file["model"].get("type", "BPE") != "BPE" or not (_is_byte_level(file) or spaces):
        raise ModelUnsupported(
            f"{path} is neither a byte-level nor a SentencePiece BPE; Corral reads no other."
        )


def _is_byte_level(file: Json) -> bool:
    return any(part.get("type") == "ByteLevel" for part in _parts(file))


def _puts_space(part: Json) -> bool:
    """Whether this step puts a space before a text; we take it out and put the space ourselves.

    The library's Metaspace puts none before a text that begins with one, and so loses it again
    when decoding; SentencePiece, which it stands for, always puts one.
    """
    kind = part.get("type")
    if kind == "Metaspace":
        return bool(part.get("prepend_scheme", "always") != "never")
    return kind == "Prepend" or (kind == "ByteLevel" and bool(part.get("add_prefix_space")))


def _names(file: Json) -> dict[str, int]:
    """Every piece of the file, as it is written there, with its id."""
    names = {str(piece): int(id) for piece, id in file["model"]["vocab"].items()}
    for token in file.get("added_tokens") or ():
        names[str(token["content"])] = int(token["id"])
    if not names or not 0 <= min(names.values()) <= max(names.values()) < 1 << 24:
        raise ValueError("it has no tokens, or one with an id out of range")
    return names


def _parts(file: Json) -> Iterator[Json]:
    """The normalizers, pre-tokenizers and decoders, sequences opened."""
    waiting = [file.get(name) for name in ("normalizer", "pre_tokenizer", "decoder")]
    while waiting:
        part = waiting.pop()
        if not isinstance(part, dict):
            continue
        yield part
        for name in ("normalizers", "pretokenizers", "decoders"):
            waiting.extend(part.get(name) or ())


def _plain(file: Json, controls: Mapping[str, int]) -> Json:
    """`file` without control tokens and without a space put in front.

    The model's own vocabulary loses the control tokens too, and gains the other added tokens,
    because the library gives added tokens new ids where the model does not know them.
    """
    plain = copy.deepcopy({name: part for name, part in file.items() if name != "model"})
    others = [t for t in plain.get("added_tokens") or () if t["content"] not in controls]
    plain.update(added_tokens=others, post_processor=None, truncation=None, padding=None)
    for place in ("normalizer", "pre_tokenizer"):
        if (part := plain.get(place)) is not None:
            plain[place] = _without_space(part)
    model = plain["model"] = dict(file["model"])
    inside = controls.keys() - {model.get("unk_token")}
    model["vocab"] = {piece: id for piece, id in model["vocab"].items() if piece not in inside}
    model["vocab"].update({token["content"]: token["id"] for token in others})
    model["merges"] = [pair for pair in model.get("merges") or () if not _touches(pair, inside)]
    return plain


def _touches(pair: str | list[str], inside: Set[str]) -> bool:
    left, right = pair.split(" ") if isinstance(pair, str) else pair
    return left in inside or right in inside or left + right in inside


def _without_space(part: Json) -> Json:
    """A normalizer or pre-tokenizer that puts no space before a text."""
    for name in ("normalizers", "pretokenizers"):
        if name in part:
            steps = [s for s in part[name] if s.get("type") != "Prepend"]
            part[name] = [_without_space(step) for step in steps]
    if part.get("type") == "Prepend":
        return {"type": "Sequence", "normalizers": []}
    if part.get("type") == "Metaspace":
        part["prepend_scheme"] = "never"
        part.pop("add_prefix_space", None)
    if part.get("type") == "ByteLevel":
        part["add_prefix_space"] = False
    return part


def _backend(file: Json, path: Path) -> Backend:
    try:
        return Backend.from_str(json.dumps(file, ensure_ascii=False))
    except Exception as error:  # the library raises bare Exception for whatever it dislikes
        raise CheckpointBroken(f"{path} is not a readable tokenizer file: {error}") from error


_ALPHABET = byte_level_alphabet()


def _byte_level_piece(text: str) -> bytes:
    try:
        return bytes(_ALPHABET[character] for character in text)
    except KeyError:  # a piece that is not written in the byte alphabet stands for itself
        return text.encode("utf-8", "replace")


def _metaspace_piece(text: str) -> bytes:
    return byte_of(text) or text.replace("▁", " ").encode("utf-8", "replace")
