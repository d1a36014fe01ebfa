"""A file that holds room for the moment when the disk is full.

SQLite needs space even to delete (its WAL grows first). Deleting the ballast gives that space back.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

BALLAST_BYTES = 32 << 20
_BLOCK_BYTES = 1 << 20


class Ballast:
    """Made at start, released when the disk is full, restored when there is room again."""

    def __init__(self, path: Path, num_bytes: int = BALLAST_BYTES) -> None:
        self._path = path
        self._num_bytes = num_bytes
        self.spent = False

    def restore(self) -> bool:
        """Write the file if there is comfortable room; say whether it is there."""
        try:
            if self._path.is_file() and self._path.stat().st_size == self._num_bytes:
                self.spent = False
                return True
            self._path.unlink(missing_ok=True)
            if shutil.disk_usage(self._path.parent).free < 3 * self._num_bytes:
                return False
            self._write()
        except OSError:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
            return False
        self.spent = False
        return True

    def release(self) -> bool:
        """Free the space; True if there was any to free."""
        self.spent = True
        try:
            self._path.unlink()
        except OSError:
            return False
        return True

    def _write(self) -> None:
        # Random bytes: filesystems that compress, or keep holes, hold no room for zeros.
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "wb") as file:
            for _ in range(self._num_bytes // _BLOCK_BYTES):
                file.write(os.urandom(_BLOCK_BYTES))
            file.flush()
            os.fsync(file.fileno())


class NoBallast(Ballast):
    """For a database in memory, which no disk can be too full for."""

    def __init__(self) -> None:
        self.spent = False

    def restore(self) -> bool:
        """There is always room."""
        return True

    def release(self) -> bool:
        """There is nothing to free."""
        return False
