"""A tunnel of paper, for tests of the share link: it opens nothing and counts."""

from __future__ import annotations

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


def share_of(site: Site, tunnel: PaperTunnel) -> Share:
    share = site.doors.share
    share._make = lambda: tunnel
    return share
