"""How an answer leaves: the app's own, with our headers and none that would open a door."""

from __future__ import annotations

import json
from collections.abc import Callable

from app.asgi import Headers, Message, Send
from app.routes import Route

# Gradio compiles gr.HTML templates with `Function(...)` and inlines its configuration, so scripts
# cannot be narrowed further; what stops a leak is that nothing may be loaded from, or sent to,
# anywhere but this origin.
PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self'; media-src 'self'; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; worker-src 'self'; frame-src 'none'; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
OWN_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)
_OURS_TO_SET = frozenset(name for name, _ in SECURITY_HEADERS) | {
    b"content-security-policy",
    b"server",
    b"x-powered-by",
}


class Reply:
    """Passes the app's answer on with our headers; reads the event id out of a join's answer."""

    def __init__(self, send: Send, path: str) -> None:
        self.send = send
        self._cache = "no-store"
        self._own = path.startswith("/corral/")
        self._content = b""
        self.started = False
        self.failed = False  # the app answered 500 with its own words, which were held back
        self.cookie = ""
        self.on_event_id: Callable[[str], object] | None = None

    def take_from(self, route: Route) -> None:
        """What follows is the answer of `route`."""
        self._cache = route.cache

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.failed = message["status"] == 500
            self.started = not self.failed
        if self.failed:
            return
        if message["type"] == "http.response.start":
            message = {**message, "headers": self._headers(message)}
        elif message["type"] == "http.response.body" and self.on_event_id:
            self._read_event_id(message)
        await self.send(message)

    def _headers(self, message: Message) -> Headers:
        kept: Headers = []
        for name, value in message.get("headers", ()):
            name = name.lower()
            if name in _OURS_TO_SET or name.startswith(b"access-control-"):
                continue
            if name == b"set-cookie" and not self._own:
                continue
            if name == b"cache-control" and self._cache != "keep":
                continue
            kept.append((name, value))
        if self._cache != "keep":
            cache = self._cache if message["status"] in (200, 304) else "no-store"
            kept.append((b"cache-control", cache.encode()))
        if self.cookie and message["status"] == 200:
            kept.append((b"set-cookie", self.cookie.encode()))
        policy = OWN_POLICY if self._own else PAGE_POLICY
        return [*kept, (b"content-security-policy", policy.encode()), *SECURITY_HEADERS]

    def _read_event_id(self, message: Message) -> None:
        """Bind before the answer leaves: the page may cancel as soon as it has it."""
        self._content += message.get("body", b"")[: 1 << 16]
        if message.get("more_body") or self.on_event_id is None:
            return
        try:
            answer = json.loads(self._content)
        except ValueError:
            return
        if isinstance(answer, dict) and isinstance(answer.get("event_id"), str):
            self.on_event_id(answer["event_id"])
