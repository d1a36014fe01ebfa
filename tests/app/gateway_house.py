"""A gateway before an app that says whatever reached it, with two people signed in."""

from __future__ import annotations

import json
from typing import Any

from app.accounts import Accounts, digest
from app.gateway import Gateway
from app.strings import Strings
from storage.records import User
from tests.app.asgi import Answer, ask, same_origin

OWNER, GUEST = "corral-7860=owner-token", "corral-7860=guest-token"
JOIN = "/gradio_api/queue/join"


class Sessions:
    """Two known tokens in memory."""

    def __init__(self) -> None:
        self.users: dict[bytes, User] = {}
        self.num_asked = 0

    def add_session(
        self, token_sha256: bytes, user_id: int, expires_at: int, agent: str = ""
    ) -> None:
        self.users[token_sha256] = User(user_id, f"user {user_id}", "owner")

    def session_user(self, token_sha256: bytes, *, idle_milliseconds: int) -> User | None:
        self.num_asked += 1
        return self.users.get(token_sha256)

    def revoke_session(self, token_sha256: bytes) -> None:
        self.users.pop(token_sha256, None)


class Echo:
    """Answers with what it was asked; `queue/join` gets an event id like Gradio's."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            self.scopes.append(scope)
            return
        body, more = b"", scope["method"] not in ("GET", "HEAD")
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.scopes.append(scope)
        self.bodies.append(body)
        answer = json.dumps({"event_id": f"event-{len(self.bodies)}"}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"Access-Control-Allow-Origin", b"*"),
            (b"Set-Cookie", b"gradio=1"),
            (b"cache-control", b"public"),
            (b"content-security-policy", b"default-src *"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer[:5], "more_body": True})
        await send({"type": "http.response.body", "body": answer[5:]})


class House:
    """A gateway before an echo, with an owner (1) and a guest (2) signed in."""

    def __init__(self, hosts: tuple[str, ...] = ()) -> None:
        self.sessions = Sessions()
        for user_id, token in ((1, "owner-token"), (2, "guest-token")):
            self.sessions.add_session(digest(token), user_id, 0)
        self.echo = Echo()
        self.accounts = Accounts(self.sessions, session_seconds=3600, idle_seconds=600)
        self.app = Gateway(
            self.echo,
            self.accounts,
            port=7860,
            strings=Strings.load("en"),
            entrance=lambda: b"<h1>how to get in</h1>",
            hosts=hosts,
        )

    def get(self, path: str, cookie: str = OWNER, **options: Any) -> Answer:
        headers = [("cookie", cookie)] if cookie else []
        return ask(
            self.app, "GET", path, headers=[*headers, *options.pop("headers", [])], **options
        )

    def post(self, path: str, value: object, cookie: str = OWNER, **options: Any) -> Answer:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        headers = options.pop("headers", same_origin(cookie))
        return ask(self.app, "POST", path, headers=headers, body=body, **options)
