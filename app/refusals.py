"""What a refused request is told: a sentence and a code, or a page that shows the way in."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

from app.api.errors import of_status
from app.asgi import Headers, Refused, Scope, Send, values
from app.hosts import Hosts
from app.reply import OWN_POLICY, SECURITY_HEADERS
from app.routes import API, HOME
from app.strings import Strings

RETRY_SECONDS = 5
# Part of such a request may not have been read; and strangers keep no connection.
_CLOSING = frozenset({400, 401, 403, 408, 413, 429, 431})

Page = Callable[[], bytes]  # in the language that is spoken

log = logging.getLogger("corral.gateway")


class Refusals:
    """Answers in place of the app.

    `entrance` is the page shown at `/` on this machine to a browser without a session, `signin`
    the one shown over a link or the network.
    """

    def __init__(self, strings: Strings, hosts: Hosts, *, entrance: Page, signin: Page) -> None:
        self._strings = strings
        self._hosts = hosts
        self._entrance = entrance
        self._signin = signin

    async def send(self, scope: Scope, send: Send, refusal: Refused, number: str = "") -> None:
        """Answer a refused request; `number` is the one under which the log has an error."""
        if refusal.status == 401 and _typed_localhost(scope):
            await _redirect(scope, send)
            return
        if refusal.status != 401:
            log.info("refused %d %s", refusal.status, refusal.code)
        kind, content = self._content(scope, refusal, number)
        headers: Headers = [
            (b"content-type", kind),
            (b"content-length", str(len(content)).encode()),
            (b"cache-control", b"no-store"),
            (b"content-security-policy", OWN_POLICY.encode()),
            *SECURITY_HEADERS,
        ]
        if refusal.status == 429:
            headers.append((b"retry-after", str(RETRY_SECONDS).encode()))
        if refusal.status in _CLOSING:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else content
        await send({"type": "http.response.body", "body": body})

    def _content(self, scope: Scope, refusal: Refused, number: str) -> tuple[bytes, bytes]:
        """The content type and the content."""
        if refusal.status == 401 and scope["path"] == HOME:
            host = (values(scope["headers"], b"host") or [""])[0]
            page = self._entrance if self._hosts.is_local(host) else self._signin
            return b"text/html; charset=utf-8", page()
        said = self._strings.say(f"gateway.{refusal.code}")
        if scope["path"].startswith(API):
            return b"application/json", of_status(refusal.status, said, refusal.code)
        answer = {"detail": said, "code": refusal.code}
        if number:
            answer["id"] = number
        return b"application/json", json.dumps(answer).encode()


def _typed_localhost(scope: Scope) -> bool:
    """Whether a person opened our page under "localhost" by typing it or from a bookmark."""
    headers = scope["headers"]
    name = values(headers, b"host")[0].partition(":")[0].lower()
    site, mode = values(headers, b"sec-fetch-site"), values(headers, b"sec-fetch-mode")
    return (
        (scope["method"], scope["path"], name) == ("GET", HOME, "localhost")
        and (site, mode) == (["none"], ["navigate"])
        and scope["scheme"] == "http"
    )


async def _redirect(scope: Scope, send: Send) -> None:
    """Lead a person who typed "localhost" to the address whose cookie their browser has."""
    port = values(scope["headers"], b"host")[0].partition(":")[2]
    where = f"http://127.0.0.1:{port}/" if port else "http://127.0.0.1/"
    headers = [
        (b"location", where.encode()),
        (b"content-length", b"0"),
        (b"cache-control", b"no-store"),
        *SECURITY_HEADERS,
    ]
    await send({"type": "http.response.start", "status": 302, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
