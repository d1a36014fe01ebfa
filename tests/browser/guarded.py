"""The whole app behind its gateway, on a port: what people in other browsers get."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from app.services import Services
from app.site import Site, build
from app.wire import http_config
from tests.app.house import make_services
from tests.waiting import until


class Recorder:
    """Notes what every request was answered, also where a browser does not tell."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.answers: list[tuple[int, str, str]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def note(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.answers.append((message["status"], scope["method"], scope["path"]))
            await send(message)

        await self.app(scope, receive, note)


@dataclass
class Guarded:
    """The whole app behind its gateway, on a port."""

    site: Site
    services: Services
    url: str
    recorder: Recorder

    def key(self) -> str:
        return self.site.entrance.url()


@contextmanager
def serving(data: Path) -> Iterator[Guarded]:
    """Serve an empty data folder until the end of the block."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    services = make_services(data, "--port", str(port))
    services.load()
    made: list[tuple[Site, Recorder]] = []

    async def serve() -> None:
        site = build(services)
        made.append((site, Recorder(site.app)))
        site.listeners.loop = asyncio.get_running_loop()
        servers.append(uvicorn.Server(http_config(made[0][1])))
        await servers[0].serve([listener])

    servers: list[uvicorn.Server] = []
    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    until(lambda: servers and servers[0].started)
    try:
        yield Guarded(made[0][0], services, f"http://127.0.0.1:{port}", made[0][1])
    finally:
        servers[0].should_exit = True
        thread.join(15)
        made[0][0].doors.close()
        services.close()
        listener.close()
