"""The message tree as it is read: paths, messages, versions. Functions over an open database.

A conversation is a tree of messages with one active leaf; what the page shows is the path from a
root to that leaf. Nothing here loads the tree: a path follows parents with a recursive query, and
versions are counted for the messages shown only.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from storage import evidence, opinions
from storage.clock import now
from storage.connection import Database
from storage.records import Conflict, Conversation, MessageRecord, NotFound

_COLUMNS = (
    "m.id, m.conversation_id, m.parent_id, m.role, m.status, m.content, m.created_at, "
    "m.updated_at, m.error_code, m.removed_at"
)
_ALL = 2**62
_BELOW = (
    "WITH RECURSIVE down (id) AS (SELECT ? UNION ALL SELECT m.id FROM down"
    " CROSS JOIN message AS m ON m.conversation_id = ? AND m.parent_id = down.id) "
    "SELECT id FROM down"
)


def path(
    db: Database, conversation: Conversation, *, leaf_id: int | None, last: int | None
) -> list[MessageRecord]:
    """Root to leaf, or the `last` messages of that. A conversation without messages has none."""
    leaf = conversation.active_leaf_id if leaf_id is None else leaf_id
    if leaf is None:
        return []
    _row(db, conversation.id, leaf)
    rows = db.execute(
        "WITH RECURSIVE up (id, parent_id, depth) AS ("
        " SELECT id, parent_id, 1 FROM message WHERE id = ?"
        " UNION ALL SELECT m.id, m.parent_id, depth + 1 FROM up"
        " CROSS JOIN message AS m ON m.id = up.parent_id WHERE depth < ?) "
        f"SELECT {_COLUMNS} FROM up CROSS JOIN message AS m ON m.id = up.id ORDER BY depth DESC",
        (leaf, _ALL if last is None else last),
    ).fetchall()
    return _filled(db, rows) if last != 0 else []


def path_length(db: Database, conversation: Conversation) -> int:
    """How many messages stand between a root and the active leaf, both counted."""
    row = db.execute(
        "WITH RECURSIVE up (id, parent_id) AS ("
        " SELECT id, parent_id FROM message WHERE id = ?"
        " UNION ALL SELECT m.id, m.parent_id FROM up"
        " CROSS JOIN message AS m ON m.id = up.parent_id) SELECT count(*) FROM up",
        (conversation.active_leaf_id,),
    ).fetchone()
    return int(row[0])


def message(db: Database, conversation: Conversation, message_id: int) -> MessageRecord:
    return _filled(db, [_row(db, conversation.id, message_id)])[0]


def whole(db: Database, conversation: Conversation) -> list[MessageRecord]:
    """All messages of a conversation, oldest first: for exports, never for a page."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM message AS m WHERE conversation_id = ? ORDER BY id",
        (conversation.id,),
    ).fetchall()
    return _filled(db, rows)


def by_id(db: Database, message_id: int) -> MessageRecord:
    """A message whoever owns it: for the server's own use, after it was handed out."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM message AS m WHERE id = ?", (message_id,)).fetchall()
    if not rows:
        raise NotFound("This message does not exist any more. Reload the conversation.")
    return _filled(db, rows)[0]


def select_version(db: Database, conversation: Conversation, message_id: int) -> Conversation:
    """Make the branch through `message_id` the active one, down to its newest leaf."""
    _row(db, conversation.id, message_id)
    # Ids ascend, so the newest message below is a leaf.
    leaf = db.execute(
        "WITH RECURSIVE down (id) AS (SELECT ? UNION ALL SELECT m.id FROM down"
        " CROSS JOIN message AS m ON m.conversation_id = ?"
        " AND m.parent_id = down.id AND m.removed_at IS NULL) "
        "SELECT max(id) FROM down",
        (message_id, conversation.id),
    ).fetchone()[0]
    db.execute("UPDATE conversation SET active_leaf_id = ? WHERE id = ?", (leaf, conversation.id))
    return replace(conversation, active_leaf_id=leaf)


def remove_branch(db: Database, conversation: Conversation, message_id: int) -> Conversation:
    """Take a message, and what stands under it, out of the tree; `restore_branch` undoes it.

    An only answer goes with its prompt. What stood beside it, or else before it, becomes active.
    """
    place = message(db, conversation, message_id)
    if place.role == "assistant" and place.num_versions == 1 and place.parent_id is not None:
        place = message(db, conversation, place.parent_id)
    below = [row[0] for row in db.execute(_BELOW, (place.id, conversation.id))]
    marks = ", ".join("?" * len(below))
    if db.execute(
        f"SELECT 1 FROM message WHERE id IN ({marks}) AND status = 'streaming'", below
    ).fetchone():
        raise Conflict("An answer is still being written here. Wait for its end, or stop it.")
    # The newest time must be new: what was removed together is restored together.
    last = db.execute(
        "SELECT coalesce(max(removed_at), 0) FROM message WHERE conversation_id = ?",
        (conversation.id,),
    ).fetchone()[0]
    db.execute(
        f"UPDATE message SET removed_at = ? WHERE id IN ({marks}) AND removed_at IS NULL",
        (max(now(), last + 1), *below),
    )
    if conversation.active_leaf_id not in below:
        return conversation
    beside = [other for other in place.sibling_ids if other != place.id]
    if beside:
        return select_version(db, conversation, beside[-1])
    db.execute(
        "UPDATE conversation SET active_leaf_id = ? WHERE id = ?",
        (place.parent_id, conversation.id),
    )
    return replace(conversation, active_leaf_id=place.parent_id)


def restore_branch(db: Database, conversation: Conversation, message_id: int) -> Conversation:
    """Undo the removal of a message, with all that was removed together with it."""
    place = message(db, conversation, message_id)
    db.execute(
        "UPDATE message SET removed_at = NULL WHERE conversation_id = ? AND removed_at = ?",
        (conversation.id, place.removed_at),
    )
    return select_version(db, conversation, message_id)


def _row(db: Database, conversation_id: int, message_id: int) -> Any:
    row = db.execute(
        f"SELECT {_COLUMNS} FROM message AS m WHERE id = ? AND conversation_id = ?",
        (message_id, conversation_id),
    ).fetchone()
    if row is None:
        raise NotFound("This message does not exist any more. Reload the conversation.")
    return row


def _filled(db: Database, rows: Sequence[Any]) -> list[MessageRecord]:
    """Records with versions, verdicts and generations; streaming text as far as it is stored."""
    ids = [row[0] for row in rows]
    siblings = _siblings(db, rows)
    verdicts = evidence.verdicts(db, ids)
    generations = evidence.generations(db, ids)
    feedback = opinions.feedback(db, ids)
    streamed = chunks(db, [row[0] for row in rows if row[4] == "streaming"])
    records = []
    for row in rows:
        places = siblings.get(row[2], ())
        records.append(
            MessageRecord(
                id=row[0],
                conversation_id=row[1],
                parent_id=row[2],
                role=row[3],
                status=row[4],
                content=row[5] + streamed.get(row[0], ""),
                created_at=row[6],
                updated_at=row[7],
                version=places.index(row[0]) + 1 if row[0] in places else 1,
                num_versions=len(places),
                sibling_ids=places,
                verdicts=tuple(verdicts.get(row[0], ())),
                generations=tuple(generations.get(row[0], ())),
                error_code=row[8],
                removed_at=row[9],
                feedback=feedback.get(row[0]),
            )
        )
    return records


def _siblings(db: Database, rows: Sequence[Any]) -> dict[int | None, tuple[int, ...]]:
    """Ids below each parent of `rows` in order of age; roots are siblings of each other."""
    found: dict[int | None, list[int]] = defaultdict(list)
    parents = {row[2] for row in rows}
    conversation_id = rows[0][1] if rows else 0
    if None in parents:
        for (root,) in db.execute(
            "SELECT id FROM message WHERE conversation_id = ? AND parent_id IS NULL "
            "AND removed_at IS NULL ORDER BY id",
            (conversation_id,),
        ):
            found[None].append(root)
    for parent, child in db.execute(
        "SELECT m.parent_id, m.id FROM json_each(?) AS p CROSS JOIN message AS m "
        "ON m.conversation_id = ? AND m.parent_id = p.value AND m.removed_at IS NULL ORDER BY m.id",
        (_list(parents), conversation_id),
    ):
        found[parent].append(child)
    return {parent: tuple(children) for parent, children in found.items()}


def chunks(db: Database, ids: Iterable[int]) -> dict[int, str]:
    """Streamed text that is not yet part of its message, joined."""
    texts: dict[int, list[str]] = defaultdict(list)
    for message_id, text in db.execute(
        "SELECT k.message_id, k.text FROM json_each(?) AS i CROSS JOIN message_chunk AS k "
        "ON k.message_id = i.value ORDER BY k.message_id, k.seq",
        (_list(ids),),
    ):
        texts[message_id].append(text)
    return {message_id: "".join(parts) for message_id, parts in texts.items()}


def _list(ids: Iterable[int | None]) -> str:
    return json.dumps([value for value in ids if value is not None])
