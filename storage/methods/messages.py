"""The store on the message tree and on turns as they are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from storage import accounts, conversations, evidence, safety_log, tree, turns
from storage.connection import Database
from storage.methods.access import Access
from storage.records import (
    Conversation,
    Generation,
    MessageRecord,
    SafetyEvent,
    Status,
    Turn,
    VerdictRecord,
)


class MessageMethods(Access):
    """What concerns single messages. All methods block but `append`."""

    def path(
        self, user_id: int, key: str, *, leaf_id: int | None = None, last: int | None = None
    ) -> list[MessageRecord]:
        """Root to the active leaf (or `leaf_id`), or the `last` messages of that.

        Versions, verdicts and generations are filled in. A reply that is being written shows what
        was committed of it, at most 100 ms old.
        """
        with self._reading(key) as db:
            conversation = conversations.get(db, user_id, key)
            return tree.path(db, conversation, leaf_id=leaf_id, last=last)

    def path_length(self, user_id: int, key: str) -> int:
        """How many messages stand on the path to the active leaf."""
        with self._reading(key) as db:
            return tree.path_length(db, conversations.get(db, user_id, key))

    def message(self, user_id: int, key: str, message_id: int) -> MessageRecord:
        """One message of a conversation, on whatever branch."""
        with self._reading(key) as db:
            return tree.message(db, conversations.get(db, user_id, key), message_id)

    def select_version(self, user_id: int, key: str, message_id: int) -> Conversation:
        """Make the branch through a message the active one, down to its newest leaf."""
        return self._writing(key).call(
            lambda db: tree.select_version(db, conversations.get(db, user_id, key), message_id)
        )

    def remove_branch(self, user_id: int, key: str, message_id: int) -> Conversation:
        """Take a message and what follows it out of the tree; `restore_branch` undoes it."""
        return self._writing(key).call(
            lambda db: tree.remove_branch(db, conversations.get(db, user_id, key), message_id)
        )

    def restore_branch(self, user_id: int, key: str, message_id: int) -> Conversation:
        """Put a removed message, and what was removed with it, back and show it."""
        return self._writing(key).call(
            lambda db: tree.restore_branch(db, conversations.get(db, user_id, key), message_id)
        )

    def begin_turn(
        self, user_id: int, key: str, *, parent_id: int | None, text: str, client_key: str
    ) -> Turn:
        """Store a prompt and an empty reply to it, which becomes the active leaf.

        `parent_id` is the reply that the prompt follows, or None for a first message. The same
        `client_key` again gives the turn that it began. The first prompt names the conversation.
        Raises `Conflict` if the parent is a prompt or a reply that is still being written.
        """
        return self._writing(key).call(
            lambda db: turns.begin_turn(
                db, user_id, key, parent_id=parent_id, text=text, client_key=client_key
            ),
            grows=True,
        )

    def begin_reply(self, user_id: int, key: str, *, prompt_id: int, beginning: str = "") -> Turn:
        """Store another reply to a prompt, with its first words or none; the new active leaf."""
        return self._writing(key).call(
            lambda db: turns.begin_reply(
                db, user_id, key, prompt_id=prompt_id, beginning=beginning
            ),
            grows=True,
        )

    def begin_branch(self, user_id: int, key: str, *, reply_id: int, num_chars: int) -> Turn:
        """Store another reply beside `reply_id` that begins with its first `num_chars`."""
        return self._writing(key).call(
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
        return self._writing(key).call(
            lambda db: turns.resume_reply(
                db, user_id, key, reply_id=reply_id, although_cut=although_cut
            ),
            grows=True,
        )

    def append(self, reply_id: int, text: str) -> None:
        """Add text to a reply that is being written. Returns at once; durable within 100 ms."""
        self._writing(reply_id).append(reply_id, text)

    def add_verdict(
        self, message_id: int, verdict: VerdictRecord, event: SafetyEvent | None = None
    ) -> None:
        """Keep a judgement of a message, and its line in the safety log."""
        events = self._logged(message_id, [] if event is None else [event])

        def add(db: Database) -> None:
            evidence.add_verdict(db, message_id, verdict)
            for each in events:
                safety_log.add(db, each)

        self._writing(message_id).call(add)

    def set_status(self, message_id: int, status: Status) -> None:
        """Give a message its status; one that leaves 'streaming' keeps all its text."""
        self._writing(message_id).call(lambda db: turns.set_status(db, message_id, status))

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
        events = self._logged(reply_id, events, generation)
        return self._writing(reply_id).call(
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

    def _logged(
        self, message_id: int, events: Sequence[SafetyEvent], run: Generation | None = None
    ) -> Sequence[SafetyEvent]:
        """The events that belong beside the message.

        What was judged and used up in a temporary conversation counts as ever: without a word of
        it, the log and the day's use are kept on the disk.
        """
        memory = self.temporary.find(message_id)
        if memory is None:
            return events

        def keep(db: Database) -> None:
            for event in events:
                safety_log.add(db, replace(event, user_id=memory.user_id))
            if run is not None:
                accounts.add_usage(
                    db, memory.user_id, num_prompt=run.num_prompt, num_new=run.num_new
                )

        self._writer.call(keep)
        return ()
