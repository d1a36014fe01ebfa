"""Files that come up in parts, because one request carries a megabyte at most."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Mapping
from pathlib import Path

from app.page.payload import PayloadInvalid

_OLD_SECONDS = 3600  # what was begun and never finished
_MAX_BEGUN = 4  # by one user: the page sends one file after the other


class FileTooBig(PayloadInvalid):
    """More was sent than what is asked for may take."""


class Uploads:
    """Collects parts in a private folder. One user never reaches another's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unwritten: dict[int, tuple[str, bytes]] = {}  # user id → the one file in the making

    def take(
        self, user_id: int, fields: Mapping[str, str], *, max_bytes: int, unwritten: bool = False
    ) -> bytes | None:
        """Keep a part; with the last one, the whole file. None while it is not whole.

        What is `unwritten` is never on the disk. Raises `PayloadInvalid`, and `FileTooBig` above
        `max_bytes`.
        """
        name, place = fields.get("upload", ""), fields.get("place", "")
        whole = name.isalnum() and name.isascii() and 16 <= len(name) <= 64
        if not whole or not (place.isascii() and place.isdigit()):
            raise PayloadInvalid("part")
        try:
            content = base64.b64decode(fields.get("content", ""), validate=True)
        except binascii.Error as error:
            raise PayloadInvalid("content") from error
        if unwritten:
            return self._gathered(user_id, name, int(place), content, max_bytes, "last" in fields)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._sweep(user_id)
        path = self._folder / f"{user_id}-{name}"
        with path.open("ab" if int(place) else "wb") as file:
            file.write(content)
        if path.stat().st_size > max_bytes:
            path.unlink()
            raise FileTooBig("size")
        if "last" not in fields:
            return None
        try:
            return path.read_bytes()
        finally:
            path.unlink()

    def _gathered(
        self, user_id: int, name: str, place: int, content: bytes, max_bytes: int, last: bool
    ) -> bytes | None:
        known, before = self._unwritten.pop(user_id, ("", b""))
        whole = (before if place and known == name else b"") + content
        if len(whole) > max_bytes:
            raise FileTooBig("size")
        if last:
            return whole
        self._unwritten[user_id] = (name, whole)
        return None

    def _sweep(self, user_id: int) -> None:
        """Remove what is old, and what this user has begun too much of."""
        kept = sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        own = [path for path in kept if path.name.startswith(f"{user_id}-")]
        for path in kept:
            if time.time() - path.stat().st_mtime > _OLD_SECONDS or path in own[_MAX_BEGUN:]:
                path.unlink(missing_ok=True)
