"""The database as the app sees it: one object, plain methods, every word kept.

All methods are synchronous and may be called from any thread. Those that write return when the
change is durable, `append` alone returns at once. The first argument of whatever a user may ask
for is the user's id; somebody else's object is `NotFound`, as if it were not there. Methods that
take a message id alone are for the server's own use, with ids that `begin_turn` and its sisters
handed out. The methods stand in `storage/methods` by what they are about; the work they do in
`conversations`, `tree`, `turns`, `search`, `accounts`, ...

Any method raises `StorageError`: `DiskFull`, `DatabaseDamaged`, `StoreClosed` and the others as
drawn in `records`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TextIO

from storage import backup, conversations, export, health, opening, turns
from storage.ballast import BALLAST_BYTES, Ballast
from storage.connection import Mode, Readers, connect
from storage.folder import BACKUPS, BALLAST, DATABASE, SUSPECT, FolderLock, prepare
from storage.health import Repair
from storage.methods.conversations import ConversationMethods
from storage.methods.messages import MessageMethods
from storage.methods.opinions import OpinionMethods
from storage.methods.safety import SafetyMethods
from storage.methods.users import UserMethods
from storage.opening import Opened
from storage.people import People
from storage.records import NotFound
from storage.writer import Writer


class Store(ConversationMethods, MessageMethods, OpinionMethods, UserMethods, SafetyMethods):
    """Everything Corral keeps. Made by `Store.open`; `close` it at the end.

    After opening, `repair` says what was saved if the database had been damaged, and
    `num_interrupted` how many replies the last run left unfinished.
    """

    def __init__(
        self, folder: Path, readers: Readers, writer: Writer | None, lock: FolderLock | None
    ) -> None:
        super().__init__(readers, writer)
        self.folder = folder
        self.repair: Repair | None = None
        self.num_interrupted = 0
        self.people = People(readers, writer)
        self._lock = lock

    @classmethod
    def open(
        cls, folder: Path, *, readonly: bool = False, ballast_bytes: int = BALLAST_BYTES
    ) -> Store:
        """Open the data folder, making it and the database if need be.

        Takes the folder's lock, migrates with a backup before, and turns replies that a crash left
        streaming into interrupted ones. Blocks. `readonly` takes no lock and changes nothing.
        """
        path = folder / DATABASE
        if readonly:
            if not path.is_file():
                raise NotFound(f"There is no database in {folder}.")
            mode: Mode = "read" if os.access(folder, os.W_OK) else "immutable"
            readers = Readers(partial(connect, path, mode), on_damage=lambda: None)
            with readers.snapshot() as db:
                opening.check_readable(db, path)
            return cls(folder, readers, None, None)
        prepare(folder)
        lock = FolderLock(folder)
        opened = Opened()
        on_damage = (folder / SUSPECT).touch
        try:
            ballast = Ballast(folder / BALLAST, ballast_bytes)
            writer = Writer(
                partial(opening.open_for_writing, path, opened),
                turns.write_chunk,
                ballast,
                on_damage,
            )
            writer.submit(lambda db: ballast.restore())
        except BaseException:
            lock.release()
            raise
        readers = Readers(partial(connect, path, "read"), on_damage=on_damage)
        store = cls(folder, readers, writer, lock)
        store.repair, store.num_interrupted = opened.repair, opened.num_interrupted
        return store

    def close(self) -> None:
        """Commit what is pending, note the clean end, free the folder. Safe to call twice."""
        self.temporary.close()
        self._readers.close()
        if self._write_thread is not None:
            self._write_thread.close(opening.end_run)
        if self._lock is not None:
            self._lock.release()

    @property
    def full(self) -> bool:
        """Whether the disk is full: running replies are finished, new turns are refused."""
        return self._writer.full

    # The whole folder

    def purge(self, user_id: int, key: str) -> Sequence[Path]:
        """Delete a conversation for good: rows, search index, freed pages and WAL.

        Returns the backups, and databases moved aside as damaged, that still hold it.
        """
        self._writer.call(lambda db: conversations.purge(db, user_id, key))
        self._scrub()
        return backup.holding(self.folder, key)

    def purge_trash(self, older_than_days: int = 30) -> Sequence[tuple[int, str]]:
        """Purge what has lain in the trash for longer, of all users → (user id, key) of each."""
        with self._readers.snapshot() as db:
            found = conversations.expired(db, older_than_days)
        for user_id, key in found:
            self._writer.call(partial(conversations.purge, user_id=user_id, key=key))
        if found:
            self._scrub()
        return found

    def backup(self, folder: Path | None = None, *, reason: str = "manual") -> Path:
        """Make and verify a backup while everything runs; return the file."""
        return backup.make(self.folder / DATABASE, folder or self.folder / BACKUPS, reason=reason)

    def backup_daily(self) -> Path | None:
        """Today's backup if there is none yet; the newest seven are kept."""
        folder = self.folder / BACKUPS
        made = self.backup(reason="daily") if backup.due(folder) else None
        backup.prune(folder)
        return made

    def export(self, out: TextIO, *, user_id: int | None = None) -> int:
        """Write all conversations, or a user's, as lossless JSON; say how many."""
        with self._readers.snapshot() as db:
            return export.write(db, out, user_id=user_id)

    def remove_person(self, user_id: int) -> None:
        """Remove an account that is not the owner's, and every word of it."""
        for key in self.temporary.of_user(user_id):
            self.temporary.end(user_id, key)
        self.people.remove(user_id)
        self._scrub()

    def _scrub(self) -> None:
        while self._writer.call(health.merge_index):
            pass
        self._writer.call(health.shrink, outside=True)
        self._writer.call(health.empty_wal, outside=True)
