"""What the gateway needs to speak ASGI: types, header values, a body read within limits.

`Refused` ends a request; the gateway turns it into an answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any

import anyio

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

MAX_BODY_BYTES = 1 << 20
MAX_DRAIN_BYTES = 16 << 20  # read and dropped, so that a browser gets to see why it was refused
BODY_SECONDS = 30.0


class Refused(Exception):
    """The request ends here. `code` names the sentence `gateway.<code>`."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


def values(headers: Headers, name: bytes) -> list[str]:
    """Every value of a header, in order."""
    return [value.decode("latin-1") for key, value in headers if key.lower() == name]


def num_request_bytes(scope: Scope, headers: Headers) -> int:
    """What the request line and the headers take."""
    line = len(scope["path"]) + len(scope.get("query_string", b""))
    return line + sum(len(name) + len(value) for name, value in headers)


def cookie_value(headers: Headers, name: str) -> str:
    """The one value of our cookie; empty if there is none, or several that differ."""
    found = set()
    for value in values(headers, b"cookie"):
        for part in value.split(";"):
            try:
                morsel = SimpleCookie(part.strip()).get(name)
            except CookieError:
                continue
            if morsel is not None:
                found.add(morsel.value)
    return found.pop() if len(found) == 1 else ""


def declared_bytes(headers: Headers) -> int:
    """The Content-Length, 0 without one. Raises `Refused` if it is no single number.

    Also where the body says in chunks how long it is: a tunnel's server in front could read the one
    and we the other, and what one takes for a body is a request to the other.
    """
    lengths = values(headers, b"content-length")
    if not lengths:
        return 0
    if values(headers, b"transfer-encoding"):
        raise Refused(400, "length")
    if len(lengths) > 1 or not lengths[0].isascii() or not lengths[0].isdigit():
        raise Refused(400, "length")
    return int(lengths[0][:18])


async def read_body(headers: Headers, receive: Receive, max_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The whole body, declared or chunked. Raises `Refused` when it is too long or too slow."""
    declared = declared_bytes(headers)
    if declared > MAX_DRAIN_BYTES:
        raise Refused(413, "body")
    parts: list[bytes] = []
    num_bytes = 0
    more = True
    with anyio.move_on_after(BODY_SECONDS) as limit:
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Refused(400, "length")
            num_bytes += len(message.get("body", b""))
            if num_bytes > MAX_DRAIN_BYTES:
                raise Refused(413, "body")
            if num_bytes <= max_bytes:
                parts.append(message.get("body", b""))
            more = message.get("more_body", False)
    if limit.cancelled_caught:
        raise Refused(408, "slow")
    if num_bytes > max_bytes:
        raise Refused(413, "body")
    return b"".join(parts)


def replay(body: bytes | None, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read, then whatever the connection says."""
    if body is None:
        return receive
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
