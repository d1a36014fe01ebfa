"""`python -m storage`: look after a database from the command line.

Results go to stdout, everything else to stderr; an error is one sentence and a non-zero exit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from storage import backup, export, health, opening
from storage.connection import Database, Mode, connect, sqlite3, translate
from storage.folder import DATABASE, FolderLock
from storage.records import NotFound, StorageError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0 only if all is well."""
    options = _parser().parse_args(arguments)
    path: Path = options.database
    if path.is_dir():
        path = path / DATABASE
    try:
        if not path.is_file():
            raise NotFound(f"There is no database at {path}. Name the file or its data folder.")
        return _run(options, path)
    except sqlite3.Error as error:
        print(f"{path}: {translate(error)}", file=sys.stderr)
    except (StorageError, OSError) as error:
        print(error, file=sys.stderr)
    return 1


def _run(options: argparse.Namespace, path: Path) -> int:
    match options.command:
        case "check":
            return _check(path)
        case "backup":
            print(backup.make(path, options.folder, reason=options.reason))
        case "export":
            db = _open(path)
            try:
                sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
                count = export.write(db, sys.stdout)
            finally:
                db.close()
            print(f"{count} conversations", file=sys.stderr)
        case "restore":
            lock = FolderLock(path.parent)
            try:
                moved_to = backup.restore(options.backup, path)
            finally:
                lock.release()
            print(f"Restored. The database before it was kept as {moved_to}.", file=sys.stderr)
    return 0


def _check(path: Path) -> int:
    db = _open(path)
    try:
        found = health.problems(db)
        rows = {} if found else backup.counts(db)
    finally:
        db.close()
    for problem in found:
        print(problem)
    if found:
        print("Damaged. Start Corral: it saves what can be read.", file=sys.stderr)
        return 1
    print("ok")
    print(", ".join(f"{count} {table}" for table, count in rows.items()), file=sys.stderr)
    return 0


def _open(path: Path) -> Database:
    mode: Mode = "read" if _writable(path) else "immutable"
    db = connect(path, mode)
    try:
        opening.check_readable(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _writable(path: Path) -> bool:
    try:
        path.open("rb+").close()
    except OSError:
        return False
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m storage", description=__doc__)
    words = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("check", "say whether a database is sound"),
        ("backup", "copy a database, in use or not, and check the copy"),
        ("export", "write all conversations as JSON to stdout"),
        ("restore", "put a backup in the place of a database, which is kept beside it"),
    ):
        word = words.add_parser(name, help=text, description=text)
        if name == "restore":
            word.add_argument("backup", type=Path, metavar="BACKUP")
        word.add_argument("database", type=Path, metavar="DB", help="file or data folder")
        if name == "backup":
            word.add_argument("folder", type=Path, metavar="DIR")
            word.add_argument(
                "--reason",
                choices=("manual", *backup.KEEP),
                default="manual",
                help="manual ones are kept until you delete them, of others the newest",
            )
    return parser


if __name__ == "__main__":
    sys.exit(main())
