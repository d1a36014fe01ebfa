"""From rows of text to training batches: encode once, draw by weight, pack without waste.

A packed row holds several texts end to end. Attention never crosses from one text to another
(`Batch.mask`), positions start again at each text, and the loss counts only what it should: in the
second phase nothing but the assistant's words and the token that ends its turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from training.sources import Row, Turn
from training.tokenizer import BEGIN, END, END_OF_TURN, HEADER_END, HEADER_START

# Attention costs by the square of a row's length, so short texts share short rows: a row of the
# given length takes texts up to the second number.
ROWS = ((256, 128), (512, 512))
# What a token is, for the loss: nothing to learn, somebody else's words, the assistant's words.
FRAME, CONTEXT, ASSISTANT = 0, 1, 2


@dataclass(frozen=True)
class Text:
    """One encoded text: ids, and for each id its part (FRAME, CONTEXT or ASSISTANT)."""

    ids: np.ndarray  # (T,) uint16
    parts: np.ndarray  # (T,) uint8

    def __len__(self) -> int:
        return len(self.ids)


class Encoder:
    """Turns rows into texts in the Llama 3 chat format."""

    def __init__(self, tokenizer: Tokenizer, context_length: int) -> None:
        self.tokenizer = tokenizer
        self.context_length = context_length
        self.special: dict[str, int] = {}
        for text in (BEGIN, END, HEADER_START, HEADER_END, END_OF_TURN):
            token = tokenizer.token_to_id(text)
            assert token is not None, text
            self.special[text] = token
        self.heads: dict[str, list[int]] = {}  # by role
        self.plain = Tokenizer.from_str(tokenizer.to_str())
        # Special-token strings inside a text are text: the plain copy never recognizes them.
        self.plain.encode_special_tokens = True

    def words(self, text: str) -> list[int]:
        """Plain ids of `text`."""
        ids: list[int] = self.plain.encode(text, add_special_tokens=False).ids
        return ids

    def turn(self, turn: Turn) -> tuple[list[int], list[int]]:
        """Ids and parts of one message: header, words, end of turn."""
        special = self.special
        head = self.heads.get(turn["role"])
        if head is None:
            head = [special[HEADER_START], *self.words(turn["role"]), special[HEADER_END]]
            head = self.heads[turn["role"]] = head + self.words("\n\n")
        body = [*self.words(turn["content"].strip()), special[END_OF_TURN]]
        part = ASSISTANT if turn["role"] == "assistant" else CONTEXT
        return head + body, [FRAME] * len(head) + [part] * len(body)

    def text(self, ids: list[int], parts: list[int]) -> Text:
        return Text(np.array(ids, np.uint16), np.array(parts, np.uint8))

    def conversation(self, turns: Sequence[Turn]) -> Text | None:
        """A whole conversation, cut after the last reply that fits; None if none does."""
        # The first token's part is free (nothing predicts it): it marks a text with a system line.
        first = CONTEXT if turns[0]["role"] == "system" else FRAME
        ids, parts = [self.special[BEGIN]], [first]
        whole = 0
        for turn in turns:
            turn_ids, turn_parts = self.turn(turn)
            if len(ids) + len(turn_ids) > self.context_length:
                break
            ids += turn_ids
            parts += turn_parts
            if turn["role"] == "assistant":
                whole = len(ids)
        return self.text(ids[:whole], parts[:whole]) if whole else None

    def prose(self, title: str, text: str) -> list[Text]:
        """A text without turns in pieces of at most half the context."""
        body = self.words(f"{title}\n\n{text}" if title else text) + [self.special[END]]
        step = self.context_length // 2 - 1
        pieces = [body[start : start + step] for start in range(0, len(body), step)]
        return [
            self.text([self.special[BEGIN], *piece], [FRAME] + [ASSISTANT] * len(piece))
            for piece in pieces
            if len(piece) > 16
        ]

    def encode(self, rows: Iterable[Row]) -> list[Text]:
        """Every row that fits, in order."""
        texts: list[Text] = []
        for row in rows:
            if turns := row.get("messages"):
                text = self.conversation(turns)
                texts += [text] if text is not None else []
            else:
                texts += self.prose(row.get("title", ""), row.get("text", ""))
        return texts


def save_texts(texts: Sequence[Text], path: Path) -> None:
    """Keep encoded texts as flat arrays with the ends of each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        ids=np.concatenate([text.ids for text in texts]),
        parts=np.concatenate([text.parts for text in texts]),
        ends=np.cumsum([len(text) for text in texts]),
    )


def load_texts(path: Path) -> list[Text]:
    """What `save_texts` kept."""
    with np.load(path) as kept:
        ids, parts, ends = kept["ids"], kept["parts"], kept["ends"]
    starts = np.concatenate(([0], ends[:-1]))
    return [Text(ids[a:b], parts[a:b]) for a, b in zip(starts, ends, strict=True)]


@dataclass(frozen=True)
class Batch:
    """B packed rows of T tokens. `weights` says how much each *next* token counts."""

    ids: Tensor  # (B, T) int64
    targets: Tensor  # (B, T) int64: the token after each
    weights: Tensor  # (B, T) float32
    positions: Tensor  # (B, T) int64, from 0 in each text
    texts: Tensor  # (B, T) int64: which text of the row; -1 is padding

    @property
    def mask(self) -> Tensor:
        """(B, 1, T, T), true where a token may look: itself and earlier ones of its own text."""
        same = self.texts[:, :, None] == self.texts[:, None, :]
        length = self.ids.shape[1]
        return (same & torch.ones(length, length, dtype=torch.bool).tril())[:, None]


def pack(rows: Sequence[Sequence[Text]], length: int, part_weights: Sequence[float]) -> Batch:
    """Lay each row's texts end to end. The last token of a text predicts nothing."""
    size = (len(rows), length)
    ids, targets = np.zeros(size, np.int64), np.zeros(size, np.int64)
    weights, positions = np.zeros(size, np.float32), np.zeros(size, np.int64)
    texts = np.full(size, -1, np.int64)
    by_part = np.array(part_weights, np.float32)
    for place, row in enumerate(rows):
        at = 0
        for number, text in enumerate(row):
            end = at + len(text)
            ids[place, at:end] = text.ids
            targets[place, at : end - 1] = text.ids[1:]
            weights[place, at : end - 1] = by_part[text.parts[1:]]
            positions[place, at:end] = np.arange(len(text))
            texts[place, at:end] = number
            at = end
    return Batch(*map(torch.from_numpy, (ids, targets, weights, positions, texts)))


class Packer:
    """Collects texts until there are enough rows of one length; the first with room takes each.

    Three times as many rows are kept open as a batch needs and the fullest leave first, so that
    rows are well filled.
    """

    def __init__(self, batch_tokens: int, context_length: int) -> None:
        self.batch_tokens = batch_tokens
        self.rows = (
            *(row for row in ROWS if row[0] < context_length),
            (context_length, context_length),
        )
        self.open: dict[int, list[list[Text]]] = {length: [] for length, _ in self.rows}

    def push(self, text: Text) -> tuple[list[list[Text]], int] | None:
        """Add one text; gives the fullest rows and their length once there are enough."""
        length = next(length for length, longest in self.rows if len(text) <= longest)
        rows = self.open[length]
        for row in rows:
            if sum(map(len, row)) + len(text) <= length:
                row.append(text)
                return None
        rows.append([text])
        wanted = max(1, self.batch_tokens // length)
        if len(rows) < 3 * wanted:
            return None
        rows.sort(key=lambda row: -sum(map(len, row)))
        self.open[length] = rows[wanted:]
        return rows[:wanted], length
