"""Where keys and values lie on the disk: a private folder per conversation, removed as one.

`FOLDER/owner/conversation/DIGEST.safetensors`, named like the scope `owner/conversation`.
A scope without a conversation, or whose owner begins with `MEMORY_ONLY`, never touches the disk.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

KEPT_FOLDER = "kept"  # in the data folder
MEMORY_ONLY = "~"  # begins the scope of guests and temporary chats
SUFFIX = ".safetensors"

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def place_of(folder: Path, scope: str) -> Path | None:
    """The folder for a conversation's `scope`; None where nothing may be written."""
    owner, _, conversation = scope.partition("/")
    if not (_NAME.fullmatch(owner) and _NAME.fullmatch(conversation)):
        return None
    return folder / owner / conversation


def remove_kept(folder: Path, scope: str) -> None:
    """Remove what is kept for `scope`: a conversation's, or all of an owner's. Of every model.

    Works without an engine, so that a conversation can be removed whatever runs.
    """
    parts = scope.split("/")
    if len(parts) <= 2 and all(_NAME.fullmatch(part) for part in parts):
        shutil.rmtree(folder.joinpath(*parts), ignore_errors=True)
