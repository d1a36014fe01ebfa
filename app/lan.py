"""The local network: the same guarded app on this machine's own addresses, while it is switched on.

With a certificate it speaks HTTPS; without one the page says that others in the network can read
along. The loopback server is untouched by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import Iterator

import psutil
import uvicorn

from app.asgi import App
from app.hosts import Hosts
from app.share import LinkView, ShareError, ShareNeedsPassword
from app.visitors import Visitors
from app.wire import http_config
from storage.records import OWNER_ID
from storage.store import Store

MAX_CONNECTIONS = 200  # at once; those of this machine's own pages are not among them

log = logging.getLogger("corral.lan")


class LanAbsent(ShareError):
    """There is no local network, or the port is taken there."""


class CertificateUnusable(ShareError):
    """The certificate or its key cannot be read."""


def addresses() -> list[str]:
    """The private IPv4 addresses of this machine."""
    found = []
    for entries in psutil.net_if_addrs().values():
        for entry in entries:
            if entry.family == socket.AF_INET:
                address = ipaddress.ip_address(entry.address)
                if address.is_private and not address.is_loopback:
                    found.append(entry.address)
    return found


class _Beside(uvicorn.Server):
    """A second server in the first one's loop: signals are the first one's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Lan:
    """Opens and ends the way in from the network. Call it from threads, never from the loop."""

    def __init__(
        self,
        store: Store,
        hosts: Hosts,
        visitors: Visitors,
        app: App,
        *,
        certificate: str = "",
        key: str = "",
    ) -> None:
        self._store = store
        self._hosts = hosts
        self._visitors = visitors
        self._app = app
        self._files: dict[str, str | None] = (
            {"ssl_certfile": certificate, "ssl_keyfile": key or None} if certificate else {}
        )
        self._server: _Beside | None = None
        self._address = ""
        self.loop: asyncio.AbstractEventLoop | None = None  # set when the first server runs

    @property
    def encrypted(self) -> bool:
        """Whether there is a certificate."""
        return bool(self._files)

    def start(self, port: int, *, names: list[str] | None = None) -> LinkView:
        """Begin to answer on every private address, or on `names`. Raises `ShareError`."""
        if not self._store.people.has_passwords():
            raise ShareNeedsPassword
        if self._server is None:
            self._open(port, addresses() if names is None else names)
            self._store.record(OWNER_ID, "lan_start")
        view = self.view()
        assert view is not None
        return view

    def _open(self, port: int, names: list[str]) -> None:
        assert self.loop is not None, "the first server runs"
        sockets = [opened for name in names if (opened := _listen(name, port)) is not None]
        if not sockets:
            raise LanAbsent
        scheme = "https" if self.encrypted else "http"
        try:
            config = http_config(
                self._app, lifespan="off", limit_concurrency=MAX_CONNECTIONS, **self._files
            )
            config.load()
        except (OSError, ValueError) as error:
            for each in sockets:
                each.close()
            raise CertificateUnusable from error
        self._server = _Beside(config)
        for each in sockets:
            self._hosts.opened[each.getsockname()[0]] = "lan"
        host, used = sockets[0].getsockname()[:2]
        self._address = f"{scheme}://{host}:{used}"
        asyncio.run_coroutine_threadsafe(self._server.serve(sockets), self.loop)

    def stop(self) -> None:
        """End it at once; off is no error."""
        server, self._server = self._server, None
        if server is None:
            return
        self._hosts.close("lan")
        server.should_exit = server.force_exit = True
        assert self.loop is not None, "it was started in a loop"
        self.loop.call_soon_threadsafe(_drop, server)
        self._store.record(OWNER_ID, "lan_stop")

    def view(self) -> LinkView | None:
        """The address while it is on; it does not expire."""
        if self._server is None:
            return None
        return LinkView(self._address, 0.0, self._visitors.count("lan"))


def _drop(server: uvicorn.Server) -> None:
    """Cut what is still open: a stream would go on until its page is closed."""
    for connection in [*server.server_state.connections]:
        if connection.transport is not None:
            connection.transport.abort()


def _listen(name: str, port: int) -> socket.socket | None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((name, port))
        listener.listen(64)
    except OSError as error:
        log.info("port %d cannot be opened on a network address: %s", port, error.strerror)
        listener.close()
        return None
    return listener
