"""The share link and the network.

The tunnel program here is a test double: a script that says what Gradio's `frpc` says and passes
bytes on as it does. Everything around it is real, Gradio's own tunnel class included; the real
program and server are not run.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from gradio import tunneling

from app import beside
from app.accounts import digest
from app.explain import explain
from app.rates import LINK_TIMES, Rates
from app.server import _Server
from app.services import Services
from app.share import (
    GradioTunnel,
    ShareNeedsPassword,
    TunnelChanged,
    TunnelFailed,
    TunnelMissing,
)
from app.site import Site, build
from app.strings import Strings
from storage.records import OWNER_ID
from tests.app.api.running import served
from tests.app.asgi import ask, same_origin
from tests.app.house import make_services, no_page, sign_in
from tests.app.paper_tunnel import HOST, PaperTunnel, share_of
from tests.waiting import until

PASSWORD = "four words in a row"
posix = pytest.mark.skipif(os.name != "posix", reason="the double is a script with a #! line")


def test_without_a_password_nothing_opens(site: Site) -> None:
    tunnel = PaperTunnel()
    with pytest.raises(ShareNeedsPassword):
        share_of(site, tunnel).start(hours=1)
    with pytest.raises(ShareNeedsPassword):
        site.doors.lan.start(0)
    assert tunnel.ports == []


def test_the_link_lives_from_start_to_stop(site: Site, services: Services) -> None:
    site.doors.set_password(OWNER_ID, PASSWORD)
    cookie = sign_in(services, OWNER_ID, "owner", secure=True)
    tunnel = PaperTunnel()
    share = share_of(site, tunnel)

    def status() -> int:
        headers = [*same_origin(cookie, f"https://{HOST}")]
        return ask(site.app, "GET", "/corral/corral.css", hosts=[HOST], headers=headers).status

    assert status() == 403
    view = share.start(hours=2)
    assert view.address == f"https://{HOST}"
    assert tunnel.ports == share._listeners.ports  # type: ignore[attr-defined]  # not the owner's
    assert 7_100 < view.expires_at - time.time() <= 7_200
    assert status() == 200
    found = share.view()
    assert found is not None and found.num_visitors == 1
    assert found.qr().startswith("<svg") and "<script" not in found.qr()
    assert share.start(hours=2).address == view.address and len(tunnel.ports) == 1
    share.stop()
    assert status() == 403 and tunnel.closed == 1 and share.view() is None
    actions = [entry.action for entry in services.store.audit()]
    assert "share_start" in actions and "share_stop" in actions


def test_a_start_with_share_opens_the_link_or_says_why_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `python3 launcher.py share` asks for, once the server answers."""
    services = make_services(tmp_path / "other", "--share", "--share-hours", "3")
    site, strings = build(services, no_page), Strings.load("en")
    tunnel = PaperTunnel()
    share_of(site, tunnel)
    server = _Server(site, services, strings)
    server._open_links()
    refused = explain(ShareNeedsPassword(), strings)
    assert refused.action in capsys.readouterr().out and tunnel.ports == []
    site.doors.set_password(OWNER_ID, PASSWORD)
    server._open_links()
    told = strings.say("server.share", url=f"https://{HOST}", hours=3)
    assert told in capsys.readouterr().out and tunnel.up
    site.doors.close()
    services.close()


def test_a_link_ends_by_itself(site: Site) -> None:
    site.doors.set_password(OWNER_ID, PASSWORD)
    tunnel = PaperTunnel()
    share = share_of(site, tunnel)
    share.start(hours=0.05 / 3_600)
    until(lambda: not tunnel.up)
    assert share.view() is None and site.app.hosts.opened == {}


def test_a_tunnel_that_died_is_taken_back(site: Site) -> None:
    site.doors.set_password(OWNER_ID, PASSWORD)
    tunnel = PaperTunnel()
    share = share_of(site, tunnel)
    share.start(hours=1)
    tunnel.up = False
    assert share.view() is None
    assert not site.app.hosts.allows([HOST])


def test_over_a_link_requests_say_that_they_come_from_away(site: Site, services: Services) -> None:
    seen = []

    async def look(scope: dict[str, object], receive: object, send: Callable) -> None:  # type: ignore[type-arg]
        seen.append((scope["corral_user"], scope["corral_away"], scope["scheme"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    site.app._app = look  # type: ignore[assignment]
    site.app.hosts.opened[HOST] = "share"
    for host, secure in ((HOST, True), ("127.0.0.1:7860", False)):
        cookie = sign_in(services, OWNER_ID, f"owner-{secure}", secure=secure)
        ask(site.app, "GET", "/", hosts=[host], headers=[("cookie", cookie)])
    assert seen == [(OWNER_ID, True, "https"), (OWNER_ID, False, "http")]


# The tunnel program


FRPC = f"""
import asyncio, pathlib, sys

async def pour(reader, writer):
    while part := await reader.read(1 << 16):
        writer.write(part)
        await writer.drain()
    writer.close()

async def visit(reader, writer):
    port = int(sys.argv[sys.argv.index("-l") + 1])
    there, inside = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.gather(pour(reader, inside), pour(there, writer), return_exceptions=True)

async def main():
    server = await asyncio.start_server(visit, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    pathlib.Path(OUTSIDE).write_text(str(port))  # where its visitors come in
    print("start proxy success: https://{HOST}", flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A double of frpc, known by its hash."""
    path = tmp_path / "frpc"
    path.write_text(f"#!{sys.executable}\nOUTSIDE = {str(tmp_path / 'outside')!r}\n" + FRPC)
    path.chmod(0o700)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(tunneling, "BINARY_PATH", str(path))
    monkeypatch.setattr(tunneling, "CHECKSUMS", {tunneling.BINARY_URL: digest})
    return path


@posix
def test_the_program_is_started_to_the_guarded_port_and_ended(program: Path) -> None:
    tunnel = GradioTunnel("127.0.0.1:7000")
    assert tunnel.open(7860) == f"https://{HOST}"
    process = tunnel._tunnel.proc
    arguments = process.args
    assert arguments[arguments.index("-l") + 1] == "7860"
    assert arguments[arguments.index("-i") + 1] == "127.0.0.1"
    assert arguments[arguments.index("--server_addr") + 1] == "127.0.0.1:7000"  # the one we named
    assert tunnel.alive()
    tunnel.close()
    assert not tunnel.alive() and process.poll() is not None
    process.stdout.close()
    process.stderr.close()


@posix
def test_a_changed_program_is_deleted_and_not_started(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("it was started"))
    program.write_bytes(program.read_bytes() + b"\n")
    with pytest.raises(TunnelChanged):
        GradioTunnel("127.0.0.1:7000").open(7860)
    assert not program.exists()


def test_a_program_without_a_known_hash_is_not_started(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunneling, "CHECKSUMS", {})
    with pytest.raises(TunnelChanged):
        GradioTunnel("127.0.0.1:7000").open(7860)


def test_a_program_that_cannot_be_fetched_is_explained(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program.unlink()

    def fail() -> None:
        program.write_bytes(b"half of it")
        raise OSError("no network")

    monkeypatch.setattr(tunneling.Tunnel, "download_binary", staticmethod(fail))
    with pytest.raises(TunnelMissing) as found:
        GradioTunnel("127.0.0.1:7000").open(7860)
    assert not program.exists()
    assert "frpc" in explain(found.value, Strings.load("en")).text


@posix
def test_a_server_that_turns_us_away_is_explained(
    program: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program.write_text(f"#!{sys.executable}\nprint('login to server failed: no', flush=True)\n")
    digest = hashlib.sha256(program.read_bytes()).hexdigest()
    monkeypatch.setattr(tunneling, "CHECKSUMS", {tunneling.BINARY_URL: digest})
    tunnel = GradioTunnel("127.0.0.1:7000")
    with pytest.raises(TunnelFailed):
        tunnel.open(7860)
    process = tunnel._tunnel.proc
    tunnel.close()
    process.stdout.close()
    process.stderr.close()


@posix
def test_what_comes_through_a_tunnel_is_never_at_this_machine(
    program: Path, site: Site, services: Services
) -> None:
    """Bytes really pass through the double; whoever serves the tunnel may write any of them."""
    site.doors.set_password(OWNER_ID, PASSWORD)
    site.doors.share._make = lambda: GradioTunnel("127.0.0.1:7000")
    cookies = {
        secure: sign_in(services, OWNER_ID, f"stolen-{secure}", secure=secure)
        for secure in (False, True)
    }
    with served(site) as here, httpx.Client(verify=False) as client:
        site.doors.share.start(hours=1)
        outside = f"http://127.0.0.1:{(program.parent / 'outside').read_text()}"

        def ask_outside(path: str, host: str, **more: str) -> httpx.Response:
            return client.get(outside + path, headers={"Host": host, **more})

        shown = ask_outside("/", HOST)
        assert shown.status_code == 401 and 'id="signin"' in shown.text
        known = ask_outside("/corral/corral.css", HOST, Cookie=cookies[True])
        assert known.status_code == 200
        # The owner's session, asked for as if at the machine: refused there, whichever the name.
        for host in ("127.0.0.1:7860", "localhost", "[::1]", "127.0.0.1"):
            for path in ("/", "/corral/enter", "/corral/health", "/corral/corral.css"):
                assert ask_outside(path, host, Cookie=cookies[False]).status_code == 403
        own = client.get(
            f"{here.removesuffix('/v1')}/corral/corral.css", headers={"Cookie": cookies[False]}
        )
        assert own.status_code == 200
        process = site.doors.share._tunnel._tunnel.proc  # type: ignore[union-attr]
        site.doors.share.stop()
        assert process.poll() is not None
        with pytest.raises(httpx.TransportError):
            ask_outside("/", HOST)
        process.stdout.close()
        process.stderr.close()


def test_a_flood_over_the_link_leaves_the_owner_alone(
    site: Site, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strangers, accounts, and a stolen session of the owner's, from more places than there are."""
    monkeypatch.setattr(beside, "MAX_CONNECTIONS", 20)
    site.doors.set_password(OWNER_ID, PASSWORD)
    share, burst = share_of(site, PaperTunnel()), 12
    share._listeners = site.listeners
    site.app.rates = Rates(per_second=0.0, burst=burst, pause_seconds=0.01)
    cookies = [sign_in(services, OWNER_ID, "stolen", secure=True), ""]
    for number in range(8):
        invited = site.doors.invite("user", "").partition("#")[2]
        user = services.store.people.accept(digest(invited), f"person {number}", "hash").id
        cookies.append(sign_in(services, user, f"person-{number}", secure=True))
    own = {"Cookie": sign_in(services, OWNER_ID, "owner")}
    found: Counter[int] = Counter()
    asked_here: list[int] = []

    async def visit(number: int, url: str) -> None:
        headers = {"Host": HOST, "Cookie": cookies[number % len(cookies)]}
        async with httpx.AsyncClient(headers=headers, timeout=60, verify=False) as client:
            for _ in range(10):
                try:
                    answer = await client.get(f"{url}/corral/corral.css")
                    found[answer.status_code] += 1
                except httpx.TransportError:
                    found[0] += 1  # cut

    async def flood(inside: str, here: str) -> None:
        flooding = asyncio.gather(*(visit(number, inside) for number in range(40)))
        async with httpx.AsyncClient(headers=own, timeout=60, verify=False) as client:
            for _ in range(burst):
                answer = await client.get(f"{here}/corral/corral.css")
                asked_here.append(answer.status_code)
        await flooding

    with served(site) as address:
        here = address.removesuffix("/v1")
        share.start(hours=1)
        inside = share._tunnel.ports[0]  # type: ignore[union-attr]  # a PaperTunnel
        asyncio.run(flood(f"http://127.0.0.1:{inside}", here))
        share.stop()
    assert asked_here == [200] * burst  # none of the owner's own is used up, none is cut
    assert sum(found.values()) == 40 * 10
    assert 0 < found[200] + found[401] <= LINK_TIMES * burst
    assert found[429] > 0 and found[0] > 0 and not {*found} - {0, 200, 401, 429}
