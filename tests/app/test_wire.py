"""Raw bytes to a real port: smuggled, cut, slow and nonsensical requests."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import uvicorn

from app import wire
from app.wire import http_config
from tests.app.gateway_house import OWNER, House

HEAD = f"Host: 127.0.0.1:7860\r\nCookie: {OWNER}\r\n"
GET = f"GET /config HTTP/1.1\r\n{HEAD}"
POST = (
    f"POST /gradio_api/queue/join HTTP/1.1\r\n{HEAD}"
    "Origin: http://127.0.0.1:7860\r\nContent-Type: application/json\r\n"
)
CHUNKED = "Transfer-Encoding: chunked\r\n"
SMUGGLED = "GET /config HTTP/1.1\r\nHost: 127.0.0.1:7860\r\n\r\n"

# A request that hides another, or that two readers could read in two ways, and plain nonsense.
ODD = {
    "two lengths": f"{POST}Content-Length: 0\r\nContent-Length: 9\r\n\r\n{SMUGGLED}",
    "length and chunks": f"{POST}Content-Length: 4\r\n{CHUNKED}\r\n0\r\n\r\n",
    "two encodings": f"{POST}Transfer-Encoding: gzip\r\n{CHUNKED}\r\n0\r\n\r\n",
    "an odd encoding": f"{POST}Transfer-Encoding: xchunked\r\n\r\n{SMUGGLED}",
    "a negative length": f"{POST}Content-Length: -1\r\n\r\n",
    "a length with a sign": f"{POST}Content-Length: +5\r\n\r\nabcde",
    "a huge length": f"{POST}Content-Length: {10**30}\r\n\r\n",
    "a chunk without a size": f"{POST}{CHUNKED}\r\nzz\r\n\r\n",
    "a chunk too large": f"{POST}{CHUNKED}\r\n{'f' * 40}\r\n",
    "a body on a GET": f"{GET}Content-Length: {len(SMUGGLED)}\r\n\r\n{SMUGGLED}",
    "chunks on a GET": f"{GET}{CHUNKED}\r\n1\r\nx\r\n0\r\n\r\n",
    "a space before the colon": f"{GET}X-A : b\r\n\r\n",
    "a folded header": "GET / HTTP/1.1\r\nHost: evil.example\r\n 127.0.0.1:7860\r\n\r\n",
    "two hosts": f"GET / HTTP/1.1\r\n{HEAD}Host: evil.example\r\n\r\n",
    "an absolute address": f"GET http://evil.example/ HTTP/1.1\r\n{HEAD}Connection: close\r\n\r\n",
    "a NUL in a header": f"GET / HTTP/1.1\r\n{HEAD}X-A: a\0b\r\n\r\n",
    "a NUL in the path": f"GET /conf\0ig HTTP/1.1\r\n{HEAD}\r\n",
    "no version": "GET /config\r\n\r\n",
    "an odd version": f"GET /config HTTP/1.1x\r\n{HEAD}\r\n",
    "another protocol": "SSH-2.0-OpenSSH_9.9\r\n\r\n",
    "upgrade": f"GET /x HTTP/1.1\r\n{HEAD}Connection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n",
    "TLS": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "many headers": f"{GET}" + "X-A: b\r\n" * 200 + "\r\n",
    "a long header": f"{GET}X-A: {'b' * 60_000}\r\n\r\n",
    "an endless header": f"{GET}X-A: {'b' * 200_000}",
    "a long path": f"GET /{'a' * 60_000} HTTP/1.1\r\n{HEAD}\r\n",
}  # fmt: skip


@contextmanager
def listening(house: House, max_connections: int | None = None) -> Iterator[int]:
    """The gateway before its echo, on a port of this machine."""
    config = http_config(house.app, host="127.0.0.1", port=0, max_connections=max_connections)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    while not server.started:
        threading.Event().wait(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def said(port: int, content: bytes) -> bytes:
    """Everything that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        with suppress(ConnectionError):  # it may have closed before everything was sent
            connection.sendall(content)
        found = b""
        with suppress(ConnectionError):
            while part := connection.recv(1 << 16):
                found += part
        return found


@pytest.fixture(scope="module")
def house() -> House:
    return House()


@pytest.fixture(scope="module")
def port(house: House) -> Iterator[int]:
    with listening(house) as found:
        yield found


@pytest.mark.parametrize("kind", ODD)
def test_nothing_is_smuggled_and_nothing_breaks(house: House, port: int, kind: str) -> None:
    house.echo.scopes.clear()
    answer = said(port, ODD[kind].encode("latin-1"))
    statuses = [line.split()[1] for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    assert len(statuses) <= 1, answer  # what was hidden in it is no second request
    assert all(b"400" <= status < b"500" for status in statuses), answer
    assert house.echo.scopes == []
    sound = said(port, f"{GET}Connection: close\r\n\r\n".encode())
    assert sound.startswith(b"HTTP/1.1 200")


def test_who_never_ends_a_request_is_left(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "HEAD_SECONDS", 0.2)
    for begun in (b"", b"GET /config HTTP/1.1\r\nHost: 127.0.0.1", POST.encode()):
        assert said(port, begun) == b""  # it comes back at all: the server closed it


def test_beyond_the_limit_connections_are_cut() -> None:
    with listening(House(), max_connections=3) as port:
        held = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(3)]
        sound = f"GET /corral/health HTTP/1.1\r\n{HEAD}Connection: close\r\n\r\n".encode()
        assert said(port, sound) == b""
        for connection in held:  # those who came in time are served
            connection.sendall(sound)
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
            connection.close()
