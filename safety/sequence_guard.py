"""Any sequence classifier in the layout of transformers, as a guard.

For models such as Prompt Guard, Granite Guardian HAP or a toxicity classifier: a folder with
safetensors weights, a tokenizer and a `config.json` whose labels are mapped to categories by
`labels`. Code that comes with a model is never run, and nothing is downloaded.

Long texts are judged in windows of the model's own length that overlap; the worst one counts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safety.base import GuardBroken, GuardMissing, Verdict
from safety.categories import CATEGORIES
from safety.together import MAX_BATCH, Run, Together, at_once

_OVERLAP = 32  # tokens
_MAX_WINDOWS = 64

_Scored = tuple[float, Mapping[str, float]]  # P(unsafe), and each category's own


@dataclass(frozen=True, slots=True)
class Labels:
    """What the labels of a model mean.

    `safe` are labels whose probability is that of harmless text. Any other label is unsafe;
    `categories` may name its category (its key, as in `categories.CATEGORIES`). A model with
    `several` gives each label a probability of its own (sigmoid) instead of shares (softmax).
    """

    safe: frozenset[str]
    categories: Mapping[str, str] = field(default_factory=dict)
    several: bool = False

    def check(self, found: Mapping[int, str]) -> None:
        """Raises `GuardBroken` if these labels do not fit those of the model."""
        names = set(found.values())
        if unknown := (self.safe | set(self.categories)) - names:
            raise GuardBroken(
                f"The model has no label {sorted(unknown)[0]!r}; it has {', '.join(sorted(names))}."
            )
        if self.safe & set(self.categories) or not names - self.safe:
            raise GuardBroken("A label cannot be safe and name a hazard; one must be unsafe.")
        if wrong := set(self.categories.values()) - set(CATEGORIES):
            raise GuardBroken(f"There is no category {sorted(wrong)[0]!r}.")
        if not self.several and not self.safe:
            raise GuardBroken("Say which label of the model means safe.")


class SequenceGuard:
    """A sequence classifier with its label map. Safe to call from several threads."""

    def __init__(
        self, model: Any, tokenizer: Any, labels: Labels, *, name: str, run: Run = at_once
    ) -> None:
        """`run` brings what torch computes to the device's own thread."""
        self.name = name
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._labels = labels
        self._names: Mapping[int, str] = model.config.id2label
        labels.check(self._names)
        self.version = str(getattr(model.config, "_commit_hash", None) or model.config.model_type)
        limit = int(getattr(model.config, "max_position_embeddings", 512))
        self._window = min(limit, int(getattr(tokenizer, "model_max_length", limit)), 512)
        # Only an encoder whose padding is known reads several texts in one pass.
        several = tokenizer.pad_token_id is not None and not model.config.is_decoder
        self._together: Together[list[int], _Scored] = Together(
            self._scored, run, most=MAX_BATCH if several else 1
        )

    @classmethod
    def load(
        cls, folder: Path, labels: Labels, *, name: str = "", run: Run = at_once
    ) -> SequenceGuard:
        """Read a model from a folder. Imports transformers. Raises `GuardError`."""
        if not (folder / "config.json").is_file():
            raise GuardMissing(f"There is no model in {folder}: config.json is missing.")
        if not list(folder.glob("*.safetensors")):
            raise GuardMissing(f"There are no safetensors weights in {folder}.")
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        options = {"local_files_only": True, "trust_remote_code": False}
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, **options)
            model = AutoModelForSequenceClassification.from_pretrained(
                folder, use_safetensors=True, **options
            )
        except Exception as error:  # transformers raises of all kinds for a broken folder
            raise GuardBroken(f"The model in {folder} cannot be read: {_short(error)}") from error
        return cls(model, tokenizer, labels, name=name or folder.name, run=run)

    def judge(self, prompt: str, reply: str | None = None) -> Verdict:
        """Judge the reply alone if there is one, else the prompt: these models read one text."""
        started = time.perf_counter()
        text = prompt if reply is None else reply
        score, scores = max(self._together.ask(self._windows(text)), key=lambda pair: pair[0])
        seconds = time.perf_counter() - started
        return Verdict(score, scores, self.name, self.version, seconds)

    def _windows(self, text: str) -> list[list[int]]:
        """Token ids of each window, special tokens included."""
        encoded = self._tokenizer(
            text,
            truncation=True,
            max_length=self._window,
            stride=min(_OVERLAP, self._window // 4),
            return_overflowing_tokens=True,
        )
        windows: list[list[int]] = encoded["input_ids"]
        if len(windows) > _MAX_WINDOWS:
            raise ValueError("the text is too long for this guard")
        return windows

    def _scored(self, batch: Sequence[list[int]]) -> list[_Scored]:
        """P(unsafe) and categories of windows, in one pass."""
        import torch

        longest = max(len(ids) for ids in batch)
        ids = torch.full((len(batch), longest), self._tokenizer.pad_token_id or 0)  # (B, T)
        mask = torch.zeros_like(ids)
        for row, some in enumerate(batch):
            ids[row, : len(some)] = torch.tensor(some)
            mask[row, : len(some)] = 1
        with torch.inference_mode():
            logits = self._model(input_ids=ids, attention_mask=mask).logits.float()  # (B, labels)
        chances = logits.sigmoid() if self._labels.several else logits.softmax(1)
        return [self._named(row) for row in chances.tolist()]

    def _named(self, chances: Sequence[float]) -> _Scored:
        named = {self._names[index]: value for index, value in enumerate(chances)}
        harm = {label: value for label, value in named.items() if label not in self._labels.safe}
        score = max(harm.values()) if self._labels.several else min(1.0, sum(harm.values()))
        scores: dict[str, float] = {}
        for label, category in self._labels.categories.items():
            scores[category] = min(score, scores.get(category, 0.0) + harm[label])
        return score, scores


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
