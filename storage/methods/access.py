"""How the store's methods reach the database: readers for looking, one writer for changing."""

from __future__ import annotations

from storage.connection import Readers
from storage.records import FolderUnwritable
from storage.writer import Writer


class Access:
    """An open database. Without a writer it can only be read."""

    def __init__(self, readers: Readers, writer: Writer | None) -> None:
        self._readers = readers
        self._write_thread = writer

    @property
    def _writer(self) -> Writer:
        if self._write_thread is None:
            raise FolderUnwritable("This store was opened for reading only.")
        return self._write_thread
