"""The share link: Gradio's tunnel to a listener of its own, started and ended by the owner.

Never `launch(share=True)`: that would load the page's script from a third party. The tunnel program
is checked by its hash before every start, and a changed one is deleted. While the link is open its
host name is on the gateway's list; when it ends, the name goes first, then the program and whoever
came by it.

    ShareError
    ├── ShareNeedsPassword   nobody could sign in: the link would be useless or open
    ├── TunnelMissing        the tunnel program is not here and cannot be fetched
    ├── TunnelChanged        it is not the program that this version of Gradio names
    └── TunnelFailed         the tunnel server does not answer or turned us away
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Timer
from typing import Any, Protocol
from urllib.parse import urlsplit

import segno

from app.beside import Around, Listener
from storage.records import OWNER_ID

MAX_HOURS = 168

log = logging.getLogger("corral.share")


class ShareError(Exception):
    """Base of what keeps a link from opening."""


class ShareNeedsPassword(ShareError):
    """No account has a password."""


class TunnelMissing(ShareError):
    """The tunnel program is not on this machine."""


class TunnelChanged(ShareError):
    """The tunnel program is not the one whose hash is known."""


class TunnelFailed(ShareError):
    """The tunnel could not be opened."""


class Tunnel(Protocol):
    """A way from a public address to a port of this machine."""

    def open(self, port: int) -> str:
        """Open it; the public address. Blocks. Raises `ShareError`."""
        ...

    def close(self) -> None:
        """End it at once."""
        ...

    def alive(self) -> bool:
        """Whether it still stands."""
        ...


class GradioTunnel:
    """The tunnel that Gradio's own links use, to Gradio's server or to one of your own."""

    def __init__(self, server: str = "", certificate: str = "") -> None:
        self._server = server
        self._certificate = certificate
        self._tunnel: Any = None

    def open(self, port: int) -> str:
        """See `Tunnel.open`."""
        from gradio import networking, tunneling

        program = Path(tunneling.BINARY_PATH)
        if not program.is_file():
            _fetch(program, tunneling.Tunnel.download_binary)
        check_program(program, tunneling.CHECKSUMS.get(tunneling.BINARY_URL, ""))
        before = len(tunneling.CURRENT_TUNNELS)
        try:
            return networking.setup_tunnel(
                "127.0.0.1",
                port,
                secrets.token_urlsafe(32),
                self._server or None,
                self._certificate or None,
            )
        except Exception as error:
            log.warning("the tunnel did not open: %s", type(error).__name__)
            raise TunnelFailed from error
        finally:
            begun = tunneling.CURRENT_TUNNELS[before:]
            self._tunnel = begun[-1] if begun else None

    def close(self) -> None:
        """See `Tunnel.close`."""
        process = getattr(self._tunnel, "proc", None)
        if process is not None:
            process.kill()
            process.wait()
            self._tunnel.proc = None

    def alive(self) -> bool:
        """See `Tunnel.alive`."""
        process = getattr(self._tunnel, "proc", None)
        return process is not None and process.poll() is None


def _fetch(program: Path, download: Callable[[], None]) -> None:
    """Get the tunnel program, as Gradio does. Whatever arrived by halves is removed."""
    try:
        download()
    except Exception as error:
        program.unlink(missing_ok=True)
        log.warning("the tunnel program could not be fetched: %s", type(error).__name__)
        raise TunnelMissing from error


def check_program(program: Path, sha256: str) -> None:
    """That the program is the known one. Deletes another, and raises `TunnelChanged`."""
    found = hashlib.sha256(program.read_bytes()).hexdigest()
    if not sha256 or found != sha256:
        program.unlink(missing_ok=True)
        raise TunnelChanged


@dataclass(frozen=True, slots=True)
class LinkView:
    """A link that is open. `expires_at` in seconds since 1970."""

    address: str
    expires_at: float
    num_visitors: int

    def qr(self) -> str:
        """The address as a QR code: SVG for the page, of shapes alone."""
        code = segno.make(self.address, error="m")
        return code.svg_inline(scale=4, border=2, dark="#000", light="#fff")


class Share:
    """Opens and ends the one share link. Its methods block; safe to call from any thread."""

    def __init__(self, around: Around, tunnel: Callable[[], Tunnel]) -> None:
        self._store, self._hosts = around.store, around.hosts
        self._visitors, self._listeners = around.visitors, around.listeners
        self._make = tunnel
        self._lock = Lock()
        self._tunnel: Tunnel | None = None
        self._listener: Listener | None = None
        self._timer: Timer | None = None
        self._address, self._expires_at = "", 0.0

    def start(self, *, hours: float) -> LinkView:
        """Open the link for `hours`; one that is open already stays. Raises `ShareError`."""
        if not self._store.people.has_passwords():
            raise ShareNeedsPassword
        with self._lock:
            if self._tunnel is None:
                self._open(min(hours, MAX_HOURS) * 3_600)
        self._store.record(OWNER_ID, "share_start")
        view = self.view()
        if view is None:
            raise TunnelFailed
        return view

    def _open(self, seconds: float) -> None:
        inside = socket.create_server(("127.0.0.1", 0))
        port = inside.getsockname()[1]
        listener, tunnel = self._listeners.open("share", [inside]), self._make()
        try:
            address = tunnel.open(port)
            host = urlsplit(address).hostname
            if not host:
                raise TunnelFailed
        except ShareError:
            tunnel.close()
            listener.close()
            raise
        self._tunnel, self._listener, self._address = tunnel, listener, f"https://{host}"
        self._expires_at = time.time() + seconds
        self._hosts.opened[host] = "share"
        self._timer = Timer(seconds, self.stop)
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        """End the link at once; none is no error."""
        with self._lock:
            tunnel, self._tunnel = self._tunnel, None
            if tunnel is None:
                return
            self._hosts.close("share")
            tunnel.close()
            if self._listener is not None:
                self._listener.close()
            if self._timer is not None:
                self._timer.cancel()
        self._store.record(OWNER_ID, "share_stop")

    def view(self) -> LinkView | None:
        """The link that is open. One whose tunnel has ended is taken back."""
        with self._lock:
            tunnel, address, expires_at = self._tunnel, self._address, self._expires_at
        if tunnel is None:
            return None
        if not tunnel.alive():
            self.stop()
            return None
        return LinkView(address, expires_at, self._visitors.count("share"))
