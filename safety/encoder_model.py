"""The encoder as the guard uses it: int8 weights from safetensors, waiting texts in one pass.

This module imports torch, so `classifier` imports it only for a guard that has an encoder. Errors
are `GuardMissing` and `GuardBroken`, like those of every guard's files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from safety.base import GuardBroken, GuardMissing
from safety.encoder import Encoder, EncoderConfig, Int8Linear
from safety.ngram_model import Scores
from safety.together import MAX_BATCH, Run, Together, at_once

MAX_PROMPT, MAX_TEXT = 32, 160  # tokens; a piece of 600 English characters has about 140
Tokens = tuple[list[int], list[int]]  # ids, and for each the segment it stands in


class EncoderModel:
    """Encoder and tokenizer. Safe to call from several threads; `run` brings it to the device."""

    def __init__(self, net: Encoder, tokenizer: Tokenizer, run: Run = at_once) -> None:
        self._net = net.eval()
        self._together: Together[Tokens, Scores] = Together(self._forward, run, most=MAX_BATCH)
        self._tokenizer = tokenizer
        self._cls = _special(tokenizer, "[CLS]")
        self._sep = _special(tokenizer, "[SEP]")

    @classmethod
    def load(
        cls, folder: Path, fields: Mapping[str, Any], *, num_categories: int, run: Run = at_once
    ) -> EncoderModel:
        """Read `encoder.safetensors` and `tokenizer.json`, strictly."""
        try:
            config = EncoderConfig(**{**fields, "num_categories": num_categories})
            net = Encoder(config, Int8Linear)
            net.load_state_dict(unpacked(load_file(folder / "encoder.safetensors")))
            text = (folder / "tokenizer.json").read_text(encoding="utf-8")
            return cls(net, Tokenizer.from_str(text), run)
        except FileNotFoundError as error:
            raise GuardMissing(
                f"A file of the guard in {folder} is missing; install Corral again."
            ) from error
        except Exception as error:  # tokenizers raises bare Exception for a bad file
            raise GuardBroken(
                f"The encoder in {folder} cannot be read; install Corral again."
            ) from error

    def score(self, texts: Sequence[str], asked: str, *, is_reply: bool) -> list[Scores]:
        """Judge pieces of text, maybe in one pass with those of others. Logits as numbers."""
        return self._together.ask([self.tokens(text, asked, is_reply=is_reply) for text in texts])

    def _forward(self, batch: Sequence[Tokens]) -> list[Scores]:
        """One pass over texts of any lengths: the shorter ones are padded."""
        lengths = [len(ids) for ids, _ in batch]
        ids = torch.zeros(len(batch), max(lengths), dtype=torch.long)  # (B, T)
        segments = torch.zeros_like(ids)
        for row, (some_ids, some_segments) in enumerate(batch):
            ids[row, : lengths[row]] = torch.tensor(some_ids)
            segments[row, : lengths[row]] = torch.tensor(some_segments)
        mask = None
        if min(lengths) < max(lengths):
            present = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]  # (B, T)
            mask = present[:, None, None, :]
        with torch.inference_mode():
            unsafe, categories, advice = self._net(ids, segments, mask)
        shares = np.asarray(categories.tolist(), np.float32)  # (B, C)
        return [
            Scores(float(unsafe[row]), float(advice[row]), shares[row]) for row in range(len(batch))
        ]

    def tokens(self, text: str, asked: str, *, is_reply: bool) -> Tokens:
        """`[CLS] text [SEP]`, or `[CLS] prompt [SEP] reply [SEP]` with 1 where the reply stands."""
        ids = [self._cls]
        if is_reply:
            ids += self._ids(asked)[-MAX_PROMPT:] + [self._sep]
        segments = [0] * len(ids)
        ids += self._ids(text)[:MAX_TEXT] + [self._sep]
        segments += [int(is_reply)] * (len(ids) - len(segments))
        return ids, segments

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def _special(tokenizer: Tokenizer, name: str) -> int:
    index = tokenizer.token_to_id(name)
    if index is None:
        raise ValueError(f"no {name} in the tokenizer")
    return index


def packed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """fp32 weights as they are shipped: int8 matrices with a scale per row, the rest fp16."""
    tensors = {}
    for name, value in state.items():
        if value.dim() == 2 and name.startswith(("layers.", "tokens.")):
            scale = value.abs().amax(1).clamp_min(1e-8) / 127
            tensors[name] = torch.round(value / scale[:, None]).to(torch.int8)
            tensors[f"{name.removesuffix('.weight')}.scale"] = scale
        else:
            tensors[name] = value.to(torch.float16)
    return tensors


def unpacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of an `Encoder` of `Int8Linear`: matrices stay int8, the word vectors do not."""
    state = {
        name: value if value.dtype == torch.int8 else value.float()
        for name, value in tensors.items()
    }
    scale = state.pop("tokens.scale")
    state["tokens.weight"] = state["tokens.weight"].float() * scale[:, None]
    if not all(
        torch.isfinite(value).all() for value in state.values() if value.is_floating_point()
    ):
        raise ValueError("values that are no numbers")
    return state
