"""The share link and the network.

The tunnel program here is a test double: a script that says what Gradio's `frpc` says. Everything
around it is real, Gradio's own tunnel class included; the real program and server are not run.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from gradio import tunneling

from app.explain import explain
from app.hosts import Hosts
from app.lan import CertificateUnusable, Lan, LanAbsent
from app.services import Services
from app.share import (
    GradioTunnel,
    ShareError,
    ShareNeedsPassword,
    TunnelChanged,
    TunnelFailed,
    TunnelMissing,
)
from app.site import Site
from app.strings import Strings
from app.visitors import Visitors
from storage.records import OWNER_ID
from tests.app.asgi import ask, same_origin
from tests.app.house import sign_in
from tests.app.paper_tunnel import HOST, PaperTunnel, share_of

posix = pytest.mark.skipif(os.name != "posix", reason="the double is a script with a #! line")


def test_without_a_password_nothing_opens(site: Site) -> None:
    tunnel = PaperTunnel()
    with pytest.raises(ShareNeedsPassword):
        share_of(site, tunnel).start(7860, hours=1)
    with pytest.raises(ShareNeedsPassword):
        site.doors.lan.start(0)
    assert tunnel.ports == []


def test_the_link_lives_from_start_to_stop(site: Site, services: Services) -> None:
    site.doors.set_password(OWNER_ID, "four words in a row")
    cookie = sign_in(services, OWNER_ID, "owner", secure=True)
    tunnel = PaperTunnel()
    share = share_of(site, tunnel)

    def status() -> int:
        headers = [*same_origin(cookie, f"https://{HOST}")]
        return ask(site.app, "GET", "/corral/corral.css", hosts=[HOST], headers=headers).status

    assert status() == 403
    view = share.start(7860, hours=2)
    assert view.address == f"https://{HOST}" and tunnel.ports == [7860]
    assert 7_100 < view.expires_at - time.time() <= 7_200
    assert status() == 200
    found = share.view()
    assert found is not None and found.num_visitors == 1
    assert found.qr().startswith("<svg") and "<script" not in found.qr()
    assert share.start(7860, hours=2).address == view.address and tunnel.ports == [7860]
    share.stop()
    assert status() == 403 and tunnel.closed == 1 and share.view() is None
    actions = [entry.action for entry in services.store.audit()]
    assert "share_start" in actions and "share_stop" in actions


def test_a_link_ends_by_itself(site: Site) -> None:
    site.doors.set_password(OWNER_ID, "four words in a row")
    tunnel = PaperTunnel()
    share = share_of(site, tunnel)
    share.start(7860, hours=0.05 / 3_600)
    deadline = time.monotonic() + 20
    while tunnel.up and time.monotonic() < deadline:
        time.sleep(0.01)
    assert share.view() is None and site.app.hosts.opened == {}


def test_a_tunnel_that_died_is_taken_back(site: Site) -> None:
    site.doors.set_password(OWNER_ID, "four words in a row")
    tunnel = PaperTunnel()
    share = share_of(site, tunnel)
    share.start(7860, hours=1)
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


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A double of frpc, known by its hash."""
    path = tmp_path / "frpc"
    path.write_text(
        f"#!{sys.executable}\nimport sys, time\n"
        f"print('start proxy success: https://{HOST}', flush=True)\ntime.sleep(600)\n"
    )
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


def test_every_error_of_a_link_has_a_sentence() -> None:
    strings = Strings.load("en")
    for error in [ShareError, *ShareError.__subclasses__()]:
        assert f"errors.{error.__name__}.action" in strings, error


# The network


class Loop:
    """An event loop on a thread, as the first server has one."""

    def __enter__(self) -> asyncio.AbstractEventLoop:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        return self.loop

    def __exit__(self, *_: object) -> None:
        async def settle() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.wait(others, timeout=20) if others else None

        asyncio.run_coroutine_threadsafe(settle(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


def test_the_network_gets_the_guarded_app_while_it_is_on(site: Site) -> None:
    site.doors.set_password(OWNER_ID, "four words in a row")
    lan = site.doors.lan
    with Loop() as loop:
        lan.loop = loop
        # An address of this machine that is not in the list of its own names.
        view = lan.start(0, names=["127.0.0.2"])
        answer = wait_for(view.address + "/")
        assert answer.status_code == 401 and 'id="signin"' in answer.text
        assert httpx.get(view.address + "/corral/health").status_code == 200
        lan.stop()
        assert lan.view() is None and site.app.hosts.opened == {}


def test_with_a_certificate_it_is_encrypted(site: Site, services: Services, tmp_path: Path) -> None:
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj"]
        + ["/CN=corral", "-keyout", tmp_path / "key", "-out", tmp_path / "cert"],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("there is no openssl to make a certificate with")
    site.doors.set_password(OWNER_ID, "four words in a row")
    lan = Lan(
        services.store,
        site.app.hosts,
        Visitors(),
        site.app,
        certificate=str(tmp_path / "cert"),
        key=str(tmp_path / "key"),
    )
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    with Loop() as loop:
        lan.loop = loop
        address = lan.start(0, names=["127.0.0.2"]).address
        assert address.startswith("https://")
        assert wait_for(address + "/", verify=trust).status_code == 401
        lan.stop()


def wait_for(url: str, **options: object) -> httpx.Response:
    deadline = time.monotonic() + 30
    while True:
        try:
            return httpx.get(url, **options)  # type: ignore[arg-type]
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def test_a_network_that_cannot_be_opened_is_told(services: Services, site: Site) -> None:
    site.doors.set_password(OWNER_ID, "four words in a row")
    with Loop() as loop:
        site.doors.lan.loop = loop
        with pytest.raises(LanAbsent):
            site.doors.lan.start(0, names=[])
        broken = Lan(services.store, Hosts(), Visitors(), site.app, certificate="/no/such/file")
        broken.loop = loop
        with pytest.raises(CertificateUnusable):
            broken.start(0, names=["127.0.0.2"])
