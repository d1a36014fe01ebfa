"""What may be chosen when a model is loaded on this machine; what is left open is found out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.errors import ModelUnsupported
from engine.kv_cache import Kept
from engine.placement import NOWHERE, Offloading
from engine.quantize import PRECISIONS

_CHOICES = ("auto", *PRECISIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a model is read, held and run. Raises `ModelUnsupported` for an unknown precision."""

    # what is read
    adapter: Path | None = None  # the folder of a LoRA adapter, which is merged in
    allow_pickle: bool = False  # see `open_checkpoint`
    extension: str = ""  # a longer context: see `engine/extension.py`
    draft: Path | None = None  # a smaller model of the same tokens that guesses ahead

    # how it is held
    device: str = "auto"
    precision: str = "auto"
    kept: Kept = "auto"  # keys and values: int8 takes half the memory of 16 bits
    offloading: Offloading = NOWHERE  # what may hold layers that the device has no room for
    measured: Path | None = None  # the folder where what quantizing costs is kept

    # how it runs
    threads: int | None = None  # None: those that are fastest, measured while it runs
    max_rows: int = 16  # answers that are written at the same time
    speculate: bool = True  # several tokens a pass where a text repeats itself
    deterministic: bool = False  # see `Scheduler`

    # what it may keep
    max_context: int | None = None  # tokens; None: as the model's files say
    cache_bytes: int | None = None  # keys and values on the device; None: see `engine/budget.py`
    memory_bytes: int | None = None  # those moved off a GPU; None: as many, in a quarter of memory
    disk_folder: Path | None = None  # where those on the disk lie; None: nothing is kept there
    disk_bytes: int = 4 << 30  # those on the disk; 0: nothing is kept there

    def __post_init__(self) -> None:
        if self.precision not in _CHOICES:
            raise ModelUnsupported(
                f"There is no precision {self.precision!r}: choose {', '.join(_CHOICES)}."
            )


USUAL = Options()
