"""A user's own prompts, personas and sampling presets, each under a name.

Functions over an open database; `store.py` calls them.
"""

from __future__ import annotations

from storage.clock import now
from storage.connection import Database
from storage.records import Conflict, NotFound, Saved, SavedKind
from storage.text import well_formed

MOST = 500  # of one kind, for one user


def listed(db: Database, user_id: int, kind: SavedKind) -> list[Saved]:
    """All of a kind, by name."""
    rows = db.execute(
        "SELECT id, kind, use_case, name, body FROM saved WHERE user_id = ? AND kind = ? "
        "ORDER BY name COLLATE NOCASE, id",
        (user_id, kind),
    )
    return [Saved(*row) for row in rows]


def save(
    db: Database, user_id: int, kind: SavedKind, name: str, body: str, use_case: str
) -> list[Saved]:
    """Keep `body` under `name`, in place of what had that name."""
    if len(listed(db, user_id, kind)) >= MOST:
        raise Conflict("There is no room for more of these. Remove some first.")
    db.execute(
        "INSERT INTO saved (user_id, kind, use_case, name, body, at) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (user_id, kind, name) DO UPDATE SET use_case = excluded.use_case, "
        "body = excluded.body, at = excluded.at",
        (user_id, kind, well_formed(use_case), well_formed(name), well_formed(body), now()),
    )
    return listed(db, user_id, kind)


def remove(db: Database, user_id: int, saved_id: int) -> None:
    gone = db.execute("DELETE FROM saved WHERE id = ? AND user_id = ?", (saved_id, user_id))
    if gone.rowcount != 1:
        raise NotFound("This was removed already.")
