"""The hashes of a model's files: kept when it is first loaded, compared at every later load.

A file that was changed behind our back is told to the owner, and written to the audit. The hashing
runs after the load, on a thread of its own, so that nobody waits for it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

from storage.records import OWNER_ID
from storage.store import Store

MODEL_FILES = frozenset({".safetensors", ".gguf", ".json", ".model", ".jinja", ".pth"})
_PART_BYTES = 1 << 20

log = logging.getLogger("corral.manifest")


def changed_files(store: Store, folder: Path) -> list[str]:
    """Names of files that differ from the last load of `folder`, new and missing ones too.

    The first load has nothing to compare with and changes nothing but the record. Blocks for as
    long as reading the files takes. Raises `OSError`, `StorageError`.
    """
    name = f"manifest:{hashlib.sha256(str(folder).encode()).hexdigest()[:24]}"
    found = file_hashes(folder)
    saved = store.setting(OWNER_ID, name)
    before: dict[str, str] = json.loads(saved) if saved else found
    if before != found or not saved:
        store.set_setting(OWNER_ID, name, json.dumps(found))
    changed = sorted(file for file in {*before, *found} if before.get(file) != found.get(file))
    if changed:
        log.warning("%d files of a model have changed since it was last loaded", len(changed))
        store.record(None, "model_changed", name, str(len(changed)))
    return changed


def file_hashes(path: Path) -> dict[str, str]:
    """SHA-256 of each model file in a folder, or of the one file, by its name."""
    files = [path] if path.is_file() else sorted(path.iterdir())
    return {
        file.name: _sha256(file)
        for file in files
        if file.is_file() and file.suffix.lower() in MODEL_FILES
    }


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while part := content.read(_PART_BYTES):
            digest.update(part)
    return digest.hexdigest()
