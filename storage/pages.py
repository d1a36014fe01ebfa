"""Rows read straight from the pages of a SQLite file that SQLite itself may refuse to open.

Follows https://sqlite.org/fileformat2.html: table leaves, index pages (which hold the rows of
WITHOUT ROWID tables), overflow chains, and the committed frames of a WAL beside the file. Nothing
is trusted: a cell that does not add up is skipped, and the number of skipped cells is kept. As
Corral writes with `secure_delete`, pages that were freed hold zeros: what was deleted stays so.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

Value = int | float | str | bytes | None

_TABLE_LEAF, _INDEX_LEAF, _INDEX_INTERIOR = 0x0D, 0x0A, 0x02
_MAX_ROW_BYTES = 1 << 28
_WAL_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}  # the byte order of its checksums
_REALS_AND_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}  # serial type to bytes


class _BrokenCell(Exception):
    """A cell that does not add up."""


@dataclass(slots=True)
class Pages:
    """The pages of a database file with its WAL applied."""

    data: bytes
    size: int
    changed: dict[int, bytes] = field(default_factory=dict)  # from the WAL
    num_broken: int = 0

    @classmethod
    def read(cls, path: Path) -> Pages:
        """Read `path` and the WAL beside it. Raises `OSError`."""
        data = path.read_bytes()
        size = int.from_bytes(data[16:18], "big") if len(data) >= 18 else 0
        size = 65536 if size == 1 else size
        if size < 512 or size & (size - 1):
            size = 4096  # the header is gone; this is what Corral writes
        pages = cls(data, size)
        wal = path.with_name(path.name + "-wal")
        if wal.is_file():
            pages.changed = _committed(wal.read_bytes(), size)
        return pages

    def rows(self) -> Iterator[tuple[int | None, list[Value]]]:
        """Every row: (rowid, values); the rowid is None in indexes and WITHOUT ROWID tables."""
        last = max([len(self.data) // self.size, *self.changed])
        # Where auto_vacuum is on, every so many pages one holds pointers and no rows.
        between = self.size // 5 + 1 if self.data[52:56] != bytes(4) or self.data[:1] != b"S" else 0
        for number in range(1, last + 1):
            if not between or (number - 2) % between:
                yield from self._page_rows(number)

    def _page(self, number: int) -> bytes:
        start = (number - 1) * self.size
        page = self.changed.get(number) or self.data[start : start + self.size]
        if number < 1 or len(page) < self.size:
            raise _BrokenCell
        return page

    def _page_rows(self, number: int) -> Iterator[tuple[int | None, list[Value]]]:
        try:
            page = self._page(number)
        except _BrokenCell:
            return
        head = 100 if number == 1 else 0
        kind = page[head]
        if kind not in (_TABLE_LEAF, _INDEX_LEAF, _INDEX_INTERIOR):
            return
        first = head + (12 if kind == _INDEX_INTERIOR else 8)
        count = int.from_bytes(page[head + 3 : head + 5], "big")
        for n in range(min(count, (self.size - first) // 2)):
            at = int.from_bytes(page[first + 2 * n : first + 2 * n + 2], "big")
            try:
                yield self._cell(page, at, kind)
            except (_BrokenCell, IndexError, struct.error):
                self.num_broken += 1

    def _cell(self, page: bytes, at: int, kind: int) -> tuple[int | None, list[Value]]:
        rowid = None
        if kind == _INDEX_INTERIOR:
            at += 4
        total, at = _varint(page, at)
        if kind == _TABLE_LEAF:
            rowid, at = _varint(page, at)
        if not 0 < total <= _MAX_ROW_BYTES:
            raise _BrokenCell
        return rowid, _values(self._payload(page, at, total, kind))

    def _payload(self, page: bytes, at: int, total: int, kind: int) -> bytes:
        usable = self.size
        most = usable - 35 if kind == _TABLE_LEAF else (usable - 12) * 64 // 255 - 23
        if total <= most:
            return self._exactly(page[at : at + total], total)
        least = (usable - 12) * 32 // 255 - 23
        local = least + (total - least) % (usable - 4)
        local = local if local <= most else least
        parts = [self._exactly(page[at : at + local], local)]
        number = int.from_bytes(page[at + local : at + local + 4], "big")
        missing = total - local
        while missing > 0:
            overflow = self._page(number)
            parts.append(overflow[4 : 4 + missing])
            missing -= len(parts[-1])
            number = int.from_bytes(overflow[:4], "big")
        return b"".join(parts)

    @staticmethod
    def _exactly(part: bytes, length: int) -> bytes:
        if len(part) != length:
            raise _BrokenCell
        return part


def _varint(page: bytes, at: int) -> tuple[int, int]:
    value = 0
    for n in range(8):
        byte = page[at + n]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + n + 1
    value = value << 8 | page[at + 8]
    return value - (1 << 64) if value >= 1 << 63 else value, at + 9


def _values(record: bytes) -> list[Value]:
    head_bytes, at = _varint(record, 0)
    if not 0 < head_bytes <= len(record):
        raise _BrokenCell
    kinds = []
    while at < head_bytes:
        kind, at = _varint(record, at)
        kinds.append(kind)
    values: list[Value] = []
    for kind in kinds:
        value, at = _value(record, at, kind)
        values.append(value)
    return values


def _value(record: bytes, at: int, kind: int) -> tuple[Value, int]:
    if kind in (0, 8, 9):
        return {0: None, 8: 0, 9: 1}[kind], at
    if kind < 0 or kind in (10, 11):
        raise _BrokenCell
    if kind == 7:
        return struct.unpack_from(">d", record, at)[0], at + 8
    length = _REALS_AND_INTEGERS.get(kind, (kind - 12) // 2)
    part = record[at : at + length]
    if len(part) != length:
        raise _BrokenCell
    if kind < 7:
        return int.from_bytes(part, "big", signed=True), at + length
    return (part.decode("utf-8", "replace") if kind % 2 else part), at + length


def _committed(wal: bytes, page_bytes: int) -> dict[int, bytes]:
    """The newest committed image of each page in a WAL, up to the first frame that fails."""
    if len(wal) < 32 or int.from_bytes(wal[8:12], "big") != page_bytes:
        return {}
    order = _WAL_MAGIC.get(int.from_bytes(wal[:4], "big"))
    if order is None or _checksum(wal[:24], (0, 0), order) != struct.unpack(">II", wal[24:32]):
        return {}
    salts, running = wal[16:24], struct.unpack(">II", wal[24:32])
    committed: dict[int, bytes] = {}
    pending: dict[int, bytes] = {}
    for at in range(32, len(wal) - 24 - page_bytes + 1, 24 + page_bytes):
        head, page = wal[at : at + 24], wal[at + 24 : at + 24 + page_bytes]
        running = _checksum(page, _checksum(head[:8], running, order), order)
        if head[8:16] != salts or running != struct.unpack(">II", head[16:24]):
            break
        number, size_after = struct.unpack(">II", head[:8])
        pending[number] = page
        if size_after:  # a commit
            committed.update(pending)
            pending.clear()
    return committed


def _checksum(data: bytes, start: tuple[int, int], order: str) -> tuple[int, int]:
    first, second = start
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for n in range(0, len(words), 2):
        first = (first + words[n] + second) & 0xFFFFFFFF
        second = (second + words[n + 1] + first) & 0xFFFFFFFF
    return first, second
