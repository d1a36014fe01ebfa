"""The page's own head: our style and script come first, Gradio's sharing tags go.

Gradio adds a `head` only after it has started, so the page would flash unstyled. Here the tags are
put into the HTML that the server sends, and the tags that point to addresses elsewhere are taken
out of it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_SHARING = re.compile(rb'<meta\s+(?:property|name)="(?:og|twitter):[^>]*>\s*')
_HEAD = b"<head>"


class Front:
    """ASGI middleware: rewrites the HTML of `/`, passes everything else on untouched."""

    def __init__(self, app: App, tags: str) -> None:
        self._app = app
        self._tags = tags.encode()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] != "/" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        start: Message = {}
        parts: list[bytes] = []

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            parts.append(message.get("body", b""))
            if message.get("more_body"):
                return
            body = self._rewritten(b"".join(parts))
            kept = [header for header in start["headers"] if header[0] != b"content-length"]
            length = (b"content-length", str(len(body)).encode())
            await send({**start, "headers": [*kept, length]})
            await send({"type": "http.response.body", "body": body})

        await self._app(scope, receive, collect)

    def _rewritten(self, html: bytes) -> bytes:
        before, head, after = html.partition(_HEAD)
        if not head:  # an error, or not HTML
            return html
        return before + head + self._tags + _SHARING.sub(b"", after)
