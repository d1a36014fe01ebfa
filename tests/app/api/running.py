"""Corral's API on a real port of this machine, for clients that nobody here wrote."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from app.site import Site
from app.wire import http_config
from tests.waiting import until


@contextmanager
def served(site: Site) -> Iterator[str]:
    """Serve a site; gives the address of its API."""
    server = uvicorn.Server(http_config(site.app, host="127.0.0.1", port=0))

    async def serve() -> None:
        site.listeners.loop = asyncio.get_running_loop()
        await server.serve()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.should_exit = True
        thread.join()
