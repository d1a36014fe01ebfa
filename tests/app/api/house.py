"""Corral without its page, its API on, and a key to ask it with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from app.api.keys import Keys
from app.gateway import Gateway
from app.site import Site, build
from storage.records import OWNER_ID
from tests.app.asgi import Answer, ask
from tests.app.fakes import TellingEngine
from tests.app.house import make_services, no_page

PROMPT = [{"role": "user", "content": "Say hello."}]


class House:
    """Corral without its page, its API on, and a key of the owner."""

    def __init__(self, data: Path, **parts: Any) -> None:
        self.engine = parts.pop("engine", None) or TellingEngine(["Hello there, friend."])
        self.services = make_services(data, engine=self.engine, **parts)
        self.services.load()
        self.site: Site = build(self.services, no_page)
        self.gateway: Gateway = self.site.app
        self.gateway.api_on = True
        self.keys = Keys(self.services.store.people)
        self.key = self.keys.create(OWNER_ID, "test")

    def post(self, path: str, value: object, *, key: str = "", **more: Any) -> Answer:
        headers = [("content-type", "application/json")]
        headers.append(("authorization", f"Bearer {key or self.key}"))
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        headers += more.pop("headers", [])
        return ask(self.site.app, "POST", path, headers=headers, body=body, **more)

    def get(self, path: str, key: str = "") -> Answer:
        return ask(
            self.site.app, "GET", path, headers=[("authorization", f"Bearer {key or self.key}")]
        )

    def chat(self, **fields: Any) -> Answer:
        return self.post("/v1/chat/completions", {"model": "corral", "messages": PROMPT, **fields})

    def complete(self, prompt: object = "Once", **fields: Any) -> Answer:
        return self.post("/v1/completions", {"model": "corral", "prompt": prompt, **fields})


def events(answer: Answer) -> list[Any]:
    lines = [line for line in answer.body.decode().split("\n\n") if line]
    assert lines.pop() == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]
