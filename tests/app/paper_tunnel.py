"""A tunnel of paper, for tests of the share link: it opens nothing and counts."""

from __future__ import annotations

import socket

from app.share import Share
from app.site import Site

HOST = "abcdef.gradio.live"


class PaperTunnel:
    def __init__(self) -> None:
        self.ports: list[int] = []
        self.closed = 0
        self.up = False

    def open(self, port: int) -> str:
        self.ports.append(port)
        self.up = True
        return f"https://{HOST}"

    def close(self) -> None:
        self.closed += 1
        self.up = False

    def alive(self) -> bool:
        return self.up


class PaperListeners:
    """Answers nobody; keeps what it was given to listen on until it is closed."""

    def __init__(self) -> None:
        self.ports: list[int] = []

    def open(self, way: str, sockets: list[socket.socket]) -> PaperListeners:
        self._sockets = sockets
        self.ports += [each.getsockname()[1] for each in sockets]
        return self

    def close(self) -> None:
        for each in self._sockets:
            each.close()


def share_of(site: Site, tunnel: PaperTunnel) -> Share:
    share = site.doors.share
    share._make = lambda: tunnel
    share._listeners = PaperListeners()  # type: ignore[assignment]  # it has `open`
    return share
