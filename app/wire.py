"""HTTP as uvicorn speaks it, set up alike for every way in, with an end to its patience.

uvicorn waits for ever for a request that comes byte by byte, and takes any number of connections:
somebody in the network could hold every file descriptor of the process, and with them the owner's
page.
"""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.asgi import App

HEAD_SECONDS = 15.0  # for the request line and the headers, which come in one packet or two


class Impatient(H11Protocol):
    """Closes connections whose request is not there in time, and those above the limit."""

    max_connections: int | None = None
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.max_connections is not None and len(self.connections) > self.max_connections:
            transport.abort()
        else:
            self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:  # the next request is not whole
            self._wait()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        """Count from the first byte: one that comes later earns no more time."""
        if self._waiting is None:
            self._waiting = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


def http_config(app: App, *, max_connections: int | None = None, **options: Any) -> uvicorn.Config:
    """How Corral serves `app`; `options` are uvicorn's.

    Its own limit answers everybody with 503 once it is reached, as fast as they ask; ours cuts who
    comes too late, and serves the others.
    """
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # query strings name sessions
        proxy_headers=False,  # a tunnel's visitors come from 127.0.0.1 too
        server_header=False,
        http=type("Limited", (Impatient,), {"max_connections": max_connections}),
        ws="none",
        h11_max_incomplete_event_size=64 << 10,
        timeout_graceful_shutdown=1,  # seconds for open streams of pages; turns are stored apart
        **options,
    )
