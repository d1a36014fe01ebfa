"""Files of other programs → their conversations as documents in the layout of `storage.export`.

Read are our own exports and those of ChatGPT (`conversations.json`, or the zip it comes in),
Claude (the same name, another layout) and Open WebUI. What a program left out or spelled otherwise
is passed over: one conversation that cannot be read never spoils the others, and each one that
can be is given with what was lost of it.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from app.imports.programs import chatgpt, claude, open_webui
from app.imports.tree import Found, string
from storage.export import FORMAT

MAX_BYTES = 512 << 20  # unpacked; years of daily use stay far below


class ImportInvalid(ValueError):
    """The file as a whole is nothing that can be imported. `code` names the sentence for it."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def read(content: bytes) -> Iterator[Found]:
    """Each conversation of a JSON or zip file. Raises `ImportInvalid`."""
    for text in _texts(content):
        try:
            parsed = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ImportInvalid("unreadable") from error
        yield from _conversations(parsed)


def _texts(content: bytes) -> Iterator[bytes]:
    """The JSON in a file: itself, or all `conversations*.json` of an archive."""
    if not zipfile.is_zipfile(BytesIO(content)):
        yield content
        return
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            names = [i for i in archive.infolist() if _is_conversations(i.filename)]
            if not names:
                raise ImportInvalid("empty")
            if sum(info.file_size for info in names) > MAX_BYTES:
                raise ImportInvalid("too_big")
            for info in names:
                with archive.open(info) as file:
                    yield file.read(MAX_BYTES)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
        raise ImportInvalid("unreadable") from error


def _is_conversations(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.startswith(("conversations", "corral", "chat")) and name.endswith(".json")


def _conversations(parsed: Any) -> Iterator[Found]:
    if isinstance(parsed, dict) and parsed.get("format") == FORMAT:
        rows = parsed.get("conversations")
    elif isinstance(parsed, dict) and isinstance(parsed.get("conversations"), list):
        rows = parsed["conversations"]
    else:
        rows = parsed if isinstance(parsed, list) else [parsed]
    if not isinstance(rows, list) or not rows:
        raise ImportInvalid("empty")
    for row in rows:
        yield _one(row)


def _one(row: Any) -> Found:
    if not isinstance(row, dict):
        return Found("", "", None, problem="unknown")
    if isinstance(row.get("mapping"), dict):
        return chatgpt(row)
    if isinstance(row.get("chat_messages"), list):
        return claude(row)
    if isinstance(row.get("chat"), dict):
        return open_webui(row, row["chat"])
    if isinstance(row.get("messages"), list):
        return Found("corral", string(row.get("title")), row)
    return Found("", string(row.get("title") or row.get("name")), None, problem="unknown")
