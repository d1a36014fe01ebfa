"""A row that the bundled guard learns from, and how much each source of rows counts.

One row in twenty is held out by a fixed hash of its text.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HELD_OUT_IN = 20

# Rows a source may count for, however many it has: `mlc_v05` is made from templates, the hate sets
# would fill a third of all unsafe rows.
SOURCE_LIMIT = 1600.0
_LIMITS = {
    "contrast": 15000.0, "topics": 7000.0, "prose": 3000.0,
    "everyday": 9000.0, "everyday_zh": 4000.0,
}  # fmt: skip

# Share of rows whose label a reader would not agree with, by the data set's own README and a look
# at samples: the label is softened by this much.
LABEL_NOISE = {
    "mlc_v05": 0.07, "harmfulqa": 0.08, "diasafety": 0.12, "cold_zh": 0.10, "gptfuzz": 0.07,
    "davidson": 0.05, "toxigen_demo": 0.05, "safetext": 0.05, "cst": 0.05,
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One labelled text. `categories` are keys; none on an unsafe row means unknown."""

    text: str
    unsafe: int
    source: str
    prompt: str = ""
    is_reply: bool = False
    categories: tuple[str, ...] = ()
    weight: float = 1.0

    @property
    def held_out(self) -> bool:
        """Whether this row is never trained on: decided by the text alone."""
        digest = hashlib.sha256(f"{self.prompt}\0{self.text}".encode()).digest()
        return digest[0] % HELD_OUT_IN == 0

    @property
    def advice_only(self) -> bool:
        """Unsafe for being specialised advice (S6) and nothing else."""
        return self.categories == ("specialized_advice",)

    @property
    def target(self) -> float:
        """The softened label."""
        noise = LABEL_NOISE.get(self.source, 0.02)
        return self.unsafe * (1 - 2 * noise) + noise


def balanced(rows: Iterable[Row]) -> list[Row]:
    """The rows, each once, weighted so that no source counts for more than its limit."""
    unique = list({(r.text, r.prompt, r.is_reply): r for r in rows if r.text.strip()}.values())
    counts = Counter(row.source for row in unique)
    return [
        replace(row, weight=min(1.0, _LIMITS.get(row.source, SOURCE_LIMIT) / counts[row.source]))
        for row in unique
    ]


def cut_replies(rows: Sequence[Row], rng: random.Random) -> list[Row]:
    """The beginnings of replies, cut anywhere, so that a growing reply is judged well.

    A harmful reply is cut after its first third: before, there may be nothing harmful in it yet.
    """
    cuts = []
    for row in rows:
        if row.is_reply and len(row.text) > 80 and rng.random() < 0.5:
            least = len(row.text) // 3 if row.unsafe else 20
            end = rng.randrange(least, len(row.text))
            cuts.append(replace(row, text=row.text[:end]))
    return cuts


def drawn(rows: Sequence[Row], rng: random.Random) -> list[Row]:
    """Rows kept with the probability of their weight, so that all that are kept count alike."""
    return [replace(row, weight=1.0) for row in rows if rng.random() < row.weight]
