"""Which user a Gradio session hash and its events belong to.

Gradio lets the browser choose the hash and never asks whose it is: whoever sends it reads that
session's stream. Here a hash belongs to the user who came with it first, and an event id to the
user whose `queue/join` it answered, until they are forgotten for age.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from urllib.parse import parse_qsl

from app.asgi import Refused, Scope
from app.routes import Binding

MAX_PER_USER = 4096
_HASH = re.compile(r"[A-Za-z0-9_-]{4,64}")


class BindingInvalid(ValueError):
    """The request does not say which session it is for, or says it more than once."""


class Bindings:
    """First come, first bound. Used on the event loop only, so it needs no lock.

    Each user has a limited number; the oldest of the same user is forgotten first, so nobody can
    push out what belongs to another.
    """

    def __init__(self, max_per_user: int = MAX_PER_USER) -> None:
        self._max_per_user = max_per_user
        self._owner: dict[str, int] = {}
        self._names: dict[int, OrderedDict[str, None]] = {}

    def claim(self, name: str, user_id: int) -> bool:
        """Bind `name` to the user if it is free; whether it is theirs now."""
        owner = self._owner.setdefault(name, user_id)
        if owner != user_id:
            return False
        names = self._names.setdefault(user_id, OrderedDict())
        names[name] = None
        names.move_to_end(name)
        while len(names) > self._max_per_user:
            del self._owner[names.popitem(last=False)[0]]
        return True

    def owns(self, name: str, user_id: int) -> bool:
        """Whether `name` is bound to this user."""
        return self._owner.get(name) == user_id


class GradioSessions:
    """The session hashes and events of Gradio that have an owner."""

    def __init__(self) -> None:
        self.hashes = Bindings()
        self.events = Bindings()

    def check(self, binding: Binding, scope: Scope, body: bytes, user_id: int) -> None:
        """That the session (and event) a request names is this user's. Raises `Refused`."""
        content: dict[str, object] = {}
        try:
            if binding == "query":
                name = hash_in_query(scope["query_string"])
            elif binding == "path":
                name = hash_in_path(scope["path"])
            elif binding in ("body", "cancel"):
                content = read_object(body)
                name = hash_in_body(content)
            else:
                return
        except BindingInvalid as error:
            raise Refused(400, "binding") from error
        if not self.hashes.claim(name, user_id):
            raise Refused(403, "binding_foreign")
        event = str(content.get("event_id"))
        if binding == "cancel" and not self.events.owns(event, user_id):
            raise Refused(403, "binding_foreign")


def read_object(body: bytes) -> dict[str, object]:
    """A request body as one JSON object. Raises `BindingInvalid`.

    A key given twice is refused: the app below might read the other one.
    """
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise BindingInvalid("The request is not JSON.") from error
    if not isinstance(value, dict):
        raise BindingInvalid("The request is not a JSON object.")
    return value


def hash_in_body(body: dict[str, object]) -> str:
    """The session hash of a parsed body. Raises `BindingInvalid`."""
    return _hash(body.get("session_hash"))


def hash_in_query(query: bytes) -> str:
    """The session hash of a query string. Raises `BindingInvalid`."""
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    found = [value for name, value in pairs if name == "session_hash"]
    if len(found) != 1:
        raise BindingInvalid("The request must name exactly one session.")
    return _hash(found[0])


def hash_in_path(path: str) -> str:
    """The session hash that ends a path. Raises `BindingInvalid`."""
    return _hash(path.rpartition("/")[2])


def _hash(value: object) -> str:
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise BindingInvalid("The request names no valid session.")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found
