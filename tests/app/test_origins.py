"""What changes something comes from exactly the page's own address."""

from __future__ import annotations

import pytest

from tests.app.asgi import ORIGIN, same_origin
from tests.app.gateway_house import JOIN, OWNER, House

BAD_ORIGINS = [
    "", "null", "NULL", "http://evil.example", "https://127.0.0.1:7860", "http://127.0.0.1",
    "http://127.0.0.1:7861", "http://localhost:7860", "http://[::1]:7860", "file://", "http://",
    "http://127.0.0.1:7860.evil.example", "http://127.0.0.1:7860@evil.example", "//127.0.0.1:7860",
    "http://evil.example/http://127.0.0.1:7860", "http://127.0.0.1:7860/", "http://127.0.0.1:07860",
    "chrome-extension://abcdefgh", "127.0.0.1:7860", "http:/127.0.0.1:7860", "ws://127.0.0.1:7860",
    "http://127.0.0.1:7860, http://evil.example", "http://127.0.0.1:7860 http://evil.example",
    "http://127.0.0.1:7860\t", " http://127.0.0.1:7860",
]  # fmt: skip


def test_twenty_wrong_origins_are_refused(house: House) -> None:
    assert len(BAD_ORIGINS) >= 20
    body = {"session_hash": "abcdef"}
    for origin in BAD_ORIGINS:
        headers = [("origin", origin), ("content-type", "application/json"), ("cookie", OWNER)]
        assert house.post(JOIN, body, headers=headers).status == 403, origin
    assert house.echo.scopes == []


def test_a_post_without_an_origin_or_with_two_is_refused(house: House) -> None:
    kind, cookie = ("content-type", "application/json"), ("cookie", OWNER)
    assert house.post(JOIN, {"session_hash": "abcdef"}, headers=[kind, cookie]).status == 403
    twice = [("origin", ORIGIN), ("origin", ORIGIN), kind, cookie]
    assert house.post(JOIN, {"session_hash": "abcdef"}, headers=twice).status == 403


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", "", "text/json"])
def test_a_form_of_another_site_cannot_speak_json(house: House, kind: str) -> None:
    headers = [("origin", ORIGIN), ("cookie", OWNER), ("content-type", kind)]
    assert house.post(JOIN, {"session_hash": "abcdef"}, headers=headers).status == 415


@pytest.mark.parametrize("site", ["cross-site", "same-site", "nonsense"])
def test_fetches_of_other_sites_are_refused(house: House, site: str) -> None:
    def fetch(mode: str, dest: str) -> int:
        headers = [("sec-fetch-site", site), ("sec-fetch-mode", mode), ("sec-fetch-dest", dest)]
        return house.get("/config", headers=headers).status

    assert fetch("no-cors", "image") == 403
    assert fetch("cors", "empty") == 403
    assert fetch("navigate", "iframe") == 403
    link = 403 if site == "nonsense" else 200
    assert fetch("navigate", "document") == link
    post = [*same_origin(OWNER)[:2], ("cookie", OWNER), ("sec-fetch-site", site)]
    assert house.post(JOIN, {"session_hash": "abcdef"}, headers=post).status == 403
