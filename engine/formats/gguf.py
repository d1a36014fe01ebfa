"""GGUF files: the header checked before anything is believed, the data read tensor by tensor.

Versions 2 and 3, little-endian (ggml-org/ggml `docs/gguf.md`). Every count is checked against the
bytes that are left before memory is taken for it; every tensor must lie inside the file, aligned,
and overlap no other. A model in several files (`-00001-of-00004.gguf`) is read as one.
"""

from __future__ import annotations

import hashlib
import re
import struct
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.errors import CheckpointBroken, CheckpointMissing, ModelUnsupported
from engine.formats.content import damaged, read_into
from engine.formats.ggml import KINDS, Kind, dequantize, regroup
from engine.quantize import Grouped

_MAX_ENTRIES = 1 << 16
_MAX_TENSORS = 1 << 17
_MAX_NAME_BYTES = 1 << 10
_MAX_ARRAY = 1 << 23  # longer than any vocabulary
_MAX_TEXT_BYTES = 16 << 20
_SAMPLE_BYTES = 4096

# Value types by number: struct code of one value. 8 is a string, 9 an array.
_NUMBERS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """Where one tensor lies: `num_bytes` from `offset` (from the start of the file) in `path`."""

    path: Path
    kind: Kind
    shape: tuple[int, ...]  # outermost first, as torch has it; the file has it the other way round
    offset: int
    num_bytes: int

    def _content(self) -> Tensor:
        content = torch.empty(self.num_bytes, dtype=torch.uint8)
        read_into(content, self.path, self.offset)
        return content

    def read(self) -> Tensor:
        """The weights, on the CPU: as stored if they are plain numbers, else in float32."""
        return dequantize(self._content(), self.kind, self.shape)

    def read_grouped(self) -> Grouped | None:
        """The stored 4-bit groups; None for other types."""
        return None if self.kind.group is None else regroup(self._content(), self.kind, self.shape)


@dataclass(frozen=True)
class GgufFile:
    """A header: `metadata` by key, tensors by the names that the file gives them."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]
    fingerprint: str


def read_gguf(path: Path) -> GgufFile:
    """Read the header of `path` and of the files that belong to it.

    Raises `CheckpointMissing`, `CheckpointBroken`, `ModelUnsupported`.
    """
    first = _read_one(path)
    count = first.metadata.get("split.count", 1)
    if type(count) is not int or count <= 1:
        return first
    match = _SHARD.search(path.name)
    if match is None or match[1] != "00001" or int(match[2]) != count:
        raise CheckpointMissing(
            f"{path.name} is one of {count} files of a model: choose the first of them, whose name "
            f"ends with -00001-of-{count:05d}.gguf."
        )
    tensors, digest = dict(first.tensors), hashlib.sha256(first.fingerprint.encode())
    for number in range(2, count + 1):
        name = _SHARD.sub(f"-{number:05d}-of-{count:05d}.gguf", path.name)
        other = _read_one(path.with_name(name))
        if twice := tensors.keys() & other.tensors.keys():
            raise CheckpointBroken(f"{min(twice)} lies in two files of {path.name}.")
        tensors.update(other.tensors)
        digest.update(other.fingerprint.encode())
    return GgufFile(path, first.metadata, tensors, digest.hexdigest()[:32])


def _read_one(path: Path) -> GgufFile:
    try:
        with path.open("rb") as file:
            return _Reader(path, file).read()
    except FileNotFoundError as error:
        raise CheckpointMissing(f"{path.name} is missing in {path.parent}.") from error
    except OSError as error:
        raise CheckpointBroken(f"{path.name} cannot be read: {error.strerror}.") from error


class _Reader:
    """Takes a header apart, from its first byte to its last."""

    def __init__(self, path: Path, file: BufferedReader) -> None:
        self.path, self.file = path, file
        self.left = self.size = file.seek(0, 2)
        file.seek(0)

    def read(self) -> GgufFile:
        if self.take(4) != b"GGUF":
            raise damaged(self.path, "it does not begin as a GGUF file does")
        version = self.number("I")
        if version not in (2, 3):
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            what = "for big-endian machines" if swapped in (2, 3) else f"of version {version}"
            raise ModelUnsupported(
                f"{self.path.name} is a GGUF file {what}; versions 2 and 3, little-endian, can be "
                "read. Get a newer conversion of this model."
            )
        num_tensors = self.count("Q", _MAX_TENSORS, "tensors")
        num_entries = self.count("Q", _MAX_ENTRIES, "entries")
        metadata: dict[str, Any] = {}
        for _ in range(num_entries):
            key = self.text(_MAX_NAME_BYTES)
            if key in metadata:
                raise damaged(self.path, f"{key} stands in it twice")
            metadata[key] = self.value(self.number("I"), key)
        infos = [self.info() for _ in range(num_tensors)]
        header = self.size - self.left
        tensors = self.placed(infos, metadata, header)
        return GgufFile(self.path, metadata, tensors, self.fingerprint(header, tensors))

    # --- primitives: nothing is read that is not there ---

    def take(self, num_bytes: int) -> bytes:
        if num_bytes > self.left:
            raise damaged(self.path, "it ends inside its header")
        content = self.file.read(num_bytes)
        if len(content) != num_bytes:
            raise damaged(self.path, "it became shorter while it was read")
        self.left -= num_bytes
        return content

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]

    def count(self, code: str, most: int, what: str) -> int:
        count: int = self.number(code)
        if count > most:
            raise damaged(self.path, f"it claims {count} {what}")
        return count

    def text(self, most: int) -> str:
        return self.take(self.count("Q", most, "bytes in a text")).decode("utf-8", "replace")

    def value(self, kind: int, key: str) -> Any:
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind == _STRING:
            return self.text(_MAX_TEXT_BYTES)
        if kind != _ARRAY:
            raise damaged(self.path, f"{key} is of the unknown type {kind}")
        inner = self.number("I")
        length = self.count("Q", _MAX_ARRAY, f"values in {key}")
        if inner in _NUMBERS:
            dtype = np.dtype(_NUMBERS[inner]).newbyteorder("<")
            return np.frombuffer(self.take(length * dtype.itemsize), dtype).tolist()
        if inner != _STRING or 8 * length > self.left:
            raise damaged(self.path, f"the list {key} makes no sense")
        return [self.text(_MAX_TEXT_BYTES) for _ in range(length)]

    # --- tensors ---

    def info(self) -> tuple[str, tuple[int, ...], int, int]:
        """Name, shape (outermost first), type and place among the data of one tensor."""
        name = self.text(_MAX_NAME_BYTES)
        sizes = [self.number("Q") for _ in range(self.count("I", 4, "dimensions"))]
        if any(not 0 < size < 1 << 40 for size in sizes):
            raise damaged(self.path, f"{name} has an impossible shape")
        return name, tuple(reversed(sizes)), self.number("I"), self.number("Q")

    def placed(
        self,
        infos: list[tuple[str, tuple[int, ...], int, int]],
        metadata: dict[str, Any],
        header: int,
    ) -> dict[str, GgufTensor]:
        alignment = metadata.get("general.alignment", 32)
        if type(alignment) is not int or alignment not in (1 << bit for bit in range(17)):
            raise damaged(self.path, f"an alignment of {alignment!r} is impossible")
        start = -(-header // alignment) * alignment
        tensors: dict[str, GgufTensor] = {}
        for name, shape, number, offset in infos:
            kind = KINDS.get(number)
            if kind is None:
                raise ModelUnsupported(
                    f"{self.path.name} stores {name} in a type (number {number}) that Corral "
                    f"cannot read; it reads {', '.join(each.name for each in KINDS.values())}."
                )
            size = kind.size(shape)
            if size is None:
                raise damaged(self.path, f"the rows of {name} are no whole blocks")
            if name in tensors:
                raise damaged(self.path, f"{name} stands in it twice")
            if offset % alignment or start + offset + size > self.size:
                raise damaged(self.path, f"{name} does not lie where it could")
            tensors[name] = GgufTensor(self.path, kind, shape, start + offset, size)
        self.refuse_overlap(tensors)
        return tensors

    def refuse_overlap(self, tensors: dict[str, GgufTensor]) -> None:
        end = 0
        for name, tensor in sorted(tensors.items(), key=lambda item: item[1].offset):
            if tensor.offset < end:
                raise damaged(self.path, f"{name} overlaps the tensor before it")
            end = tensor.offset + tensor.num_bytes

    def fingerprint(self, header: int, tensors: dict[str, GgufTensor]) -> str:
        """Of the header and the first bytes of each tensor."""
        self.file.seek(0)
        digest = hashlib.sha256(self.file.read(header))
        for tensor in tensors.values():
            self.file.seek(tensor.offset)
            digest.update(self.file.read(min(_SAMPLE_BYTES, tensor.num_bytes)))
        return digest.hexdigest()[:32]
