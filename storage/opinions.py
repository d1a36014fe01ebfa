"""What people think of answers: thumbs, notes, and which of two they prefer.

Functions over an open database; `store.py` calls them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from storage.clock import now
from storage.connection import Database
from storage.records import Comparison, Conflict, Conversation, Feedback, MessageRecord, NotFound
from storage.text import well_formed

_COLUMNS = (
    "id, conversation_id, prompt_id, first_id, second_id, blind, helpfulness, safety, note, at"
)


def set_feedback(db: Database, message: MessageRecord, given: Feedback) -> None:
    """Keep a thumb and a note; neither removes what was there."""
    if message.role != "assistant":
        raise Conflict("Only an answer is rated. Reload the conversation.")
    if not given.thumb and not given.note:
        db.execute("DELETE FROM feedback WHERE message_id = ?", (message.id,))
        return
    db.execute(
        "INSERT INTO feedback (message_id, thumb, note, at) VALUES (?, ?, ?, ?) ON CONFLICT "
        "(message_id) DO UPDATE SET thumb = excluded.thumb, note = excluded.note, at = excluded.at",
        (message.id, given.thumb, well_formed(given.note), now()),
    )


def feedback(db: Database, ids: Iterable[int]) -> dict[int, Feedback]:
    """What was said of each message."""
    rows = db.execute(
        "SELECT f.message_id, f.thumb, f.note FROM json_each(?) AS i "
        "CROSS JOIN feedback AS f ON f.message_id = i.value",
        (json.dumps(list(ids)),),
    )
    return {row[0]: Feedback(row[1], row[2]) for row in rows}


def compare(
    db: Database,
    conversation: Conversation,
    first: MessageRecord,
    second: MessageRecord,
    blind: bool,
) -> Comparison:
    """Put two answers to one prompt side by side; the same two again give what is there."""
    same_place = first.parent_id == second.parent_id and first.id != second.id
    if first.role != "assistant" or not same_place or first.parent_id is None:
        raise Conflict("Only two answers to one prompt are compared. Reload the conversation.")
    pair = (first.id, second.id)
    known = db.execute(
        f"SELECT {_COLUMNS} FROM comparison WHERE (first_id, second_id) IN "
        "((?1, ?2), (?2, ?1)) AND blind = ?3",
        (*pair, int(blind)),
    ).fetchone()
    if known is not None:
        return _comparison(known)
    made = db.execute(
        "INSERT OR REPLACE INTO comparison (user_id, conversation_id, prompt_id, first_id, "
        "second_id, blind, note, at) VALUES (?, ?, ?, ?, ?, ?, '', ?)",
        (conversation.user_id, conversation.id, first.parent_id, *pair, int(blind), now()),
    ).lastrowid
    return comparison(db, conversation.user_id, int(made or 0))


def rate(
    db: Database,
    user_id: int,
    comparison_id: int,
    helpfulness: int | None,
    safety: int | None,
    note: str,
) -> Comparison:
    """Keep a person's preference; None takes it back."""
    comparison(db, user_id, comparison_id)
    db.execute(
        "UPDATE comparison SET helpfulness = ?, safety = ?, note = ?, at = ? WHERE id = ?",
        (helpfulness, safety, well_formed(note), now(), comparison_id),
    )
    return comparison(db, user_id, comparison_id)


def comparison(db: Database, user_id: int, comparison_id: int) -> Comparison:
    row = db.execute(
        f"SELECT {_COLUMNS} FROM comparison WHERE id = ? AND user_id = ?", (comparison_id, user_id)
    ).fetchone()
    if row is None:
        raise NotFound("This comparison does not exist any more. Compare the answers anew.")
    return _comparison(row)


def of_conversation(db: Database, conversation_id: int) -> list[Comparison]:
    """All comparisons of a conversation, rated or not, oldest first."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM comparison WHERE conversation_id = ? ORDER BY id",
        (conversation_id,),
    )
    return [_comparison(row) for row in rows]


def rated(db: Database, user_id: int) -> list[tuple[str, Comparison]]:
    """All comparisons with a rating, oldest first, each with its conversation's key.

    What lies in the trash or was removed does not count.
    """
    columns = ", ".join(f"p.{name.strip()}" for name in _COLUMNS.split(","))
    rows = db.execute(
        f"SELECT c.key, {columns} FROM comparison AS p JOIN conversation AS c "
        "ON c.id = p.conversation_id JOIN message AS a ON a.id = p.first_id "
        "JOIN message AS b ON b.id = p.second_id WHERE p.user_id = ? AND c.trashed_at IS NULL "
        "AND coalesce(a.removed_at, b.removed_at) IS NULL "
        "AND coalesce(p.helpfulness, p.safety) IS NOT NULL ORDER BY p.id",
        (user_id,),
    )
    return [(row[0], _comparison(row[1:])) for row in rows]


def liked(db: Database, user_id: int) -> list[tuple[str, int]]:
    """(conversation key, message id) of all answers with a thumb up, oldest first."""
    rows = db.execute(
        "SELECT c.key, m.id FROM message AS m JOIN feedback AS f ON f.message_id = m.id "
        "JOIN conversation AS c ON c.id = m.conversation_id "
        "WHERE m.user_id = ? AND f.thumb = 1 AND c.trashed_at IS NULL AND m.removed_at IS NULL "
        "ORDER BY m.id",
        (user_id,),
    )
    return [(row[0], row[1]) for row in rows]


def _comparison(row: Any) -> Comparison:
    id, conversation_id, prompt_id, first_id, second_id, blind, *rest = row
    return Comparison(id, conversation_id, prompt_id, first_id, second_id, bool(blind), *rest)
