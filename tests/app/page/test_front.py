"""The rewritten head of the page."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.page.front import Front

HTML = (
    b'<!doctype html><html><head><meta property="og:url" content="https://gradio.app/" />'
    b'<meta name="twitter:creator" content="@x" /><meta charset="utf-8" /></head></html>'
)


def answer(
    body: bytes, *, path: str = "/", method: str = "GET", cuts: int = 1
) -> tuple[Any, bytes]:
    """What goes out when an app answers with `body` in `cuts` pieces."""
    size = -(-len(body) // cuts) or 1
    pieces = [body[at : at + size] for at in range(0, len(body), size)] or [b""]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        for place, piece in enumerate(pieces):
            more = place < len(pieces) - 1
            await send({"type": "http.response.body", "body": piece, "more_body": more})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def run() -> None:
        scope = {"type": "http", "path": path, "method": method}
        await Front(app, "<link>")(scope, None, send)  # type: ignore[arg-type]

    asyncio.run(run())
    return sent[0], b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize("cuts", [1, 3])
def test_our_tags_come_first_and_sharing_tags_go(cuts: int) -> None:
    start, body = answer(HTML, cuts=cuts)
    assert body == b'<!doctype html><html><head><link><meta charset="utf-8" /></head></html>'
    assert dict(start["headers"])[b"content-length"] == str(len(body)).encode()


@pytest.mark.parametrize("body", [b"", b"no html at all"])
def test_what_has_no_head_stays(body: bytes) -> None:
    assert answer(body)[1] == body


@pytest.mark.parametrize(("path", "method"), [("/config", "GET"), ("/", "HEAD"), ("/x", "POST")])
def test_everything_else_passes_untouched(path: str, method: str) -> None:
    assert answer(HTML, path=path, method=method)[1] == HTML
