"""What the browser may ask for: ids and short texts, checked before anything else happens.

The user is never among it: that is `request.scope["corral_user"]`, set by the gateway.
"""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from app.strings import speaking

MAX_KEY_CHARS = 64
MAX_SHORT_CHARS = 500  # titles, searches
MAX_WINDOW = 2_000  # messages


class PayloadInvalid(ValueError):
    """The browser sent something that our own page never sends."""


@dataclass(frozen=True, slots=True)
class Payload:
    """One request of the page. Absent values are None, 0 or ""."""

    key: str | None = None  # of a conversation
    id: int | None = None  # of a message
    parent: int | None = None
    number: int = 0  # of the request, as the page counts them
    last: int = 0  # how many messages the window shows
    text: str = ""
    attached: int = 0  # tokens of the files beside a draft
    client_key: str = ""
    first: int = 0  # the first conversation of the list that is in view
    query: str = ""
    tag: str = ""
    mode: str = ""
    on: bool = False
    temporary: bool = False  # a conversation that begins now is not to be stored
    aside: tuple[str, ...] = ()  # keys of the temporary conversations that this tab holds

    @classmethod
    def of(cls, event: gr.EventData) -> Payload:
        """Read and check the data of an event; what its handler says is in the page's language.

        Raises `PayloadInvalid`.
        """
        data = event._data
        if not isinstance(data, dict):
            raise PayloadInvalid("not an object")
        speaking(_text(data, "language", MAX_KEY_CHARS))
        return cls(
            key=_text(data, "key", MAX_KEY_CHARS) or None,
            id=_whole(data, "id"),
            parent=_whole(data, "parent"),
            number=_whole(data, "number") or 0,
            last=min(_whole(data, "last") or 0, MAX_WINDOW),
            text=_text(data, "text", None),
            attached=_whole(data, "attached") or 0,
            client_key=_text(data, "client_key", MAX_KEY_CHARS),
            first=_whole(data, "first") or 0,
            tag=_text(data, "tag", MAX_KEY_CHARS),
            query=_text(data, "query", MAX_SHORT_CHARS),
            mode=_text(data, "mode", MAX_KEY_CHARS),
            on=data.get("on") is True,
            temporary=data.get("temporary") is True,
            aside=tuple(_text(data, "aside", MAX_SHORT_CHARS).split()),
        )


def _text(data: dict[str, object], name: str, limit: int | None) -> str:
    value = data.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or (limit is not None and len(value) > limit):
        raise PayloadInvalid(name)
    # Lone surrogates can neither be stored nor sent on; the browser shows them as this sign too.
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _whole(data: dict[str, object], name: str) -> int | None:
    value = data.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise PayloadInvalid(name)
    return value


def is_away(request: gr.Request) -> bool:
    """Whether it came over a link or the network: nothing of the owner's is changed from there."""
    return request.request is None or request.request.scope.get("corral_away") is not False


def session_of(request: gr.Request) -> bytes:
    """The digest of the session whose request this is; empty where there is none."""
    found = request.request.scope.get("corral_session") if request.request else None
    return found if isinstance(found, bytes) else b""


def user_of(request: gr.Request) -> int:
    """Whose request this is. Raises `PermissionError` where the gateway has not said."""
    user_id = request.request.scope.get("corral_user") if request.request else None
    if not isinstance(user_id, int):
        raise PermissionError("no user")
    return user_id
