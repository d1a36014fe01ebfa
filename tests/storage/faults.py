"""SQLite connections that fail when told to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from storage import connection
from storage.connection import sqlite3

WRITES = ("INSERT", "UPDATE", "DELETE", "COMMIT", "BEGIN", "SAVEPOINT", "RELEASE")
MESSAGES = {
    "SQLITE_FULL": "database or disk is full",
    "SQLITE_IOERR": "disk I/O error",
    "SQLITE_BUSY": "database is locked",
}


class Plan:
    """Fail the n-th write statement from now on (0: none) with one of `MESSAGES`."""

    def __init__(self) -> None:
        self.fail_at = 0
        self.kind = "SQLITE_FULL"
        self.seen = 0
        self.fired = 0

    def arm(self, fail_at: int, kind: str) -> None:
        self.fail_at, self.kind, self.seen = fail_at, kind, 0

    def disarm(self) -> None:
        self.fail_at = 0

    def check(self, connection: Any, sql: str) -> None:
        if not sql.lstrip().upper().startswith(WRITES):
            return
        self.seen += 1
        if self.seen != self.fail_at:
            return
        self.fired += 1
        if self.kind in ("SQLITE_FULL", "SQLITE_IOERR") and connection.in_transaction:
            connection.rollback()  # as SQLite itself does for these
        error = sqlite3.OperationalError(MESSAGES[self.kind])
        error.sqlite_errorcode = getattr(sqlite3, self.kind)
        error.sqlite_errorname = self.kind
        raise error


@contextmanager
def failing_writes(plan: Plan) -> Iterator[None]:
    """While this is open, connections made for writing follow `plan`."""
    real = sqlite3.connect

    class Failing(sqlite3.Connection):  # type: ignore[misc,name-defined,unused-ignore]
        def execute(self, sql: str, *args: Any) -> Any:
            plan.check(self, sql)
            return super().execute(sql, *args)

    def connect(database: str, **options: Any) -> Any:
        if "mode=rwc" in database:
            options["factory"] = Failing
        return real(database, **options)

    connection.sqlite3.connect = connect
    try:
        yield
    finally:
        connection.sqlite3.connect = real
