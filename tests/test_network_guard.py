"""The guard that keeps every test on this machine."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.network_guard import LOG_VARIABLE, NetworkForbidden, is_loopback

ATTEMPT = "import socket\ntry: socket.create_connection(('192.0.2.1', 80), 1)\nexcept OSError: pass"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "", None, b"::1"])
def test_this_machine_is_allowed(host: object) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["192.0.2.1", "10.0.0.1", "2001:db8::1", "example.com", b"8.8.8.8"]
)
def test_everything_else_is_not(host: object) -> None:
    assert not is_loopback(host)


def test_a_connection_outwards_is_refused_and_remembered(network_attempts: list[str]) -> None:
    with pytest.raises(NetworkForbidden), socket.socket() as outward:
        outward.connect(("192.0.2.1", 80))  # TEST-NET-1 of RFC 5737: nobody's address
    with pytest.raises(NetworkForbidden):
        socket.getaddrinfo("example.com", 443)
    assert [line.split()[0] for line in network_attempts] == [
        "socket.connect",
        "socket.getaddrinfo",
    ]
    network_attempts.clear()


def test_a_child_process_is_watched_too(guarded_environment: dict[str, str]) -> None:
    child = [sys.executable, "-c", ATTEMPT]
    assert subprocess.run(child, env=guarded_environment, check=False).returncode == 0
    log = Path(guarded_environment[LOG_VARIABLE])
    assert "192.0.2.1" in log.read_text()
    log.unlink()


def test_loopback_still_works() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), 5).close()
