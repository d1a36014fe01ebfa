"""The page is answered under a short list of names, however others are spelled."""

from __future__ import annotations

import pytest

from tests.app.asgi import Answer
from tests.app.gateway_house import OWNER, House

GOOD_HOSTS = ["127.0.0.1:7860", "localhost:7860", "LOCALHOST:7860", "[::1]:7860", "localhost"]


BAD_HOSTS = [
    "", " ", "evil.example", "evil.example:7860", "127.0.0.1.evil.example",
    "localhost.evil.example",
    "evil.example#localhost", "localhost@evil.example", "evil@localhost", "user:pw@127.0.0.1:7860",
    "127.0.0.1:7860@evil.example", "localhost.", "localhost.:7860", "127.0.0.1.", "127.1",
    "127.0.1",
    "127.0.0.2", "127.0.0.01", "0127.0.0.1", "0x7f.0.0.1", "0x7f000001", "2130706433",
    "017700000001",
    "0", "0.0.0.0", "0.0.0.0:7860", "[::]", "[::]:7860", "::1", "[::1", "::1]", "[::1]]:7860",
    "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::1%25eth0]", "[fe80::1]",
    "localhost:", "localhost:0", "localhost:65536", "localhost:99999", "localhost:123456",
    "localhost:-1", "localhost:+80", "localhost:0x50", "localhost:80:80", "localhost:８０",
    "localhost:7860/", "localhost/", "localhost?", "localhost\\", "/localhost", "//localhost",
    "http://localhost", "local host", "localhost ", " localhost", "localhost\t", "localhost\x00",
    "localhost,evil.example", "localhost;evil", "ｌocalhost", "loopback", "ip6-localhost", "*",
    "192.168.0.1", "10.0.0.1:7860", "169.254.169.254", "x.gradio.live", "corral.local",
    "%6cocalhost",
]  # fmt: skip


def test_fifty_wrong_hosts_are_refused(house: House) -> None:
    hosts = [h.encode("utf-8").decode("latin-1") for h in BAD_HOSTS]
    assert len(set(hosts)) >= 50
    accepted = [h for h in hosts if house.get("/", hosts=[h]).status != 403]
    assert accepted == []
    assert house.echo.scopes == []


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_this_machine_is_accepted(house: House, host: str) -> None:
    assert house.get("/", hosts=[host]).status == 200


def test_no_host_and_two_hosts_are_refused(house: House) -> None:
    assert house.get("/", hosts=[]).status == 403
    assert house.get("/", hosts=["localhost", "localhost"]).status == 403
    assert house.get("/", hosts=["localhost", "evil.example"]).status == 403


def test_a_configured_host_is_accepted_and_no_other() -> None:
    house = House(hosts=("box.lan",))
    assert house.get("/", hosts=["Box.lan:7860"]).status == 200
    assert house.get("/", hosts=["notbox.lan"]).status == 403
    assert house.get("/", hosts=["box.lan.evil.example"]).status == 403


def test_a_person_who_typed_localhost_is_led_to_the_address_of_the_cookie(house: House) -> None:
    typed = [("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")]

    def get(path: str, host: str, headers: list[tuple[str, str]], cookie: str = "") -> Answer:
        return house.get(path, cookie=cookie, hosts=[host], headers=headers)

    led = get("/", "localhost:7860", typed)
    assert (led.status, led.headers["location"]) == (302, "http://127.0.0.1:7860/")
    assert get("/", "localhost", typed).headers["location"] == "http://127.0.0.1/"
    assert get("/", "localhost:7860", []).status == 401
    assert get("/", "127.0.0.1:7860", typed).status == 401
    assert get("/config", "localhost:7860", typed).status == 401
    assert get("/", "localhost:7860", typed, OWNER).status == 200
    linked = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]
    linked.append(("sec-fetch-dest", "document"))
    assert get("/", "localhost:7860", linked).status == 401
