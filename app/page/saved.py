"""Undo for what was kept under a name: a removed prompt, persona or preset is brought back.

What was removed stands in the button itself, so nothing has to be remembered for it.
"""

from __future__ import annotations

import json
from typing import get_args

from app.page.payload import PayloadInvalid
from storage.records import NotFound, Saved, SavedKind
from storage.store import Store


def remove(store: Store, user_id: int, saved_id: int) -> tuple[str, str]:
    """Remove it; its name, and what `bring_back` needs. Raises `StorageError`."""
    kinds: tuple[SavedKind, ...] = get_args(SavedKind)
    known = [one for kind in kinds for one in store.saved(user_id, kind) if one.id == saved_id]
    if not known:
        raise NotFound("This was removed already.")
    store.remove_saved(user_id, saved_id)
    one: Saved = known[0]
    return one.name, json.dumps([one.kind, one.name, one.body, one.use_case])


def bring_back(store: Store, user_id: int, removed: str) -> str:
    """Keep again what was removed; its name. Raises `PayloadInvalid`, `StorageError`."""
    try:
        kind, name, body, use_case = json.loads(removed)
    except (ValueError, TypeError, RecursionError) as error:
        raise PayloadInvalid("undo") from error
    texts = all(isinstance(text, str) for text in (name, body, use_case))
    if not texts or kind not in get_args(SavedKind):
        raise PayloadInvalid("undo")
    store.save(user_id, kind, name, body, use_case=use_case)
    return str(name)
