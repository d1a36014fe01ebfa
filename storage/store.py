"""The database as the app sees it: one object, plain methods, every word kept.

All methods are synchronous and may be called from any thread. Those that write return when the
change is durable, `append` alone returns at once. The first argument of whatever a user may ask
for is the user's id; somebody else's object is `NotFound`, as if it were not there. Methods that
take a message id alone are for the server's own use, with ids that `begin_turn` and its sisters
handed out. The work itself stands in `conversations`, `tree`, `turns`, `search`, `accounts`, ...

Any method raises `StorageError`: `DiskFull`, `DatabaseDamaged`, `StoreClosed` and the others as
drawn in `records`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from storage import (
    accounts,
    audit,
    backup,
    conversations,
    documents,
    evidence,
    export,
    health,
    opening,
    opinions,
    safety_log,
    saved,
    search,
    tree,
    turns,
)
from storage.accounts import NEVER_IDLE, Usage
from storage.audit import AuditEntry
from storage.ballast import BALLAST_BYTES, Ballast
from storage.connection import Database, Mode, Readers
from storage.folder import BACKUPS, BALLAST, DATABASE, SUSPECT, FolderLock, prepare
from storage.health import Repair
from storage.opening import Opened
from storage.people import People
from storage.records import (
    Comparison,
    Conversation,
    Feedback,
    FolderUnwritable,
    Generation,
    Hit,
    MessageRecord,
    NotFound,
    SafetyEvent,
    Saved,
    SavedKind,
    Shelf,
    Status,
    Turn,
    User,
    VerdictRecord,
)
from storage.writer import Writer


class Store:
    """Everything Corral keeps. Made by `Store.open`; `close` it at the end.

    After opening, `repair` says what was saved if the database had been damaged, and
    `num_interrupted` how many replies the last run left unfinished.
    """

    def __init__(
        self, folder: Path, readers: Readers, writer: Writer | None, lock: FolderLock | None
    ) -> None:
        self.folder = folder
        self.repair: Repair | None = None
        self.num_interrupted = 0
        self._readers = readers
        self._write_thread = writer
        self.people = People(readers, writer)
        self._lock = lock
        self._digest_key: bytes | None = None

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
            readers = Readers(path, mode, on_damage=lambda: None)
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
        store = cls(folder, Readers(path, on_damage=on_damage), writer, lock)
        store.repair, store.num_interrupted = opened.repair, opened.num_interrupted
        return store

    def close(self) -> None:
        """Commit what is pending, note the clean end, free the folder. Safe to call twice."""
        self._readers.close()
        if self._write_thread is not None:
            self._write_thread.close(opening.end_run)
        if self._lock is not None:
            self._lock.release()

    @property
    def full(self) -> bool:
        """Whether the disk is full: running replies are finished, new turns are refused."""
        return self._writer.full

    @property
    def _writer(self) -> Writer:
        if self._write_thread is None:
            raise FolderUnwritable("This store was opened for reading only.")
        return self._write_thread

    # Conversations

    def create_conversation(
        self,
        user_id: int,
        *,
        title: str = "",
        system_prompt: str = "",
        choices: Mapping[str, object] | None = None,
    ) -> Conversation:
        """Begin an empty conversation."""
        return self._writer.call(
            lambda db: conversations.create(db, user_id, title, system_prompt, choices), grows=True
        )

    def choose(
        self, user_id: int, key: str, *, system_prompt: str, choices: Mapping[str, object]
    ) -> Conversation:
        """Set how a conversation is answered from now on."""
        return self._writer.call(
            lambda db: conversations.choose(db, user_id, key, system_prompt, choices)
        )

    def conversation(self, user_id: int, key: str) -> Conversation:
        """One conversation, trashed or not."""
        with self._readers.snapshot() as db:
            return conversations.get(db, user_id, key)

    def conversations(
        self,
        user_id: int,
        *,
        shelf: Shelf = "open",
        tag: str = "",
        limit: int = 200,
        offset: int = 0,
    ) -> list[Conversation]:
        """Pinned first, then newest turn first; or the trash, last thrown away first."""
        with self._readers.snapshot() as db:
            return conversations.listed(
                db, user_id, shelf=shelf, tag=tag, limit=limit, offset=offset
            )

    def dates(
        self, user_id: int, *, shelf: Shelf = "open", tag: str = ""
    ) -> list[tuple[bool, int]]:
        """(pinned, last turn in ms) of all conversations of a shelf, in the order of the list."""
        with self._readers.snapshot() as db:
            return conversations.dates(db, user_id, shelf=shelf, tag=tag)

    def tags(self, user_id: int) -> list[str]:
        """All tags that a user has given, by name."""
        with self._readers.snapshot() as db:
            return conversations.tags(db, user_id)

    def tag(self, user_id: int, key: str, tags: Sequence[str]) -> Conversation:
        """Give a conversation these tags in place of those it had."""
        return self._writer.call(lambda db: conversations.tag(db, user_id, key, tags))

    def archive(self, user_id: int, key: str, archived: bool) -> Conversation:
        """Put a conversation out of the list, where search still finds it, or back into it."""
        return self._writer.call(lambda db: conversations.archive(db, user_id, key, archived))

    def copy(
        self, user_id: int, key: str, *, upto_id: int | None = None, title: str = ""
    ) -> Conversation:
        """A second conversation like this one, or like the path to one of its messages."""
        return self._writer.call(
            lambda db: documents.copy(db, user_id, key, upto_id=upto_id, title=title), grows=True
        )

    def add_document(self, user_id: int, document: Mapping[str, object]) -> Conversation:
        """Enter a conversation in the layout of `export`.

        Raises `DocumentInvalid`, or `Conflict` if the user has it already.
        """
        return self._writer.call(lambda db: documents.add(db, user_id, document), grows=True)

    def document(self, user_id: int, key: str) -> dict[str, Any]:
        """One conversation in the layout of `export`."""
        with self._readers.snapshot() as db:
            return export.document(db, "", conversations.get(db, user_id, key))

    def remove_branch(self, user_id: int, key: str, message_id: int) -> Conversation:
        """Take a message and what follows it out of the tree; `restore_branch` undoes it."""
        return self._writer.call(
            lambda db: tree.remove_branch(db, conversations.get(db, user_id, key), message_id)
        )

    def restore_branch(self, user_id: int, key: str, message_id: int) -> Conversation:
        """Put a removed message, and what was removed with it, back and show it."""
        return self._writer.call(
            lambda db: tree.restore_branch(db, conversations.get(db, user_id, key), message_id)
        )

    def rename(self, user_id: int, key: str, title: str) -> Conversation:
        """Give a conversation another title."""
        return self._writer.call(lambda db: conversations.rename(db, user_id, key, title))

    def pin(self, user_id: int, key: str, pinned: bool) -> Conversation:
        """Keep a conversation at the top of the list, or no longer."""
        return self._writer.call(lambda db: conversations.pin(db, user_id, key, pinned))

    def trash(self, user_id: int, key: str) -> Conversation:
        """Put a conversation in the trash; nothing is deleted."""
        return self._writer.call(lambda db: conversations.trash(db, user_id, key))

    def restore(self, user_id: int, key: str) -> Conversation:
        """Take a conversation out of the trash."""
        return self._writer.call(lambda db: conversations.restore(db, user_id, key))

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

    # Messages

    def path(
        self, user_id: int, key: str, *, leaf_id: int | None = None, last: int | None = None
    ) -> list[MessageRecord]:
        """Root to the active leaf (or `leaf_id`), or the `last` messages of that.

        Versions, verdicts and generations are filled in. A reply that is being written shows what
        was committed of it, at most 100 ms old.
        """
        with self._readers.snapshot() as db:
            conversation = conversations.get(db, user_id, key)
            return tree.path(db, conversation, leaf_id=leaf_id, last=last)

    def path_length(self, user_id: int, key: str) -> int:
        """How many messages stand on the path to the active leaf."""
        with self._readers.snapshot() as db:
            return tree.path_length(db, conversations.get(db, user_id, key))

    def message(self, user_id: int, key: str, message_id: int) -> MessageRecord:
        """One message of a conversation, on whatever branch."""
        with self._readers.snapshot() as db:
            return tree.message(db, conversations.get(db, user_id, key), message_id)

    def select_version(self, user_id: int, key: str, message_id: int) -> Conversation:
        """Make the branch through a message the active one, down to its newest leaf."""
        return self._writer.call(
            lambda db: tree.select_version(db, conversations.get(db, user_id, key), message_id)
        )

    def begin_turn(
        self, user_id: int, key: str, *, parent_id: int | None, text: str, client_key: str
    ) -> Turn:
        """Store a prompt and an empty reply to it, which becomes the active leaf.

        `parent_id` is the reply that the prompt follows, or None for a first message. The same
        `client_key` again gives the turn that it began. The first prompt names the conversation.
        Raises `Conflict` if the parent is a prompt or a reply that is still being written.
        """
        return self._writer.call(
            lambda db: turns.begin_turn(
                db, user_id, key, parent_id=parent_id, text=text, client_key=client_key
            ),
            grows=True,
        )

    def begin_reply(self, user_id: int, key: str, *, prompt_id: int, beginning: str = "") -> Turn:
        """Store another reply to a prompt, with its first words or none; the new active leaf."""
        return self._writer.call(
            lambda db: turns.begin_reply(
                db, user_id, key, prompt_id=prompt_id, beginning=beginning
            ),
            grows=True,
        )

    def begin_branch(self, user_id: int, key: str, *, reply_id: int, num_chars: int) -> Turn:
        """Store another reply beside `reply_id` that begins with its first `num_chars`."""
        return self._writer.call(
            lambda db: turns.begin_branch(db, user_id, key, reply_id=reply_id, num_chars=num_chars),
            grows=True,
        )

    def resume_reply(
        self, user_id: int, key: str, *, reply_id: int, although_cut: bool = False
    ) -> Turn:
        """Open a finished reply for more text after what it holds.

        Raises `Conflict` for one that the guard ended, unless `although_cut`, or that later
        messages follow.
        """
        return self._writer.call(
            lambda db: turns.resume_reply(
                db, user_id, key, reply_id=reply_id, although_cut=although_cut
            ),
            grows=True,
        )

    def append(self, reply_id: int, text: str) -> None:
        """Add text to a reply that is being written. Returns at once; durable within 100 ms."""
        self._writer.append(reply_id, text)

    def add_verdict(
        self, message_id: int, verdict: VerdictRecord, event: SafetyEvent | None = None
    ) -> None:
        """Keep a judgement of a message, and its line in the safety log."""

        def add(db: Database) -> None:
            evidence.add_verdict(db, message_id, verdict)
            if event is not None:
                safety_log.add(db, event)

        self._writer.call(add)

    def set_status(self, message_id: int, status: Status) -> None:
        """Give a message its status; one that leaves 'streaming' keeps all its text."""
        self._writer.call(lambda db: turns.set_status(db, message_id, status))

    def finish_reply(
        self,
        reply_id: int,
        *,
        status: Status,
        generation: Generation | None,
        verdicts: Sequence[VerdictRecord] = (),
        events: Sequence[SafetyEvent] = (),
        withheld: str = "",
        error_code: str = "",
    ) -> MessageRecord:
        """End a reply: its text, status, verdicts and costs in one transaction.

        `events` go to the safety log; `withheld` is kept beside the message. Raises `Conflict` if
        it is not being written, or for 'done' without a final verdict whose action lets it pass.
        """
        return self._writer.call(
            lambda db: turns.finish_reply(
                db,
                reply_id,
                status=status,
                generation=generation,
                verdicts=verdicts,
                events=events,
                withheld=withheld,
                error_code=error_code,
            )
        )

    def recent_runs(self, user_id: int, *, since: int, limit: int = 200) -> list[Generation]:
        """A user's engine runs since a time (ms, UTC), oldest first, the last `limit`."""
        with self._readers.snapshot() as db:
            return evidence.recent(db, user_id, since, limit)

    # Opinions

    def set_feedback(self, user_id: int, key: str, message_id: int, given: Feedback) -> None:
        """Keep a thumb and a note on an answer; neither removes what was there."""
        self._writer.call(
            lambda db: opinions.set_feedback(
                db, tree.message(db, conversations.get(db, user_id, key), message_id), given
            )
        )

    def compare(
        self, user_id: int, key: str, *, first_id: int, second_id: int, blind: bool
    ) -> Comparison:
        """Put two answers to one prompt side by side, to be rated."""

        def made(db: Database) -> Comparison:
            conversation = conversations.get(db, user_id, key)
            first, second = (tree.message(db, conversation, i) for i in (first_id, second_id))
            return opinions.compare(db, conversation, first, second, blind)

        return self._writer.call(made)

    def comparison(self, user_id: int, comparison_id: int) -> Comparison:
        """One comparison."""
        with self._readers.snapshot() as db:
            return opinions.comparison(db, user_id, comparison_id)

    def rate(
        self,
        user_id: int,
        comparison_id: int,
        *,
        helpfulness: int | None,
        safety: int | None,
        note: str = "",
    ) -> Comparison:
        """Keep which of two answers is preferred; see `Comparison` for the degrees."""
        return self._writer.call(
            lambda db: opinions.rate(db, user_id, comparison_id, helpfulness, safety, note)
        )

    def rated(self, user_id: int) -> list[tuple[str, Comparison]]:
        """All rated comparisons, oldest first, each with its conversation's key."""
        with self._readers.snapshot() as db:
            return opinions.rated(db, user_id)

    def liked(self, user_id: int) -> list[tuple[str, int]]:
        """(conversation key, message id) of all answers with a thumb up."""
        with self._readers.snapshot() as db:
            return opinions.liked(db, user_id)

    # Saved prompts, personas and presets

    def saved(self, user_id: int, kind: SavedKind) -> list[Saved]:
        """A user's own, by name."""
        with self._readers.snapshot() as db:
            return saved.listed(db, user_id, kind)

    def save(
        self, user_id: int, kind: SavedKind, name: str, body: str, *, use_case: str = ""
    ) -> list[Saved]:
        """Keep `body` under `name`, in place of what had that name; all of the kind."""
        return self._writer.call(
            lambda db: saved.save(db, user_id, kind, name, body, use_case), grows=True
        )

    def remove_saved(self, user_id: int, saved_id: int) -> None:
        """Remove one for good."""
        self._writer.call(lambda db: saved.remove(db, user_id, saved_id))

    def search(self, user_id: int, text: str, *, limit: int = 50) -> list[Hit]:
        """Titles and messages of all branches that hold all words of `text`, newest first.

        The last word also matches as a beginning. What lies in the trash is left out.
        """
        with self._readers.snapshot() as db:
            return search.find(db, user_id, text, limit)

    # Users

    def user(self, user_id: int) -> User:
        """A user who may sign in."""
        with self._readers.snapshot() as db:
            return accounts.user(db, user_id)

    def setting(self, user_id: int, name: str) -> str | None:
        """A user's setting, None if it was never set."""
        with self._readers.snapshot() as db:
            return accounts.setting(db, user_id, name)

    def settings(self, user_id: int) -> dict[str, str]:
        """All of a user's settings."""
        with self._readers.snapshot() as db:
            return accounts.settings(db, user_id)

    def set_setting(self, user_id: int, name: str, value: str | None) -> None:
        """Keep a user's setting; None removes it."""
        self._writer.call(lambda db: accounts.set_setting(db, user_id, name, value))

    def usage(self, user_id: int, day: str) -> Usage:
        """What a user's turns cost on a day, written 2026-01-31, in UTC."""
        with self._readers.snapshot() as db:
            return accounts.usage(db, user_id, day)

    def add_session(
        self, token_sha256: bytes, user_id: int, expires_at: int, agent: str = ""
    ) -> None:
        """Keep a signed-in browser: the SHA-256 of its token and when it ends (ms, UTC)."""
        self._writer.call(
            lambda db: accounts.add_session(db, token_sha256, user_id, expires_at, agent)
        )

    def session_user(
        self, token_sha256: bytes, *, idle_milliseconds: int = NEVER_IDLE
    ) -> User | None:
        """Whose session this is; None if it is unknown, expired, idle too long or revoked.

        `idle_milliseconds` is how long a session may go unseen (to within five minutes).
        """
        with self._readers.snapshot() as db:
            found = accounts.session_user(db, token_sha256, idle_milliseconds)
        if found is None:
            return None
        user, stale = found
        if stale and self._write_thread is not None:
            self._write_thread.submit(lambda db: accounts.mark_seen(db, token_sha256))
        return user

    def revoke_session(self, token_sha256: bytes) -> None:
        """Sign a browser out."""
        self._writer.call(lambda db: accounts.revoke_session(db, token_sha256))

    def revoke_sessions(self, user_id: int) -> None:
        """Sign all of a user's browsers out."""
        self._writer.call(lambda db: accounts.revoke_sessions(db, user_id))

    # Safety

    def record_safety(self, event: SafetyEvent) -> None:
        """Write a line to the safety log."""
        self._writer.call(lambda db: safety_log.add(db, event))

    def safety_events(
        self, *, user_id: int | None = None, limit: int = 200, outcome: str = "", category: str = ""
    ) -> list[SafetyEvent]:
        """The newest lines of the safety log, of one user or of all."""
        with self._readers.snapshot() as db:
            return safety_log.newest(
                db, user_id=user_id, limit=limit, outcome=outcome, category=category
            )

    def judged_messages(self, user_id: int, *, limit: int = 500) -> list[SafetyEvent]:
        """How a user's newest prompts and whole answers were judged, newest first."""
        with self._readers.snapshot() as db:
            return safety_log.whole_messages(db, user_id, limit)

    def digest(self, text: str) -> str:
        """The keyed hash under which the safety log speaks of `text`."""
        if self._digest_key is None:
            self._digest_key = self._writer.call(safety_log.digest_key)
        return safety_log.digest(self._digest_key, text)

    def withheld(self, user_id: int, key: str, message_id: int) -> str:
        """What the guard held back of an answer, "" if nothing is kept."""
        with self._readers.snapshot() as db:
            tree.message(db, conversations.get(db, user_id, key), message_id)
            return safety_log.withheld(db, message_id)

    def drop_withheld(self, *, older_than_days: int) -> int:
        """Forget held-back text that is older; say of how many answers it was."""
        return self._writer.call(lambda db: safety_log.drop_withheld(db, older_than_days))

    # Audit

    def record(self, actor: int | None, action: str, target: str = "", detail: str = "") -> None:
        """Write a line of audit: ids, scores and keyed hashes, never text."""
        self._writer.call(lambda db: audit.record(db, actor, action, target, detail))

    def audit(self, *, limit: int = 200) -> list[AuditEntry]:
        """The newest lines of the audit, newest first."""
        with self._readers.snapshot() as db:
            return audit.newest(db, limit)

    def audit_intact(self) -> bool:
        """Whether no line was changed or removed behind the store's back."""
        with self._readers.snapshot() as db:
            return audit.intact(db)

    # Backup

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
        self.people.remove(user_id)
        self._scrub()

    def _scrub(self) -> None:
        while self._writer.call(health.merge_index):
            pass
        self._writer.call(health.shrink, outside=True)
        self._writer.call(health.empty_wal, outside=True)
