"""Conversations that come in whole: copies, forks, and documents in the layout of `export`.

A document is what `export` writes, or what `app.imports` made of another program's file. Nothing
of it is believed: a field of the wrong kind is left out or refused, and a reply without a verdict
that lets it pass is entered as not checked, so that it is marked as such wherever it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any, cast, get_args, get_origin, get_type_hints

from storage import conversations, evidence, export, opinions, search, tree
from storage.clock import now
from storage.connection import Database
from storage.records import (
    Conflict,
    Conversation,
    Feedback,
    Generation,
    StorageError,
    VerdictRecord,
)
from storage.text import title_from, well_formed

IMPORTED = "imported"  # stands as the guard of what no guard has judged
MAX_MESSAGES = 100_000
_STATUSES = ("done", "stopped", "interrupted", "blocked", "cut", "error")


class DocumentInvalid(StorageError):
    """What was to be imported is no conversation."""


def copied(
    db: Database, user_id: int, key: str, *, upto_id: int | None, title: str
) -> dict[str, Any]:
    """The document of a copy: all messages of `key`, or those on the path to `upto_id`."""
    original = conversations.get(db, user_id, key)
    if upto_id is None:
        messages = tree.whole(db, original)
    else:
        messages = tree.path(db, original, leaf_id=upto_id, last=None)
    if any(message.status == "streaming" for message in messages):
        raise Conflict("An answer is still being written here. Wait for its end, or stop it.")
    leaf = replace(original, active_leaf_id=upto_id or original.active_leaf_id)
    made = export.layout("", leaf, messages)
    at = now()
    made |= {"title": title, "key": "", "pinned": False, "archived_at": None, "trashed_at": None}
    return {**made, "created_at": at, "updated_at": at}


def add(db: Database, user_id: int, document: Mapping[str, Any]) -> Conversation:
    """Enter one conversation. Raises `DocumentInvalid`, or `Conflict` if it is here already.

    Its key is kept where it is free, so that the same file is not entered twice.
    """
    messages = document.get("messages")
    if not isinstance(messages, list) or len(messages) > MAX_MESSAGES:
        raise DocumentInvalid("This is no conversation: it has no list of messages.")
    key = _text(document, "key")
    if (
        key
        and db.execute(
            "SELECT 1 FROM conversation WHERE key = ? AND user_id = ?", (key, user_id)
        ).fetchone()
    ):
        raise Conflict("This conversation is here already.")
    choices = document.get("choices")
    made = conversations.create(
        db,
        user_id,
        _text(document, "title") or _first_words(messages),
        _text(document, "system_prompt"),
        choices if isinstance(choices, dict) else {},
    )
    ids = _add_messages(db, made, messages)
    _add_comparisons(db, made, ids, document.get("comparisons"))
    at = now()
    tags = document.get("tags")
    db.execute(
        "UPDATE conversation SET key = ?, created_at = ?, updated_at = ?, pinned = ?, "
        "archived_at = ?, trashed_at = ?, tags = ?, active_leaf_id = ? WHERE id = ?",
        (
            key if key and not _known(db, key) else made.key,
            _whole(document, "created_at") or at,
            _whole(document, "updated_at") or at,
            int(document.get("pinned") is True),
            _whole(document, "archived_at"),
            _whole(document, "trashed_at"),
            conversations.tags_json(tags if isinstance(tags, list) else ()),
            ids.get(_whole(document, "active_leaf") or 0, max(ids.values(), default=None)),
            made.id,
        ),
    )
    row = db.execute("SELECT key FROM conversation WHERE id = ?", (made.id,)).fetchone()
    return conversations.get(db, user_id, row[0])


def _add_messages(
    db: Database, conversation: Conversation, messages: Sequence[object]
) -> dict[int, int]:
    """Enter the messages, parents first; their numbers in the document → their ids."""
    ids: dict[int, int] = {}
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ("user", "assistant"):
            continue
        number, parent = _whole(message, "id"), _whole(message, "parent")
        if number is None or number in ids or (parent is not None and parent not in ids):
            raise DocumentInvalid("A message stands before the one that it answers.")
        ids[number] = _add_message(db, conversation, message, ids.get(parent or 0))
    return ids


def _add_message(
    db: Database, conversation: Conversation, message: Mapping[str, Any], parent_id: int | None
) -> int:
    status, verdicts = _judged(message)
    awaits_verdict = message["role"] == "assistant" and status == "done"
    content = _text(message, "content")
    created_at = _whole(message, "created_at") or now()
    cursor = db.execute(
        "INSERT INTO message (user_id, conversation_id, parent_id, role, status, content, "
        "error_code, created_at, updated_at, removed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            conversation.user_id,
            conversation.id,
            parent_id,
            message["role"],
            "interrupted" if awaits_verdict else status,
            content,
            _text(message, "error_code"),
            created_at,
            _whole(message, "updated_at") or created_at,
            _whole(message, "removed_at"),
        ),
    )
    message_id = cursor.lastrowid
    assert message_id is not None
    for verdict in verdicts:
        evidence.add_verdict(db, message_id, verdict)
    for generation in _records(Generation, message.get("generations")):
        evidence.add_generation(db, message_id, generation, counts=False)
    if awaits_verdict:
        db.execute("UPDATE message SET status = 'done' WHERE id = ?", (message_id,))
    for feedback in _records(Feedback, [message.get("feedback")]):
        opinions.set_feedback(db, tree.by_id(db, message_id), feedback)
    search.index_message(
        db,
        user_id=conversation.user_id,
        conversation_id=conversation.id,
        message_id=message_id,
        content=content,
        at=created_at,
    )
    return message_id


def _judged(message: Mapping[str, Any]) -> tuple[str, list[VerdictRecord]]:
    """A message's status and verdicts, made to agree: a whole reply has a final verdict."""
    verdicts = list(_records(VerdictRecord, message.get("verdicts")))
    status = message.get("status")
    if message["role"] != "assistant":
        return status if status in _STATUSES else "done", verdicts
    if status not in _STATUSES:
        return "interrupted", verdicts
    judged = [verdict for verdict in verdicts if verdict.stage == "final"]
    if status == "done" and not judged:
        verdicts.append(VerdictRecord("final", IMPORTED, "", "unchecked", 0.0, at=now()))
    elif status == "done" and judged[-1].action == "block":
        status = "cut"
    return status, verdicts


def _add_comparisons(
    db: Database, conversation: Conversation, ids: Mapping[int, int], rows: object
) -> None:
    """Enter who was preferred; what names no two answers to one prompt is left out."""
    for row in rows if isinstance(rows, list) else ():
        if not isinstance(row, dict):
            continue
        first, second = (ids.get(_whole(row, name) or 0) for name in ("first", "second"))
        db.execute(
            "INSERT OR IGNORE INTO comparison (user_id, conversation_id, prompt_id, first_id, "
            "second_id, blind, helpfulness, safety, note, at) "
            "SELECT ?, ?, a.parent_id, a.id, b.id, ?, ?, ?, ?, ? FROM message AS a "
            "JOIN message AS b ON b.parent_id = a.parent_id AND b.id <> a.id "
            "WHERE a.id = ? AND b.id = ? AND a.role = 'assistant' AND b.role = 'assistant'",
            (
                *(conversation.user_id, conversation.id, int(row.get("blind") is True)),
                *(_degree(row.get("helpfulness")), _degree(row.get("safety"))),
                *(_text(row, "note"), _whole(row, "at") or now(), first, second),
            ),
        )


def _degree(value: object) -> int | None:
    """A degree of preference as `Comparison` has it; None for anything else."""
    right = isinstance(value, int) and not isinstance(value, bool) and 1 <= abs(value) <= 4
    return value if right else None  # type: ignore[return-value]  # it is a whole number


def _records(kind: type[Any], rows: object) -> Iterable[Any]:
    """Records of `kind` from a document; one that lacks a field or has a wrong one is left out."""
    hints = get_type_hints(kind)
    for row in rows if isinstance(rows, list | tuple) else ():
        if not isinstance(row, dict):
            continue
        values = {name: row[name] for name in hints if name in row}
        needed = {f.name for f in fields(kind) if f.default is f.default_factory is MISSING}
        if needed <= set(values) and all(_fits(hints[n], v) for n, v in values.items()):
            yield kind(**{name: _made(hints[name], value) for name, value in values.items()})


def _made(hint: Any, value: object) -> object:
    """A value of a document as a field has it: a list of objects becomes records."""
    inner: Any = (*get_args(hint), None)[0]
    return tuple(_records(cast("type[Any]", inner), value)) if is_dataclass(inner) else value


def _fits(hint: Any, value: object) -> bool:
    """Whether a JSON value may stand in a record's field of this type."""
    choices = get_args(hint)
    origin = get_origin(hint)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**64
    if hint is str:
        return isinstance(value, str)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, dict)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Sequence):
        if is_dataclass(choices[0]):
            return isinstance(value, list | tuple)
        return isinstance(value, list | tuple) and all(
            type(n) is int and 0 <= n < 2**32 for n in value
        )
    return value in choices


def _first_words(messages: Sequence[object]) -> str:
    prompts = (m for m in messages if isinstance(m, dict) and m.get("role") == "user")
    return next((title_from(_text(prompt, "content")) for prompt in prompts), "")


def _known(db: Database, key: str) -> bool:
    return db.execute("SELECT 1 FROM conversation WHERE key = ?", (key,)).fetchone() is not None


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    return well_formed(value) if isinstance(value, str) else ""


def _whole(values: Mapping[str, Any], name: str) -> int | None:
    value = values.get(name)
    right = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62
    return value if right else None
