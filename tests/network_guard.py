"""Refuses every connection that leaves this machine, and remembers who tried.

Built on an audit hook, so that it also sees sockets opened inside libraries. It cannot be taken out
of a process again: that is the point.
"""

import ipaddress
import os
import sys
from pathlib import Path

LOG_VARIABLE = "NETWORK_GUARD_LOG"
_CONNECTING = {"socket.connect", "socket.sendto", "socket.sendmsg"}
_RESOLVING = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}


class NetworkForbidden(OSError):
    """A test tried to reach a machine other than this one."""


def is_loopback(host: object) -> bool:
    """Whether a host, as given to the socket module, is this machine."""
    if host is None or host in ("", b"", "localhost", b"localhost", "ip6-localhost"):
        return True
    text = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    try:
        address = ipaddress.ip_address(text.split("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _target(event: str, args: tuple[object, ...]) -> object:
    if event in _RESOLVING:
        return args[0]
    address = args[1]  # (socket, address)
    return address[0] if isinstance(address, tuple) and address else None  # str: a Unix socket


def install() -> list[str]:
    """Start refusing; returns the list that collects the attempts of this process."""
    attempts: list[str] = []
    log = os.environ.get(LOG_VARIABLE)

    def refuse(event: str, args: tuple[object, ...]) -> None:
        if event not in _CONNECTING and event not in _RESOLVING:
            return
        host = _target(event, args)
        if is_loopback(host):
            return
        attempts.append(f"{event} {host!r}")
        if log:
            with Path(log).open("a") as file:
                file.write(f"{event} {host!r}\n")
        raise NetworkForbidden(f"tests may not reach {host!r}")

    sys.addaudithook(refuse)
    return attempts
