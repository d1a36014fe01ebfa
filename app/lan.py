"""The local network: the same guarded app on this machine's own addresses, while it is switched on.

With a certificate it speaks HTTPS; without one the page says that others in the network can read
along. The loopback server is untouched by it.
"""

from __future__ import annotations

import ipaddress
import logging
import socket

import psutil

from app.beside import Around, Listener
from app.share import LinkView, ShareError, ShareNeedsPassword
from storage.records import OWNER_ID

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


class Lan:
    """Opens and ends the way in from the network. Call it from threads, never from the loop."""

    def __init__(self, around: Around, *, certificate: str = "", key: str = "") -> None:
        self._store, self._hosts = around.store, around.hosts
        self._visitors, self._listeners = around.visitors, around.listeners
        self._files: dict[str, str | None] = (
            {"ssl_certfile": certificate, "ssl_keyfile": key or None} if certificate else {}
        )
        self._listener: Listener | None = None
        self._address = ""

    @property
    def encrypted(self) -> bool:
        """Whether there is a certificate."""
        return bool(self._files)

    def start(self, port: int, *, names: list[str] | None = None) -> LinkView:
        """Begin to answer on every private address, or on `names`. Raises `ShareError`."""
        if not self._store.people.has_passwords():
            raise ShareNeedsPassword
        if self._listener is None:
            self._open(port, addresses() if names is None else names)
            self._store.record(OWNER_ID, "lan_start")
        view = self.view()
        assert view is not None
        return view

    def _open(self, port: int, names: list[str]) -> None:
        sockets = [opened for name in names if (opened := _listen(name, port)) is not None]
        if not sockets:
            raise LanAbsent
        hosts = [each.getsockname()[:2] for each in sockets]
        try:
            self._listener = self._listeners.open("lan", sockets, **self._files)
        except (OSError, ValueError) as error:
            raise CertificateUnusable from error
        for host, _ in hosts:
            self._hosts.opened[host] = "lan"
        scheme = "https" if self.encrypted else "http"
        self._address = f"{scheme}://{hosts[0][0]}:{hosts[0][1]}"

    def stop(self) -> None:
        """End it at once; off is no error."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        self._hosts.close("lan")
        listener.close()
        self._store.record(OWNER_ID, "lan_stop")

    def view(self) -> LinkView | None:
        """The address while it is on; it does not expire."""
        if self._listener is None:
            return None
        return LinkView(self._address, 0.0, self._visitors.count("lan"))


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
