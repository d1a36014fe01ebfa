"""Turns as they are written: begin, stream, settle. Functions over an open database.

They run on the writer's thread inside a transaction; `store.py` calls them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from storage import conversations, evidence, safety_log, search, tree
from storage.clock import now
from storage.connection import Database
from storage.records import (
    Conflict,
    Conversation,
    Generation,
    MessageRecord,
    NotFound,
    Role,
    SafetyEvent,
    Status,
    Turn,
    VerdictRecord,
)
from storage.text import title_from, well_formed

_RESUMABLE = ("stopped", "interrupted", "done", "error")


def begin_turn(
    db: Database, user_id: int, key: str, *, parent_id: int | None, text: str, client_key: str
) -> Turn:
    conversation = conversations.get_open(db, user_id, key)
    text, client_key = well_formed(text), well_formed(client_key)
    if client_key and (earlier := _turn_of(db, conversation, client_key)):
        if earlier.prompt.content != text or earlier.prompt.parent_id != parent_id:
            raise Conflict("This message was already sent with other words. Reload the page.")
        return earlier
    if parent_id is not None:
        _check_parent(db, conversation, parent_id)
    at = now()
    prompt_id = _insert(
        db, conversation, parent_id, "user", "done", at, content=text, client_key=client_key or None
    )
    reply_id = _insert(db, conversation, prompt_id, "assistant", "streaming", at)
    _index(db, conversation, prompt_id, text, at)
    if conversations.draft(db, user_id, key) == text:
        conversations.keep_draft(db, user_id, key, "")
    if not conversation.title and parent_id is None and (title := title_from(text)):
        db.execute("UPDATE conversation SET title = ? WHERE id = ?", (title, conversation.id))
        search.index_title(db, replace(conversation, title=title), at)
    _activate(db, conversation.id, reply_id, at)
    return _turn(db, conversation, prompt_id, reply_id)


def begin_reply(
    db: Database, user_id: int, key: str, *, prompt_id: int, beginning: str = ""
) -> Turn:
    conversation = conversations.get_open(db, user_id, key)
    if tree.message(db, conversation, prompt_id).role != "user":
        raise Conflict("Only a prompt can be answered again. Reload the conversation.")
    at = now()
    reply_id = _insert(
        *(db, conversation, prompt_id, "assistant", "streaming", at),
        content=well_formed(beginning),
    )
    _activate(db, conversation.id, reply_id, at)
    return _turn(db, conversation, prompt_id, reply_id)


def begin_branch(db: Database, user_id: int, key: str, *, reply_id: int, num_chars: int) -> Turn:
    """Another reply to the same prompt, which begins as `reply_id` does."""
    conversation = conversations.get_open(db, user_id, key)
    reply = tree.message(db, conversation, reply_id)
    if reply.role != "assistant" or reply.status == "streaming" or reply.parent_id is None:
        raise Conflict("Only a finished answer can be branched. Reload the conversation.")
    at = now()
    beginning = reply.content[:num_chars]
    branch_id = _insert(
        db, conversation, reply.parent_id, "assistant", "streaming", at, content=beginning
    )
    _activate(db, conversation.id, branch_id, at)
    return _turn(db, conversation, reply.parent_id, branch_id)


def resume_reply(
    db: Database, user_id: int, key: str, *, reply_id: int, although_cut: bool = False
) -> Turn:
    """Open a reply for more text; one that the guard ended only with `although_cut`.

    Its final verdict covered only what was there: it becomes a partial one, so that the longer
    reply needs a final verdict of its own.
    """
    conversation = conversations.get_open(db, user_id, key)
    reply = tree.message(db, conversation, reply_id)
    resumable = (*_RESUMABLE, "cut") if although_cut else _RESUMABLE
    if reply.role != "assistant" or reply.status not in resumable or reply.parent_id is None:
        raise Conflict("This answer cannot be continued. Ask for another one instead.")
    children = db.execute(
        "SELECT 1 FROM message WHERE conversation_id = ? AND parent_id = ?",
        (conversation.id, reply_id),
    ).fetchone()
    if children:
        raise Conflict("The conversation went on after this answer. Ask for another one instead.")
    at = now()
    db.execute(
        "UPDATE verdict SET stage = 'partial' WHERE message_id = ? AND stage = 'final'", (reply_id,)
    )
    db.execute(
        "UPDATE message SET status = 'streaming', error_code = '', updated_at = ? WHERE id = ?",
        (at, reply_id),
    )
    _activate(db, conversation.id, reply_id, at)
    return _turn(db, conversation, reply.parent_id, reply_id)


def write_chunk(db: Database, message_id: int, text: str) -> None:
    """Add streamed text to a reply that is being written; a purged one takes nothing."""
    db.execute(
        "INSERT INTO message_chunk (message_id, seq, text) "
        "SELECT m.id, (SELECT coalesce(max(seq), 0) + 1 FROM message_chunk"
        " WHERE message_id = m.id), ? FROM message AS m WHERE m.id = ? AND m.status = 'streaming'",
        (well_formed(text), message_id),
    )


def set_status(db: Database, message_id: int, status: Status) -> None:
    found = _status(db, message_id)
    if found == "streaming" and status != "streaming":
        settle(db, message_id, status)
    elif found != status:
        if status == "streaming":
            raise Conflict("A finished message is continued by resuming it.")
        db.execute(
            "UPDATE message SET status = ?, updated_at = ? WHERE id = ?",
            (status, now(), message_id),
        )


def finish_reply(
    db: Database,
    reply_id: int,
    *,
    status: Status,
    generation: Generation | None,
    verdicts: Sequence[VerdictRecord],
    events: Sequence[SafetyEvent] = (),
    withheld: str = "",
    error_code: str,
) -> MessageRecord:
    if _status(db, reply_id) != "streaming":
        raise Conflict("This reply is already finished. Reload the conversation.")
    for verdict in verdicts:
        evidence.add_verdict(db, reply_id, verdict)
    for event in events:
        safety_log.add(db, event)
    if withheld:
        safety_log.keep_withheld(db, reply_id, withheld)
    if generation is not None:
        evidence.add_generation(db, reply_id, generation)
    settle(db, reply_id, status, error_code)
    return tree.by_id(db, reply_id)


def settle(db: Database, message_id: int, status: Status, error_code: str = "") -> None:
    """Join a streaming message's chunks into its content, give it its status, index it."""
    user_id, conversation_id, content = db.execute(
        "SELECT user_id, conversation_id, content FROM message WHERE id = ?", (message_id,)
    ).fetchone()
    content += tree.chunks(db, [message_id]).get(message_id, "")
    at = now()
    db.execute(
        "UPDATE message SET status = ?, content = ?, error_code = ?, updated_at = ? WHERE id = ?",
        (status, content, error_code, at, message_id),
    )
    db.execute("DELETE FROM message_chunk WHERE message_id = ?", (message_id,))
    search.index_message(
        db,
        user_id=user_id,
        conversation_id=conversation_id,
        message_id=message_id,
        content=content,
        at=at,
    )
    db.execute("UPDATE conversation SET updated_at = ? WHERE id = ?", (at, conversation_id))


def interrupt_all(db: Database) -> int:
    """After a crash: every message still streaming keeps what it has and is 'interrupted'."""
    ids = [row[0] for row in db.execute("SELECT id FROM message WHERE status = 'streaming'")]
    for message_id in ids:
        settle(db, message_id, "interrupted")
    return len(ids)


def _status(db: Database, message_id: int) -> str:
    row = db.execute("SELECT status FROM message WHERE id = ?", (message_id,)).fetchone()
    if row is None:
        raise NotFound("This message does not exist any more. Reload the conversation.")
    return str(row[0])


def _check_parent(db: Database, conversation: Conversation, parent_id: int) -> None:
    parent = tree.message(db, conversation, parent_id)
    if parent.role == "user":
        raise Conflict("A prompt follows a reply. Reload the conversation.")
    if parent.status == "streaming":
        raise Conflict("The reply before this prompt is still being written. Wait or stop it.")


def _insert(
    db: Database,
    conversation: Conversation,
    parent_id: int | None,
    role: Role,
    status: Status,
    at: int,
    *,
    content: str = "",
    client_key: str | None = None,
) -> int:
    cursor = db.execute(
        "INSERT INTO message (user_id, conversation_id, parent_id, role, status, content, "
        "client_key, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            conversation.user_id,
            conversation.id,
            parent_id,
            role,
            status,
            content,
            client_key,
            at,
            at,
        ),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _index(db: Database, conversation: Conversation, message_id: int, text: str, at: int) -> None:
    search.index_message(
        db,
        user_id=conversation.user_id,
        conversation_id=conversation.id,
        message_id=message_id,
        content=text,
        at=at,
    )


def _activate(db: Database, conversation_id: int, leaf_id: int, at: int) -> None:
    db.execute(
        "UPDATE conversation SET active_leaf_id = ?, updated_at = ? WHERE id = ?",
        (leaf_id, at, conversation_id),
    )


def _turn_of(db: Database, conversation: Conversation, client_key: str) -> Turn | None:
    """The turn that was begun with this client key, with its first reply."""
    row = db.execute(
        "SELECT m.id, (SELECT min(id) FROM message WHERE conversation_id = m.conversation_id"
        " AND parent_id = m.id) FROM message AS m WHERE conversation_id = ? AND client_key = ?",
        (conversation.id, client_key),
    ).fetchone()
    return _turn(db, conversation, row[0], row[1]) if row else None


def _turn(db: Database, conversation: Conversation, prompt_id: int, reply_id: int) -> Turn:
    return Turn(tree.message(db, conversation, prompt_id), tree.message(db, conversation, reply_id))
