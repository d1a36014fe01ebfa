"""The real page over real jobs and a real store; engine and guard are the fakes of tests/app."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, get_args

import uvicorn
from fastapi import FastAPI

from app.page.mount import mount
from app.parts import Part
from app.reply import PAGE_POLICY
from app.routes import find
from app.services import Services
from app.settings import Settings
from app.static_files import StaticFiles
from engine.base import Chunk, EngineInfo, Prompt, Sampling
from storage.records import OWNER_ID, Shelf
from tests.app.fakes import TellingEngine, WordGuard
from tests.waiting import until


@dataclass
class Teller(TellingEngine):
    """Says `say[word]` for a prompt that holds `word`, else repeats the prompt; a word a token.

    After `pause_after` tokens it waits for `go`, or for being cancelled.
    """

    say: dict[str, str] = field(default_factory=dict)
    pause_after: int = 1_000_000
    go: Event = field(default_factory=Event)

    def stream(
        self, prompt: Prompt, sampling: Sampling, *, cancel: Event, scope: str
    ) -> Iterator[Chunk]:
        assert prompt.messages is not None
        asked = prompt.messages[-1]["content"]
        known = [reply for word, reply in self.say.items() if word in asked]
        whole = known[0] if known else f"You said: {asked}"
        self.replies = [whole[len(prompt.reply_prefix) :]]
        chunks = super().stream(prompt, sampling, cancel=cancel, scope=scope)
        for number, chunk in enumerate(chunks):
            while number == self.pause_after and not self.go.is_set() and not cancel.is_set():
                time.sleep(0.005)
            yield chunk

    def info(self) -> EngineInfo:
        return EngineInfo("Teller", "print", "none", 0, self.context_length, "CPU", "fp32")


class Door:
    """What the gateway does for the page: says who it is, refuses other routes, sets the policy."""

    def __init__(self, app: Any, user_id: int = 1) -> None:
        self.app, self.user_id = app, user_id
        self.refused: list[str] = []

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope["corral_user"], scope["corral_away"] = self.user_id, False
            if find(scope["path"]) is None:
                self.refused.append(scope["path"])
                await send({"type": "http.response.start", "status": 404, "headers": []})
                await send({"type": "http.response.body", "body": b""})
                return

        async def reply(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", PAGE_POLICY.encode())
                message["headers"] = [*message.get("headers", []), policy]
            await send(message)

        await self.app(scope, receive, reply)


class Site:
    """A running page. `url` is where; `engine` and `services` are there to be steered."""

    def __init__(self, data: Path, *, ready: bool = True, model: str = "built-in") -> None:
        self.engine = Teller()
        self.guard = WordGuard()
        self.services = Services(Settings(data=data, model=model))
        self.services.running.part = Part("engine", lambda: self.engine)
        self.services.guard = Part("guard", lambda: self.guard)
        self.services.start()
        if ready:
            self.services.load()
        self._settings = set(self.services.store.settings(OWNER_ID))
        app = FastAPI(openapi_url=None)
        app.include_router(StaticFiles().router())
        self.door = Door(mount(app, self.services))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/"
        config = uvicorn.Config(
            *(self.door, "127.0.0.1", port),
            log_config=None,  # levels of the process stay as they are
            access_log=False,
            ws="none",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        until(lambda: self._server.started)

    def fresh(self) -> None:
        """Make it as it was at the start: no conversation, no choice, engine and guard anew."""
        self.engine.go.set()
        jobs, store = self.services.jobs, self.services.store
        while running := jobs.running_keys(OWNER_ID):
            for key in running:
                jobs.stop(OWNER_ID, key)
            time.sleep(0.005)
        for shelf in get_args(Shelf):
            for conversation in store.conversations(OWNER_ID, shelf=shelf):
                self.services.purge(OWNER_ID, conversation.key)
        for name in store.settings(OWNER_ID).keys() - self._settings:
            store.set_setting(OWNER_ID, name, None)
        for part, new in ((self.engine, Teller()), (self.guard, WordGuard())):
            vars(part).clear()
            vars(part).update(vars(new))
        self.door.refused.clear()

    def close(self) -> None:
        self.engine.go.set()
        self._server.should_exit = True
        self._thread.join(10)
        self.services.close()
