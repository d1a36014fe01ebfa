"""Asks an ASGI app directly, so that a test can send what no HTTP client would."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

App = Callable[..., Awaitable[None]]
ORIGIN = "http://127.0.0.1:7860"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def scope_of(method: str, path: str) -> dict[str, Any]:
    """What a server says of a request, but for its headers."""
    target, _, query = path.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(target),
        "raw_path": target.encode("latin-1", "replace"),
        "query_string": query.encode("latin-1", "replace"),
        "root_path": "",
        "client": ("127.0.0.1", 5),
        "server": ("127.0.0.1", 7860),
    }


async def ask_async(
    app: App,
    method: str,
    path: str,
    *,
    headers: Iterable[tuple[str, str]] = (),
    hosts: Sequence[str] = ("127.0.0.1:7860",),
    body: bytes = b"",
    chunks: Sequence[bytes] | None = None,
    extra: MutableMapping[str, Any] | None = None,
) -> Answer:
    """One request. `chunks` sends a chunked body; `extra` adds keys to the scope."""
    raw = [(b"host", host.encode("latin-1")) for host in hosts]
    raw += [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    if chunks is None and body:
        raw.append((b"content-length", str(len(body)).encode()))
    scope = {**scope_of(method, path), "headers": raw, **(extra or {})}
    waiting = list(chunks if chunks is not None else [body])
    over = asyncio.Event()
    status, found, content = 0, {}, b""

    async def receive() -> dict[str, Any]:
        if waiting:
            part = waiting.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(waiting)}
        await over.wait()
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status, found, content
        if message["type"] == "http.response.start":
            status = message["status"]
            found = {n.decode().lower(): v.decode() for n, v in message["headers"]}
        else:
            content += message.get("body", b"")
            if not message.get("more_body"):
                over.set()

    await app(scope, receive, send)
    return Answer(status, found, content)


def ask(app: App, method: str, path: str, **options: Any) -> Answer:
    """`ask_async`, on an event loop of its own."""
    return asyncio.run(ask_async(app, method, path, **options))


def same_origin(cookie: str = "", origin: str = ORIGIN) -> list[tuple[str, str]]:
    """The headers that a script of our own page sends with JSON."""
    headers = [("origin", origin), ("content-type", "application/json")]
    headers.append(("sec-fetch-site", "same-origin"))
    return [*headers, *([("cookie", cookie)] if cookie else [])]
