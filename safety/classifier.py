"""The bundled guard: n-grams know words; for English prompts an encoder reads meaning.

Their logits are mixed with weights fitted on held-out rows, one set for each kind of text (English
or Chinese, prompt or reply), so that a score of 0.8 means that about 80 % of such texts are unsafe.
Without an encoder in its folder the guard is the n-grams alone, and needs numpy only.

Long texts are judged in windows that overlap; the worst window counts. Windows of a growing reply
begin at fixed places, so all but the last are remembered, and the cost stays linear in its length.

The folder holds `config.json`, `ngrams.safetensors` and maybe `encoder.safetensors` with
`tokenizer.json`; `training/guard.py` makes them.
"""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from safety.base import Guard, GuardBroken, GuardMissing, Verdict
from safety.categories import CATEGORIES, HAZARDS
from safety.ngram_model import NgramConfig, NgramModel, Scores
from safety.together import Run, at_once

FORMAT = 2
_PIECE = 600  # characters that the encoder reads at once; a window is two pieces
_ASKED = 1200  # characters of the prompt, from its end, that a reply is judged with
_CHINESE = re.compile("[\u3400-\u9fff]")
_REMEMBERED = 1024  # pieces and windows: about eight long replies


class Scorer(Protocol):
    """A model behind the guard."""

    def score(self, texts: Sequence[str], asked: str, *, is_reply: bool) -> Sequence[Scores]:
        """Judge each of `texts`; `asked` is the prompt that a reply answers, else empty."""
        ...


@dataclass(frozen=True, slots=True)
class Mix:
    """P(unsafe) = sigmoid(ngrams · a + encoder · b + offset)."""

    ngrams: float
    encoder: float
    offset: float


@dataclass(frozen=True, slots=True)
class GuardConfig:
    """What `config.json` says."""

    name: str
    version: str
    categories: tuple[str, ...]  # of the category layers, in order; S6 is not among them
    mixes: Mapping[str, Mix]  # by kind: "en prompt", "en reply", "zh prompt", "zh reply"
    ngrams: NgramConfig
    encoder: Mapping[str, Any] | None

    @classmethod
    def read(cls, folder: Path) -> GuardConfig:
        """Raises `GuardMissing` or `GuardBroken`."""
        path = folder / "config.json"
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            if fields["format"] != FORMAT or fields["model_type"] != "corral-guard":
                raise GuardBroken(f"{path} describes another kind of guard.")
            config = cls(
                fields["name"],
                fields["version"],
                tuple(fields["categories"]),
                {kind: Mix(**mix) for kind, mix in fields["mixes"].items()},
                NgramConfig(**fields["ngrams"]),
                fields.get("encoder"),
            )
        except FileNotFoundError as error:
            raise GuardMissing(f"The guard's {path} is missing; install Corral again.") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise GuardBroken(
                f"The guard's {path} cannot be read; install Corral again."
            ) from error
        if unknown := set(config.categories) - set(CATEGORIES):
            raise GuardBroken(f"{path} names unknown categories: {', '.join(sorted(unknown))}.")
        if set(config.mixes) != {"en prompt", "en reply", "zh prompt", "zh reply"}:
            raise GuardBroken(f"{path} does not say how to mix the scores; install Corral again.")
        return config


class BundledGuard:
    """The mixed guard. Safe to call from several threads."""

    def __init__(self, config: GuardConfig, ngrams: Scorer, encoder: Scorer | None = None) -> None:
        self.name = config.name
        self.version = config.version
        self._config = config
        self._ngrams = ngrams
        self._encoder = encoder
        self._remembered: OrderedDict[Hashable, Scores] = OrderedDict()
        self._lock = threading.Lock()

    def judge(self, prompt: str, reply: str | None = None) -> Verdict:
        """Judge `prompt`, or the `reply` so far that answers it."""
        started = time.perf_counter()
        text, asked, is_reply = (prompt, "", False) if reply is None else (reply, prompt, True)
        windows = self.score_windows(text, asked[-_ASKED:], is_reply=is_reply)
        mix = self._config.mixes[kind_of(text or asked, is_reply=is_reply)]
        chances = [
            _sigmoid(mix.ngrams * one.unsafe + mix.encoder * (other or one).unsafe + mix.offset)
            for one, other in windows
        ]
        worst = int(np.argmax(chances))
        scores = dict.fromkeys(HAZARDS, 0.0)
        shares = _shares([s for s in windows[worst] if s])
        for key, share in zip(self._config.categories, shares, strict=True):
            scores[key] = chances[worst] * float(share)
        scores["specialized_advice"] = max(
            _sigmoid(float(np.mean([s.advice for s in pair if s]))) for pair in windows
        )
        seconds = time.perf_counter() - started
        return Verdict(chances[worst], scores, self.name, self.version, seconds)

    def score_windows(
        self, text: str, asked: str, *, is_reply: bool
    ) -> list[tuple[Scores, Scores | None]]:
        """What the models say of each window; the encoder reads English prompts alone."""
        pieces = [text[at : at + _PIECE] for at in range(0, max(1, len(text)), _PIECE)]
        windows = ["".join(pieces[at : at + 2]) for at in range(max(1, len(pieces) - 1))]
        counted = self._score(self._ngrams, windows, asked, is_reply)
        if self._encoder is None or is_reply or is_chinese(text):
            return [(one, None) for one in counted]
        read = self._score(self._encoder, pieces, asked, is_reply)
        worst = [max(read[at : at + 2], key=lambda s: s.unsafe) for at in range(len(windows))]
        return list(zip(counted, worst, strict=True))

    def _score(
        self, scorer: Scorer, texts: Sequence[str], asked: str, is_reply: bool
    ) -> list[Scores]:
        """What `scorer` says of each text; what it said of one before is remembered."""
        keys = [(id(scorer), text, asked, is_reply) for text in texts]
        with self._lock:
            known = {key: self._remembered[key] for key in keys if key in self._remembered}
            for key in known:
                self._remembered.move_to_end(key)
        if not (missing := [key for key in dict.fromkeys(keys) if key not in known]):
            return [known[key] for key in keys]
        found = scorer.score([key[1] for key in missing], asked, is_reply=is_reply)
        known.update(zip(missing, found, strict=True))
        with self._lock:
            self._remembered.update((key, known[key]) for key in missing)
            while len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)
        return [known[key] for key in keys]


def is_chinese(text: str) -> bool:
    """Whether more than a third of the characters (of the last thousands) are Chinese."""
    end = text[-4000:]
    return 3 * len(_CHINESE.findall(end)) > len(end)


def kind_of(text: str, *, is_reply: bool) -> str:
    """Which mix a text is judged by."""
    return f"{'zh' if is_chinese(text) else 'en'} {'reply' if is_reply else 'prompt'}"


def load_guard(folder: Path, run: Run = at_once) -> Guard:
    """The guard in `folder`, ready to judge. Blocks a second or two; imports torch for an encoder.

    `run` brings what torch computes to the device's own thread. Raises `GuardMissing` if a file is
    not there and `GuardBroken` if one cannot be read.
    """
    from safetensors.numpy import load_file

    config = GuardConfig.read(folder)
    ngrams = _opened(
        folder / "ngrams.safetensors", lambda path: NgramModel(config.ngrams, load_file(path))
    )
    encoder: Scorer | None = None
    if config.encoder is not None:
        from safety.encoder_model import EncoderModel

        encoder = EncoderModel.load(
            folder, config.encoder, num_categories=len(config.categories), run=run
        )
    return BundledGuard(config, ngrams, encoder)


def _opened(path: Path, read: Callable[[Path], NgramModel]) -> NgramModel:
    from safetensors import SafetensorError

    try:
        return read(path)
    except FileNotFoundError as error:
        raise GuardMissing(f"The guard's {path} is missing; install Corral again.") from error
    except (OSError, SafetensorError, ValueError) as error:
        raise GuardBroken(f"The guard's {path} cannot be read; install Corral again.") from error


def _sigmoid(x: float) -> float:
    """The logistic function. What is no number stays none, so that the verdict fails."""
    return x if math.isnan(x) else 1 / (1 + math.exp(-max(-700.0, min(700.0, x))))


def _shares(models: list[Scores]) -> Any:
    """Mean over models of their softmax over the categories, (C,)."""
    parts = []
    for scores in models:
        e = np.exp(scores.categories - scores.categories.max())
        parts.append(e / e.sum())
    return np.mean(parts, axis=0)
