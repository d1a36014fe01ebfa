"""Under which names the page may be asked for: the Host header must be one of a short list.

A page of another site can make a browser call 127.0.0.1, and with DNS rebinding even under its own
name; that name is not on the list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HOST = re.compile(r"(?P<name>[a-z0-9.-]+|\[[0-9a-f:.]+\])(:(?P<port>[0-9]{1,5}))?", re.IGNORECASE)


class Hosts:
    """The allow-list: this machine's own names and those in the settings."""

    def __init__(self, configured: Iterable[str] = ()) -> None:
        self._names = LOOPBACK | {name.lower() for name in configured}
        self.opened: dict[str, str] = {}  # names of a link that is open now → what opened it

    def allows(self, values: list[str]) -> bool:
        """Whether a request's Host headers are exactly one, well formed and on the list.

        Any port will do: a forwarded port (`ssh -L`) changes it, and a name on the list cannot
        be rebound. A trailing dot, user info and numeric forms of an address are refused.
        """
        if len(values) != 1:
            return False
        match = _HOST.fullmatch(values[0])
        if match is None or match["name"].lower() not in {*self._names, *self.opened}:
            return False
        return match["port"] is None or 0 < int(match["port"]) < 65536

    def close(self, opening: str) -> None:
        """Take back every name that `opening` has brought."""
        for name in [name for name, by in self.opened.items() if by == opening]:
            del self.opened[name]

    def is_local(self, host: str) -> bool:
        """Whether an allowed Host names this machine itself: not a link, not the network."""
        return _name(host) in LOOPBACK

    def opening(self, host: str) -> str:
        """What opened the name of an allowed Host: "share", "lan", or "" for the settings."""
        return self.opened.get(_name(host), "")


def _name(host: str) -> str:
    match = _HOST.fullmatch(host)
    return match["name"].lower() if match else ""
