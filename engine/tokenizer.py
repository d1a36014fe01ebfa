"""Text ⇄ token ids for one checkpoint.

`encode` takes text that somebody typed: whatever it spells, it gives no control token. Only
`chat_format`, which knows the markers' ids, writes those; `encode_marked` reads markers in text
that is ours (policies of guards, recorded prompts).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.errors import CheckpointBroken, CheckpointMissing
from engine.json_values import refuse_huge
from engine.tokenizer_json import read_tokenizer_json
from engine.tokenizer_model import read_tokenizer_model
from engine.vocabulary import Vocabulary, is_marker

_PROBE = "a b  c\n 1 + 2 = 3"


class Tokenizer:
    """Cuts text into ids and joins ids to text; the same object may serve several threads."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        bos_id: int | None = None,
        eos_id: int | None = None,
        added: Mapping[str, int] | None = None,
    ) -> None:
        """`added` are tokens that stand beside the vocabulary's file (`added_tokens.json`)."""
        controls = dict(vocabulary.controls)
        pieces = list(vocabulary.pieces)
        for text, id in (added or {}).items():
            pieces.extend([b""] * (id + 1 - len(pieces)))
            if text not in vocabulary.names or text in controls:
                controls[text] = id
        self._vocabulary = vocabulary
        self._controls = controls
        self._pieces = pieces
        self._encode = vocabulary.encode
        self.bos_id = vocabulary.bos_id if bos_id is None else bos_id
        self.eos_id = vocabulary.eos_id if eos_id is None else eos_id
        self.special_ids = frozenset(controls.values())
        self._forbidden = self.special_ids - {vocabulary.unknown_id}
        longest_first = sorted(controls, key=len, reverse=True)
        self._markers = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    @property
    def vocab_size(self) -> int:
        """One more than the highest id. The model's own table of embeddings may be longer."""
        return len(self._pieces)

    @property
    def drops_first_space(self) -> bool:
        """Whether decoding drops the space that encoding puts before a text (SentencePiece)."""
        return self._vocabulary.drops_first_space

    @property
    def markers(self) -> re.Pattern[str]:
        """Finds control tokens that are spelled in a text, the longest first."""
        return self._markers

    def special_id(self, text: str) -> int | None:
        """The id of the control token written `text`, None if there is none."""
        return self._controls.get(text)

    def special_text(self, id: int) -> str:
        """How the control token `id` is written, "" for others."""
        return next((text for text, other in self._controls.items() if other == id), "")

    def encode(self, text: str, *, continues: bool = False) -> list[int]:
        """Ids of plain text, without BOS; never a control token.

        `continues` says that the text goes on where other text ended, so that SentencePiece puts
        no space in front. Lone surrogates, which are no text, become U+FFFD.
        """
        if not text:
            return []
        text = _mended(text)
        ids = self._encode(text, continues)
        return ids if self._forbidden.isdisjoint(ids) else self._encode_apart(text, continues)

    def _encode_apart(self, text: str, continues: bool) -> list[int]:
        """Markers that the vocabulary itself finds in text are cut after their first character."""
        cuts = [match.start() + 1 for match in self._markers.finditer(text)]
        ids: list[int] = []
        for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
            if start < end:
                ids += self._encode(text[start:end], continues or start > 0)
        if self._forbidden.isdisjoint(ids):
            return ids
        letters = (self._encode(letter, continues or i > 0) for i, letter in enumerate(text))
        return [id for letter in letters for id in letter if id not in self._forbidden]

    def encode_marked(self, text: str) -> list[int]:
        """Ids of text in which control tokens are spelled out. Never give it what a user wrote."""
        return self.encode_mixed([(text, True)])

    def encode_mixed(self, parts: Iterable[tuple[str, bool]]) -> list[int]:
        """Ids of parts as one text; control tokens are parsed in those that come with True."""
        ids: list[int] = []
        plain = ""
        for text, marked in parts:
            end = 0
            for match in self._markers.finditer(text) if marked else ():
                ids += self.encode(plain + text[end : match.start()])
                ids.append(self._controls[match[0]])
                plain, end = "", match.end()
            plain += text[end:]
        return ids + self.encode(plain)

    def token_bytes(self, id: int) -> bytes:
        """The bytes that a token adds to a text; b"" for silent tokens and ids that do not exist.

        Silent are the control tokens that the file marks as such.
        """
        return self._pieces[id] if 0 <= id < len(self._pieces) else b""

    def decode(self, ids: Iterable[int], *, continues: bool = False) -> str:
        """The text of `ids`, silent tokens left out; bytes that are no UTF-8 become U+FFFD."""
        joined = b"".join(map(self.token_bytes, ids))
        if self.drops_first_space and not continues:
            joined = joined.removeprefix(b" ")
        return joined.decode("utf-8", "replace")


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a checkpoint folder or GGUF file.

    In a folder it is `tokenizer.json`, else `tokenizer.model`. Raises `CheckpointMissing`,
    `CheckpointBroken` or `ModelUnsupported`.
    """
    if folder.is_file():
        return _from_gguf(folder)
    if (folder / "tokenizer.json").is_file():
        vocabulary = read_tokenizer_json(folder / "tokenizer.json")
    elif (folder / "tokenizer.model").is_file():
        vocabulary = read_tokenizer_model(folder / "tokenizer.model")
    else:
        raise CheckpointMissing(
            f"{folder} has no tokenizer.json and no tokenizer.model; copy the one that belongs "
            "to these weights there."
        )
    config = read_json(folder / "tokenizer_config.json")
    added = _added_tokens(folder, config, vocabulary)
    known = {**vocabulary.names, **vocabulary.controls, **added}
    tokenizer = Tokenizer(
        vocabulary,
        added=added,
        bos_id=_named(folder, config, "bos", known),
        eos_id=_named(folder, config, "eos", known),
    )
    _check_round_trip(tokenizer, vocabulary, folder)
    return tokenizer


def _from_gguf(path: Path) -> Tokenizer:
    from engine.formats.gguf import read_gguf  # only here, because it brings torch
    from engine.formats.gguf_vocabulary import special_ids, vocabulary_from

    file = read_gguf(path)
    vocabulary = vocabulary_from(file)
    bos, eos = special_ids(file.metadata)
    known = range(len(vocabulary.pieces))
    if any(id is not None and id not in known for id in (bos, eos)):
        raise CheckpointBroken(f"The begin or end token of {path} is none of its tokens.")
    tokenizer = Tokenizer(replace(vocabulary, bos_id=bos, eos_id=eos))
    _check_round_trip(tokenizer, vocabulary, path)
    return tokenizer


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, empty where there is no such file. Raises `CheckpointBroken`."""
    if not path.is_file():
        return {}
    refuse_huge(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointBroken(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointBroken(f"{path} holds no JSON object.")
    return content


def _added_tokens(
    folder: Path, config: Mapping[str, Any], vocabulary: Vocabulary
) -> dict[str, int]:
    """Tokens of `added_tokens.json` and `added_tokens_decoder` that the vocabulary lacks."""
    beside: dict[str, int] = {}
    try:
        for text, id in read_json(folder / "added_tokens.json").items():
            beside[text] = int(id)
        for id, token in (config.get("added_tokens_decoder") or {}).items():
            beside[str(token["content"])] = int(id)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointBroken(f"The added tokens of {folder} cannot be read: {error!r}") from error
    if any(not 0 <= id < 1 << 24 for id in beside.values()):
        raise CheckpointBroken(f"The added tokens of {folder} have ids out of range.")
    return {
        text: id
        for text, id in beside.items()
        if text not in vocabulary.names or (is_marker(text) and vocabulary.names[text] == id)
    }


def _named(
    folder: Path, config: Mapping[str, Any], which: str, known: Mapping[str, int]
) -> int | None:
    """The id of `bos_token` or `eos_token`, by the tokenizer's files, else by `config.json`."""
    for source in (config, read_json(folder / "special_tokens_map.json")):
        token = source.get(f"{which}_token")
        text = token.get("content") if isinstance(token, dict) else token
        if isinstance(text, str) and text in known:
            return known[text]
    ids = read_json(folder / "config.json").get(f"{which}_token_id")
    first = ids[0] if isinstance(ids, list) and ids else ids
    return first if isinstance(first, int) else None


def _check_round_trip(tokenizer: Tokenizer, vocabulary: Vocabulary, folder: Path) -> None:
    """A wrong decoder loses spaces: better said at load than read in every answer."""
    ids: Sequence[int] = tokenizer.encode(_PROBE)
    if vocabulary.unknown_id in ids:  # a vocabulary without byte fallback need not know the probe
        return
    if tokenizer.decode(ids).split() != _PROBE.split():
        raise CheckpointBroken(
            f"The tokenizer in {folder} does not give a text back as it was; its files do not "
            "fit together. Download the model again."
        )


def _mended(text: str) -> str:
    """`text` with surrogate pairs joined and lone ones replaced; nearly always `text` itself."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
