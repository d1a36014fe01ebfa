"""A way in beside this machine's own: a listener of its own in the first server's loop.

What comes in by it says so in its scope, whichever name it asks for: over a link or the network
nobody can pass for somebody at the machine. It has its own limit of connections, so that a flood
leaves the owner's page alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import uvicorn

from app.asgi import App, Receive, Scope, Send
from app.hosts import Hosts
from app.visitors import Visitors
from app.wire import http_config
from storage.store import Store

Way = Literal["share", "lan"]
WAY = "corral_way"  # the key of the scope; absent on this machine's own listener
MAX_CONNECTIONS = 200  # at once, of each way; those of this machine's own pages are not among them


@dataclass(frozen=True, slots=True)
class Around:
    """What every way in works with: who may sign in, which names are answered, who is here."""

    store: Store
    hosts: Hosts
    visitors: Visitors
    listeners: Listeners


class Listeners:
    """Opens listeners before the guarded app. Call it from threads, never from the loop."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.loop: asyncio.AbstractEventLoop | None = None  # set when the first server runs

    def open(self, way: Way, sockets: Sequence[socket.socket], **options: Any) -> Listener:
        """Begin to answer on `sockets`, which are closed if this fails.

        `options` are uvicorn's. Raises `OSError`, `ValueError` for a certificate that is no such.
        """
        assert self.loop is not None, "the first server runs"
        config = http_config(
            _marked(self._app, way), lifespan="off", max_connections=MAX_CONNECTIONS, **options
        )
        try:
            config.load()
        except (OSError, ValueError):
            for each in sockets:
                each.close()
            raise
        server = _Beside(config)
        asyncio.run_coroutine_threadsafe(server.serve([*sockets]), self.loop)
        return Listener(server, self.loop)


class Listener:
    """A way in that is open."""

    def __init__(self, server: uvicorn.Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop

    def close(self) -> None:
        """End it at once, with every connection that came by it."""
        self._server.should_exit = self._server.force_exit = True
        self._loop.call_soon_threadsafe(_drop, self._server)


class _Beside(uvicorn.Server):
    """A second server in the first one's loop: signals are the first one's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _marked(app: App, way: Way) -> App:
    async def marked(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, WAY: way}, receive, send)

    return marked


def _drop(server: uvicorn.Server) -> None:
    """Cut what is still open: a stream would go on until its page is closed."""
    for connection in [*server.server_state.connections]:
        if connection.transport is not None:
            connection.transport.abort()
