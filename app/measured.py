"""What models took when they were loaded, beside what was predicted: how far to trust predictions.

Measured is the most that the process held on the model's device while it was loaded, beyond what
it held before. Kept by model, precision and device in the owner's settings.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Thread
from types import TracebackType

from engine.config import LlamaConfig
from storage.records import OWNER_ID
from storage.store import Store

SETTING = "memory"
MAX_KEPT = 200  # the oldest go first
# Of less, what torch's libraries take for themselves is the larger part: no measure of a model.
LEAST_BYTES = 100_000_000
_LOOK_SECONDS = 0.01  # a load lasts seconds; its highest moment is the making of one large matrix


@dataclass(frozen=True, slots=True)
class Taken:
    """One load of a model. Bytes; `device` is its kind: cpu, cuda, mps."""

    model: str
    precision: str
    device: str
    predicted_bytes: int
    peak_bytes: int

    @property
    def error_percent(self) -> float:
        """How much more, or less, was predicted than the load took."""
        return 100 * (self.predicted_bytes / self.peak_bytes - 1)


class Peak:
    """The most that `held` gives while the block runs, in bytes beyond what it gave before."""

    def __init__(self, held: Callable[[], int]) -> None:
        self._held = held
        self._over = Event()
        self._before = self._highest = 0

    @property
    def num_bytes(self) -> int:
        """So far, or of the whole block once it is over."""
        return max(0, self._highest - self._before)

    def __enter__(self) -> Peak:
        self._before = self._highest = self._held()
        self._watch = Thread(target=self._look, name="memory", daemon=True)
        self._watch.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._watch.join()
        self._highest = max(self._highest, self._held())

    def _look(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            self._highest = max(self._highest, self._held())


def predicted_load(config: LlamaConfig, precision: str, device: str) -> int | None:
    """What loading a model and its first token take at most, in bytes.

    None for a precision without a prediction.
    """
    import torch

    from engine.fit import PRECISIONS, predict

    known = next((each for each in PRECISIONS if each == precision), None)
    if known is None:
        return None
    # A context of one token: that is what the engine tries itself out with.
    return predict(config, known, context=1, device=torch.device(device)).peak_bytes


def keep(store: Store, taken: Taken) -> None:
    """Keep how a load went, in place of an earlier one of the same kind. Raises `StorageError`."""
    others = [each for each in loads(store) if _kind(each) != _kind(taken)]
    rows = [
        [each.model, each.precision, each.device, each.predicted_bytes, each.peak_bytes]
        for each in (*others, taken)
    ]
    store.set_setting(OWNER_ID, SETTING, json.dumps(rows[-MAX_KEPT:]))


def loads(store: Store) -> list[Taken]:
    """What is kept, the latest last. Raises `StorageError`."""
    try:
        rows = json.loads(store.setting(OWNER_ID, SETTING) or "[]")
        found = [
            Taken(str(m), str(p), str(d), int(said), int(peak)) for m, p, d, said, peak in rows
        ]
    except (ValueError, TypeError):
        return []  # written by another version; it is measured anew
    return [each for each in found if each.predicted_bytes > 0 and each.peak_bytes > 0]


def _kind(taken: Taken) -> tuple[str, str, str]:
    return taken.model, taken.precision, taken.device
