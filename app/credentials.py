"""Tokens and keys that the owner gave Corral for other servers: one private file, never shown.

`credentials.json` in the data folder, 0600, apart from the database: no backup and no export holds
them. Nothing here is logged, and no object that is printed names a secret.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

FILE_NAME = "credentials.json"
MODEL_HUB = "model-hub"  # the name under which the hub's token is kept; endpoints use their address
_SECRET = re.compile(r"[\x21-\x7e]{1,4096}")


class CredentialInvalid(ValueError):
    """What was given cannot be a token: it is empty or holds spaces or other signs."""


class Credentials:
    """The secrets of one data folder, by name. Reads and writes the file; needs no database."""

    def __init__(self, data: Path) -> None:
        self._file = data / FILE_NAME

    def get(self, name: str) -> str:
        """The secret, or "" if none is kept."""
        return self._read().get(name, "")

    def put(self, name: str, secret: str) -> None:
        """Keep a secret. Raises `CredentialInvalid`, or `OSError` if the file cannot be written."""
        secret = secret.strip()
        if not _SECRET.fullmatch(secret):
            raise CredentialInvalid("not a token")
        self._write({**self._read(), name: secret})

    def forget(self, name: str) -> None:
        """Remove a secret, if it is kept."""
        kept = self._read()
        if kept.pop(name, None) is not None:
            self._write(kept)

    def _read(self) -> dict[str, str]:
        try:
            kept = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}  # damaged: it is asked for again where it is needed
        if not isinstance(kept, dict):
            return {}
        return {name: secret for name, secret in kept.items() if isinstance(secret, str)}

    def _write(self, kept: dict[str, str]) -> None:
        """Put a new file in the old one's place; it is private before anything stands in it."""
        fresh = self._file.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(kept, file)
        fresh.replace(self._file)
