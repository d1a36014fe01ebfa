"""Everything that was said, as one JSON document that loses nothing.

Layout, version 1::

    {"format": "corral-conversations", "version": 1, "exported_at": ms,
     "conversations": [
        {"key", "user", "title", "system_prompt", "choices", "created_at", "updated_at",
         "pinned", "archived_at", "trashed_at", "tags": [...], "active_leaf": n | null,
         "messages": [
            {"id": n, "parent": n | null, "role", "status", "content", "error_code",
             "created_at", "updated_at", "removed_at", "feedback": {...} | null, "verdicts": [...],
             "generations": [...]}],
         "comparisons": [{"first": n, "second": n, "blind", "helpfulness", "safety", "note",
             "at"}]}]}

Messages are numbered from 1 within their conversation, parents before children, so that the same
tree gives the same document whatever its ids in a database are. Verdicts and generations have the
fields of `records`. Text is written as UTF-8; passwords, sessions and settings are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, TextIO

from storage import conversations, opinions, tree
from storage.clock import now
from storage.connection import Database
from storage.records import Comparison, Conversation, MessageRecord

FORMAT = "corral-conversations"
VERSION = 1


def write(db: Database, out: TextIO, *, user_id: int | None = None) -> int:
    """Write all conversations (of one user), trashed ones too; return how many.

    One conversation is in memory at a time.
    """
    head = {"format": FORMAT, "version": VERSION, "exported_at": now()}
    out.write(_dump(head)[:-1] + ',"conversations":[')
    count = 0
    for name, conversation in _all(db, user_id):
        out.write(",\n" if count else "\n")
        out.write(_dump(document(db, name, conversation)))
        count += 1
    out.write("\n]}\n")
    return count


def document(db: Database, user_name: str, conversation: Conversation) -> dict[str, Any]:
    """One conversation in the layout above."""
    compared = opinions.of_conversation(db, conversation.id)
    return layout(user_name, conversation, tree.whole(db, conversation), compared)


def layout(
    user_name: str,
    conversation: Conversation,
    messages: Sequence[MessageRecord],
    compared: Sequence[Comparison] = (),
) -> dict[str, Any]:
    """A conversation with these messages, parents before children."""
    number = {message.id: n for n, message in enumerate(messages, 1)}
    active = conversation.active_leaf_id
    return {
        "key": conversation.key,
        "user": user_name,
        "title": conversation.title,
        "system_prompt": conversation.system_prompt,
        "choices": dict(conversation.choices),
        "created_at": conversation.created_at,
        "updated_at": conversation.updated_at,
        "pinned": conversation.pinned,
        "archived_at": conversation.archived_at,
        "trashed_at": conversation.trashed_at,
        "tags": list(conversation.tags),
        "active_leaf": None if active is None else number.get(active),
        "messages": [_message(message, number) for message in messages],
        "comparisons": [_comparison(one, number) for one in compared],
    }


def _all(db: Database, user_id: int | None) -> Iterator[tuple[str, Conversation]]:
    rows = db.execute(
        "SELECT u.name, u.id, c.key FROM conversation AS c JOIN user AS u ON u.id = c.user_id "
        "WHERE ? IS NULL OR u.id = ? ORDER BY c.id",
        (user_id, user_id),
    ).fetchall()
    for name, owner, key in rows:
        yield name, conversations.get(db, owner, key)


def _message(message: MessageRecord, number: dict[int, int]) -> dict[str, Any]:
    return {
        "id": number[message.id],
        "parent": None if message.parent_id is None else number[message.parent_id],
        "role": message.role,
        "status": message.status,
        "content": message.content,
        "error_code": message.error_code,
        "created_at": message.created_at,
        "updated_at": message.updated_at,
        "removed_at": message.removed_at,
        "feedback": asdict(message.feedback) if message.feedback else None,
        "verdicts": [asdict(verdict) for verdict in message.verdicts],
        "generations": [asdict(generation) for generation in message.generations],
    }


def _comparison(one: Comparison, number: dict[int, int]) -> dict[str, Any]:
    return {
        "first": number[one.first_id],
        "second": number[one.second_id],
        "blind": one.blind,
        "helpfulness": one.helpfulness,
        "safety": one.safety,
        "note": one.note,
        "at": one.at,
    }


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
