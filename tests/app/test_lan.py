"""The local network: the guarded app on this machine's own addresses, while it is on."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from app.beside import Around
from app.hosts import Hosts
from app.lan import CertificateUnusable, Lan, LanAbsent
from app.services import Services
from app.site import Site
from app.visitors import Visitors
from storage.records import OWNER_ID
from tests.waiting import until

PASSWORD = "four words in a row"


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
    site.doors.set_password(OWNER_ID, PASSWORD)
    lan = site.doors.lan
    with Loop() as loop:
        site.listeners.loop = loop
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
    site.doors.set_password(OWNER_ID, PASSWORD)
    lan = Lan(
        Around(services.store, site.app.hosts, Visitors(), site.listeners),
        certificate=str(tmp_path / "cert"),
        key=str(tmp_path / "key"),
    )
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    with Loop() as loop:
        site.listeners.loop = loop
        address = lan.start(0, names=["127.0.0.2"]).address
        assert address.startswith("https://")
        assert wait_for(address + "/", verify=trust).status_code == 401
        lan.stop()


def wait_for(url: str, **options: object) -> httpx.Response:
    found: list[httpx.Response] = []

    def answers() -> bool:
        with suppress(httpx.TransportError):
            found.append(httpx.get(url, **options))  # type: ignore[arg-type]
        return bool(found)

    until(answers)
    return found[0]


def test_a_network_that_cannot_be_opened_is_told(services: Services, site: Site) -> None:
    site.doors.set_password(OWNER_ID, PASSWORD)
    with Loop() as loop:
        site.listeners.loop = loop
        with pytest.raises(LanAbsent):
            site.doors.lan.start(0, names=[])
        around = Around(services.store, Hosts(), Visitors(), site.listeners)
        broken = Lan(around, certificate="/no/x")
        with pytest.raises(CertificateUnusable):
            broken.start(0, names=["127.0.0.2"])
