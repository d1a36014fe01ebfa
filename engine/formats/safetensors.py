"""safetensors files: the header checked by the format's own rules, the data read tensor by tensor.

The header rules are those of the reference reader (safetensors 0.8, `SafeTensorError`), which the
Trail of Bits review of 2023 asked for: header size bounded, offsets in order without hole or
overlap and covering the file exactly, shape × dtype equal to the bytes. Data is read with
`readinto` rather than mapped into memory: a file that shrinks while it is read is then an error and
not a crash, and pages of the file do not count as ours.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.errors import CheckpointBroken, CheckpointMissing, CheckpointUnsafe
from engine.formats.content import damaged, read_into
from engine.json_values import short
from engine.kernels.pages import use_large_pages

MAX_HEADER_BYTES = 100_000_000  # the bound of the reference reader

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}

# First bytes of files that run code when they are opened, or of other weight formats.
_FOREIGN_MAGIC = (
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"PK\x03\x04", "a zip archive, as PyTorch writes its pickles"),
    (b"\x89HDF", "an HDF5 file"),
)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Where one tensor lies: `num_bytes` from `offset` (from the start of the file) in `path`."""

    path: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int
    num_bytes: int

    def read(self) -> Tensor:
        """The tensor, in memory of its own on the CPU. Raises `CheckpointBroken`."""
        return read_tensor(self)


def foreign_magic(head: bytes) -> str | None:
    """What a file that begins with `head` (9 bytes) is, if it is of a kind not to be opened.

    A header of 640 bytes begins like a pickle; the brace behind the length tells them apart.
    """
    if head[4:] == b"\0\0\0\0{":
        return None
    return next((kind for magic, kind in _FOREIGN_MAGIC if head.startswith(magic)), None)


def read_header(path: Path) -> tuple[dict[str, TensorSpec], bytes]:
    """The tensors that `path` holds, by name, and the raw header (for fingerprints).

    Raises `CheckpointMissing`, `CheckpointUnsafe` for a pickle under a false name, and
    `CheckpointBroken` for everything that the rules at the head of this module forbid.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            head = file.read(9)
            if kind := foreign_magic(head):
                raise CheckpointUnsafe(f"{path.name} is {kind}, not a safetensors file.")
            length = int.from_bytes(head[:8], "little")
            if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
                raise damaged(path, f"its header claims {length} bytes of {size}")
            file.seek(8)
            header = file.read(length)
    except FileNotFoundError as error:
        raise CheckpointMissing(f"{path.name} is missing in {path.parent}.") from error
    except OSError as error:
        raise CheckpointBroken(f"{path.name} cannot be read: {error.strerror}.") from error
    if len(header) != length:
        raise damaged(path, "it ends inside its header")
    return _specs(path, _parse(path, header), 8 + length, size), header


def _parse(path: Path, header: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError("a name occurs twice")
        return dict(pairs)

    if header[:1] != b"{":
        raise damaged(path, "its header is no JSON object")
    try:
        value = json.loads(header.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise damaged(path, "its header is not readable JSON") from error
    metadata = value.pop("__metadata__", {})
    if not isinstance(metadata, dict) or any(type(text) is not str for text in metadata.values()):
        raise damaged(path, "its metadata is not text")
    assert isinstance(value, dict)
    return value


def _specs(path: Path, entries: dict[str, Any], start: int, size: int) -> dict[str, TensorSpec]:
    specs = {name: _spec(path, name, entry, start) for name, entry in entries.items()}
    end = start
    for name, spec in sorted(specs.items(), key=lambda item: (item[1].offset, item[1].num_bytes)):
        if spec.offset != end:
            raise damaged(path, f"{name} does not begin where the tensor before it ends")
        end += spec.num_bytes
    if end != size:
        raise damaged(path, f"its tensors take {end} bytes, the file has {size}")
    return specs


def _spec(path: Path, name: str, entry: object, start: int) -> TensorSpec:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise damaged(path, f"the entry of {name} is not dtype, shape and data_offsets")
    shape, offsets = entry["shape"], entry["data_offsets"]
    dtype = _DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        raise damaged(path, f"{name} has the unknown type {short(entry['dtype'])}")
    if not _sizes(shape) or len(shape) > 8 or not _sizes(offsets) or len(offsets) != 2:
        raise damaged(path, f"the shape or place of {name} makes no sense")
    begin, end = offsets
    if begin > end or math.prod(shape) * dtype.itemsize != end - begin:
        raise damaged(path, f"{name} has {end - begin} bytes, which its shape does not fill")
    return TensorSpec(path, dtype, tuple(shape), start + begin, end - begin)


def _sizes(value: object) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 48 for n in value)


def read_tensor(spec: TensorSpec) -> Tensor:
    """The tensor at `spec`, in memory of its own on the CPU. Raises `CheckpointBroken`."""
    tensor = torch.empty(spec.shape, dtype=spec.dtype)
    use_large_pages(tensor)
    if spec.num_bytes == 0:
        return tensor
    read_into(tensor, spec.path, spec.offset)
    return tensor


def sample(specs: Iterable[TensorSpec], *, num_bytes: int = 4096) -> bytes:
    """The first bytes of each tensor: enough to tell two trainings of one architecture apart."""
    parts = []
    for spec in specs:
        with spec.path.open("rb") as file:
            file.seek(spec.offset)
            parts.append(file.read(min(num_bytes, spec.num_bytes)))
    return b"".join(parts)
