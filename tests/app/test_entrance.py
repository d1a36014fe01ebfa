"""In with a key that works once, out again, and nothing told to those without."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from app.services import Services
from app.site import Site, build
from tests.app.asgi import Answer, ask, same_origin
from tests.app.house import enter, make_services


def plain(app: FastAPI, services: Services) -> FastAPI:
    """A page without Gradio."""

    @app.get("/")
    def home() -> str:
        return "the page"

    return app


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    services = make_services(tmp_path)
    yield build(services, mount=plain)
    services.close()


def post(site: Site, path: str, value: object, **options: object) -> Answer:
    options.setdefault("headers", same_origin())
    return ask(site.app, "POST", path, body=json.dumps(value).encode(), **options)


def test_a_key_is_exchanged_for_a_cookie_once(site: Site) -> None:
    key = site.entrance.url().partition("#")[2]
    first = post(site, "/corral/enter", {"token": key})
    assert first.status == 204
    cookie = first.headers["set-cookie"]
    assert cookie.startswith("corral-7860=")
    assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower() and "Path=/" in cookie
    assert f"Max-Age={7 * 86400};" in cookie  # the idle time, shorter than the absolute one
    assert key not in cookie
    again = post(site, "/corral/enter", {"token": key})
    assert again.status == 403
    assert "set-cookie" not in again.headers
    header = [("cookie", cookie.partition(";")[0])]
    assert ask(site.app, "GET", "/", headers=header).body == b'"the page"'


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"token": 5},
        {"token": None},
        {"token": "x" * 129},
        {"token": "x", "more": 1},
        [],
        "x",
        None,
    ],
)
def test_a_malformed_key_is_refused_without_being_repeated(site: Site, body: object) -> None:
    answer = post(site, "/corral/enter", body)
    assert answer.status == 400
    assert set(answer.json) == {"detail", "code"}


def test_keys_come_only_from_our_own_page(site: Site) -> None:
    key = site.entrance.url().partition("#")[2]
    foreign = same_origin(origin="http://evil.example")
    assert post(site, "/corral/enter", {"token": key}, headers=foreign).status == 403
    assert ask(site.app, "GET", f"/corral/enter?token={key}").status == 200
    assert post(site, "/corral/enter", {"token": key}).status == 204  # still unused


def test_a_second_start_gets_an_address_for_the_secret(site: Site) -> None:
    def launch(*headers: tuple[str, str]) -> Answer:
        return ask(site.app, "POST", "/corral/launch", headers=headers)

    assert launch().status == 403
    assert launch(("authorization", "Bearer wrong")).status == 403
    assert launch(("authorization", f"Basic {site.secret}")).status == 403
    right = ("authorization", f"Bearer {site.secret}")
    assert launch(right, ("origin", "http://evil.example")).status == 403
    answer = launch(right)
    assert answer.status == 200
    url = answer.json["url"]
    assert url.startswith("http://127.0.0.1:7860/corral/enter#")
    assert post(site, "/corral/enter", {"token": url.partition("#")[2]}).status == 204


def test_health_says_ok_and_no_more(site: Site) -> None:
    answer = ask(site.app, "GET", "/corral/health")
    assert (answer.status, answer.json) == (200, "ok")


def test_leaving_ends_the_session(site: Site) -> None:
    cookie = enter(site)
    assert ask(site.app, "POST", "/corral/leave", headers=same_origin(cookie)).status == 204
    assert ask(site.app, "GET", "/", headers=[("cookie", cookie)]).status == 401
    assert ask(site.app, "POST", "/corral/leave", headers=same_origin(cookie)).status == 401


def test_the_entrance_loads_what_it_names_and_holds_no_secret(site: Site, tmp_path: Path) -> None:
    page = ask(site.app, "GET", "/").body.decode()
    assert page == ask(site.app, "GET", "/corral/enter").body.decode()
    assert "{" not in page.replace("{ ", "")
    assert site.secret not in page and str(tmp_path) not in page
    assert "<style" not in page and "style=" not in page  # its policy allows no inline code
    loaded = re.findall(r'(?:src|href)="(/corral/[^"]+)"', page)
    assert len(loaded) == 3
    for url in loaded:
        answer = ask(site.app, "GET", url)
        assert answer.status == 200
        assert "immutable" in answer.headers["cache-control"]


def test_static_files_are_looked_up_by_name(site: Site) -> None:
    cookie = enter(site)

    def get(path: str, *more: tuple[str, str]) -> Answer:
        return ask(site.app, "GET", path, headers=[("cookie", cookie), *more])

    answer = get("/corral/entrance.css")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["content-type"].startswith("text/css")
    known = ("if-none-match", answer.headers["etag"])
    assert get("/corral/entrance.css", known).status == 304
    assert get("/corral/entrance.css?v=000000000000").headers["cache-control"] == "no-cache"
    assert get("/corral/nothing.css").status == 404
    assert get("/corral/icons/corral.svg").headers["content-type"] == "image/svg+xml"


def test_the_docs_of_the_framework_are_off(site: Site) -> None:
    cookie = enter(site)
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert ask(site.app, "GET", path, headers=[("cookie", cookie)]).status == 404
