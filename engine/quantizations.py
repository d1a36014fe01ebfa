"""GGUF files of a repository: which of them make one model, and which quantization that is.

One repository holds the same model many times, a file (or a set of parts) for each quantization.
Their names follow the convention that llama.cpp writes down in `docs/gguf.md`, "Naming convention":
the encoding is the last word of the stem, parts end in `-00001-of-00003`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol, TypeVar

_PART = re.compile(r"-\d{5}-of-\d{5}$")
_ENCODING = re.compile(
    r"(?:^|[-._])((?:UD-)?(?:I?Q\d|TQ\d|F16|F32|BF16|MXFP4)[A-Z0-9_]*)$", re.IGNORECASE
)
# Those whose blocks `engine/formats/ggml.py` knows; the letters behind K say how they are mixed.
_READABLE = re.compile(r"F32|F16|BF16|Q[45]_[01]|Q8_0|Q[2-6]_K(_[A-Z]+)?")
# Not models: what sees pictures for one, and what a quantization was computed with.
_OTHER = re.compile(r"mmproj|imatrix", re.IGNORECASE)


class Stored(Protocol):
    """A file of a repository."""

    @property
    def name(self) -> str:
        """Its path there."""
        ...

    @property
    def num_bytes(self) -> int: ...


F = TypeVar("F", bound=Stored)


@dataclass(frozen=True, slots=True)
class Quantization:
    """One choice: what to call it, and what it costs to fetch."""

    name: str  # the encoding, Q4_K_M, or the whole stem of a file without one of its own
    num_bytes: int
    readable: bool  # False: made of blocks that this engine does not know


def quantizations(files: Iterable[F]) -> dict[Quantization, list[F]]:
    """The files of each quantization, parts in order; the smallest quantization first."""
    stems: dict[str, list[F]] = {}
    for file in sorted(files, key=lambda file: file.name):
        path = PurePosixPath(file.name)
        if path.suffix.lower() == ".gguf" and not _OTHER.search(path.name):
            stems.setdefault(_PART.sub("", path.stem), []).append(file)
    encodings = {stem: _encoding(stem) for stem in stems}
    found: dict[Quantization, list[F]] = {}
    for stem, parts in stems.items():
        encoding = encodings[stem]
        alone = encoding and list(encodings.values()).count(encoding) == 1
        size = sum(part.num_bytes for part in parts)
        readable = bool(_READABLE.fullmatch(encoding)) if encoding else True
        found[Quantization(encoding if alone else stem, size, readable)] = parts
    return dict(sorted(found.items(), key=lambda each: (each[0].num_bytes, each[0].name)))


def without_encoding(stem: str) -> str:
    """The stem of a GGUF file without what says how it is quantized."""
    return _ENCODING.sub("", _PART.sub("", stem))


def _encoding(stem: str) -> str:
    match = _ENCODING.search(stem)
    return match[1].upper() if match else ""
