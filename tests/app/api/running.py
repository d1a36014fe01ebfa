"""Corral's API on a real port of this machine, for clients that nobody here wrote."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from app.site import Site
from app.wire import http_config


@contextmanager
def served(site: Site) -> Iterator[str]:
    """Serve a site; gives the address of its API."""
    server = uvicorn.Server(http_config(site.app, host="127.0.0.1", port=0))

    async def serve() -> None:
        site.listeners.loop = asyncio.get_running_loop()
        await server.serve()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.should_exit = True
        thread.join()
