"""How the store's methods reach a database: the one on the disk, or a temporary conversation's."""

from __future__ import annotations

from contextlib import AbstractContextManager

from storage.connection import Database, Readers
from storage.records import FolderUnwritable
from storage.temporary import Temporary
from storage.writer import Writer


class Access:
    """Readers for looking, one writer for changing. Without a writer it can only be read."""

    def __init__(self, readers: Readers, writer: Writer | None) -> None:
        self._readers = readers
        self._write_thread = writer
        self.temporary = Temporary()

    @property
    def _writer(self) -> Writer:
        if self._write_thread is None:
            raise FolderUnwritable("This store was opened for reading only.")
        return self._write_thread

    def _reading(self, which: str | int) -> AbstractContextManager[Database]:
        """A snapshot of the database that holds the conversation of this key, or row of this id."""
        memory = self.temporary.find(which)
        return (memory.readers if memory else self._readers).snapshot()

    def _writing(self, which: str | int) -> Writer:
        """The writer of the database that holds the conversation of this key, or row of this id."""
        memory = self.temporary.find(which)
        return memory.writer if memory else self._writer
