"""Full-text search over titles and all messages, other branches included.

The MATCH string is built here: each word becomes a quoted phrase (quotes doubled, so nothing in
it is an operator), Han characters are split as in the index and so form a phrase, the last word
also matches as a beginning, and a scope term keeps other users' rows out of the index walk. The
join repeats `user_id`, so that even a broken MATCH string could not widen what is seen.
"""

from __future__ import annotations

from storage.connection import Database
from storage.records import Conversation, Hit
from storage.text import MARK_END, MARK_START, SPLIT, ends_in_han, search_body, well_formed

_MAX_WORDS = 16
_MAX_CHARACTERS = 400
_SNIPPET_TOKENS = 24


def index_message(
    db: Database, *, user_id: int, conversation_id: int, message_id: int, content: str, at: int
) -> None:
    """Enter a message, in place of what was entered for it before."""
    db.execute("DELETE FROM search_entry WHERE message_id = ?", (message_id,))
    if content:
        _enter(db, user_id, conversation_id, message_id, content, at)


def index_title(db: Database, conversation: Conversation, at: int) -> None:
    """Enter a title, in place of the one before."""
    db.execute(
        "DELETE FROM search_entry WHERE conversation_id = ? AND message_id IS NULL",
        (conversation.id,),
    )
    if conversation.title:
        _enter(db, conversation.user_id, conversation.id, None, conversation.title, at)


def find(db: Database, user_id: int, text: str, limit: int) -> list[Hit]:
    """Newest first. Nothing to look for (no letter or digit in `text`) finds nothing."""
    match = match_string(user_id, text)
    if not match:
        return []
    rows = db.execute(
        "SELECT c.key, c.title, e.message_id, m.role, e.at, "
        "snippet(search_index, 0, ?, ?, '…', ?) "
        "FROM search_index "
        "CROSS JOIN search_entry AS e ON e.id = search_index.rowid "
        "CROSS JOIN conversation AS c ON c.id = e.conversation_id "
        "LEFT JOIN message AS m ON m.id = e.message_id "
        "WHERE search_index MATCH ? AND e.user_id = ? AND c.user_id = ? "
        "AND c.trashed_at IS NULL AND m.removed_at IS NULL "
        "ORDER BY search_index.rowid DESC LIMIT ?",
        (MARK_START, MARK_END, _SNIPPET_TOKENS, match, user_id, user_id, limit),
    ).fetchall()
    return [
        Hit(key, title, message_id, role, *_unmark(snippet), at)
        for key, title, message_id, role, at, snippet in rows
    ]


def match_string(user_id: int, text: str) -> str:
    """The FTS5 expression for `text`, or "" if it holds nothing to look for.

    >>> match_string(7, "say hi")
    '{body} : ("say" AND "hi" *) AND {scope} : "u7"'
    """
    words = well_formed(text)[:_MAX_CHARACTERS].split()
    words = [word for word in words if any(map(_is_token_character, word))][:_MAX_WORDS]
    if not words:
        return ""
    phrases = ['"' + search_body(word).replace('"', '""') + '"' for word in words]
    # A beginning of one letter would walk a large part of the index; Han words are whole anyway.
    if sum(map(_is_token_character, words[-1])) > 1 and not ends_in_han(words[-1]):
        phrases[-1] += " *"
    return "{body} : (" + " AND ".join(phrases) + ') AND {scope} : "u' + str(int(user_id)) + '"'


def _enter(
    db: Database, user_id: int, conversation_id: int, message_id: int | None, text: str, at: int
) -> None:
    db.execute(
        "INSERT INTO search_entry (user_id, conversation_id, message_id, body, at) "
        "VALUES (?, ?, ?, ?, ?)",
        (user_id, conversation_id, message_id, search_body(text), at),
    )


def _is_token_character(character: str) -> bool:
    return character.isalnum() or "\ue000" <= character <= "\uf8ff"


def _unmark(snippet: str) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The readable text of a marked snippet, and where the marks were in it."""
    plain: list[str] = []
    marks: list[tuple[int, int]] = []
    length = start = 0
    for character in snippet:
        if character == MARK_START:
            start = length
        elif character == MARK_END:
            marks.append((start, length))
        elif character != SPLIT:
            plain.append(character)
            length += 1
    return "".join(plain), tuple(marks)
