"""The tables, as numbered migrations. A released migration is never edited; a new one is added.

Everything works on SQLite 3.40: STRICT tables, an external-content FTS5 table, no
`contentless_delete`. Every row that a user owns carries `user_id`, and composite foreign keys make
sure that a message cannot hang in another user's conversation. Three rules live in the database
itself: an assistant's message becomes 'done' only with a final verdict that does not block, audit
and safety log only grow, and the search index follows `search_entry`. The tables of the first
migration stand in `storage/tables/`.

Times are milliseconds since 1970, UTC; ids are never reused (AUTOINCREMENT), so that a late write
to a purged message cannot land in another one.
"""

from __future__ import annotations

from pathlib import Path

from sqlite_utils import Database, Migrations

_TABLES = Path(__file__).parent / "tables"

migrations = Migrations("corral")


@migrations()
def m001_first(db: Database) -> None:
    """Users, conversations, the message tree, what was generated and judged, search, audit."""
    for name in (
        "users",
        "people",
        "conversations",
        "records",
        "safety",
        "opinions",
        "search",
        "audit",
    ):
        db.executescript((_TABLES / f"{name}.sql").read_text(encoding="utf-8"))
