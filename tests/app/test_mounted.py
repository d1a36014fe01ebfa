"""The gateway before the real page: every route of the running Gradio, known or not."""

from __future__ import annotations

import asyncio
import json
import lzma
import random
import re
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from app import routes
from app.reply import PAGE_POLICY
from app.services import Services
from app.site import Site
from tests.app.all_routes import METHODS, all_routes, example
from tests.app.asgi import Answer, ask, ask_async, same_origin
from tests.app.house import make_services, sign_in, whole_site

# Routes that this version of Gradio has and Corral does not use. A new version that adds one fails
# the test below: read what it does, then add it here or to `app/routes.py`.
UNUSED = {
    "/login", "/login/", "/logout", "/openapi.json", "/robots.txt", "/manifest.json", "/pwa_icon",
    "/pwa_icon/{size}", "/monitoring", "/monitoring/summary", "/monitoring/{key}",
    "/gradio_api/deep_link", "/gradio_api/api/{api_name}", "/gradio_api/api/{api_name}/",
    "/gradio_api/app_id", "/gradio_api/app_id/", "/gradio_api/call/v2/{api_name}",
    "/gradio_api/call/v2/{api_name}/", "/gradio_api/call/v2/{api_name}/{event_id}",
    "/gradio_api/call/{api_name}", "/gradio_api/call/{api_name}/",
    "/gradio_api/call/{api_name}/{event_id}",
    "/gradio_api/custom_component/{id}/{environment}/{type}/{file_name}",
    "/gradio_api/dev/reload", "/gradio_api/file/{path:path}",
    "/gradio_api/file={path_or_url:path}", "/gradio_api/info", "/gradio_api/info/",
    "/gradio_api/login_check", "/gradio_api/login_check/", "/gradio_api/openapi.json",
    "/gradio_api/process_recording", "/gradio_api/proxy={url_path:path}",
    "/gradio_api/queue/status", "/gradio_api/reset", "/gradio_api/reset/",
    "/gradio_api/run/{api_name}", "/gradio_api/run/{api_name}/", "/gradio_api/runs",
    "/gradio_api/runs/", "/gradio_api/stream/{event_id}", "/gradio_api/stream/{event_id}/close",
    "/gradio_api/stream/{session_hash}/{run}/{component_id}/playlist-file",
    "/gradio_api/stream/{session_hash}/{run}/{component_id}/playlist.m3u8",
    "/gradio_api/stream/{session_hash}/{run}/{component_id}/{segment_id}.{ext}",
    "/gradio_api/token", "/gradio_api/token/", "/gradio_api/undo-vibe-edit",
    "/gradio_api/undo-vibe-edit/", "/gradio_api/upload", "/gradio_api/upload_progress",
    "/gradio_api/user", "/gradio_api/user/", "/gradio_api/vibe-code", "/gradio_api/vibe-code/",
    "/gradio_api/vibe-edit", "/gradio_api/vibe-edit/", "/gradio_api/vibe-starter-queries",
    "/gradio_api/vibe-starter-queries/",
}  # fmt: skip
OPEN = {
    "/corral/health", "/corral/enter", "/corral/launch", "/corral/signin", "/corral/invitation",
}  # fmt: skip


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    services = make_services(tmp_path_factory.mktemp("data"))
    (services.settings.data / "canary.txt").write_text("canary-bytes-of-the-data-folder")
    yield services
    services.close()


@pytest.fixture(scope="module")
def site(services: Services) -> Site:
    return whole_site(services)


@pytest.fixture(scope="module")
def owner(site: Site, services: Services) -> str:
    return sign_in(services, 1, "owner-token")


def test_every_route_is_known(site: Site) -> None:
    found = set(all_routes(site.app._app))
    assert len(found) > 60
    unread = {
        path for path in found - UNUSED
        if routes.find(example(path)) is None and "/corral/{name" not in path
    }  # fmt: skip
    assert unread == set(), "routes that nobody has read yet"
    assert found >= UNUSED, f"no longer there: {sorted(UNUSED - found)}"
    allowed_by_mistake = {path for path in UNUSED if routes.find(example(path))}
    assert allowed_by_mistake == set()


def test_without_a_session_exactly_the_open_ones_answer(site: Site) -> None:
    found = sorted({example(path) for path in all_routes(site.app._app)})
    answered = set()
    for path in found:
        for method in METHODS:
            answer = ask(site.app, method, path, headers=same_origin())
            if answer.status != 401:
                answered.add(path)
    assert answered == OPEN


def test_with_a_session_the_unused_ones_are_not_there(site: Site, owner: str) -> None:
    for path in sorted(UNUSED):
        for method in METHODS:
            answer = ask(site.app, method, example(path), headers=same_origin(owner))
            assert answer.status == 404, (method, path)


def test_no_route_answers_a_foreign_host_or_origin(site: Site, owner: str) -> None:
    for path in sorted({example(path) for path in all_routes(site.app._app)}):
        for method in METHODS:
            headers = same_origin(owner)
            evil = ask(site.app, method, path, headers=headers, hosts=["evil.example:7860"])
            assert evil.status == 403, (method, path)
            if method not in ("GET", "HEAD"):
                for origin in ("http://evil.example", "null"):
                    headers = same_origin(owner, origin)
                    status = ask(site.app, method, path, headers=headers).status
                    # The API takes no cookie at all: there is nothing to forge.
                    refused = (401, 405) if path.startswith("/v1/") else (403, 404, 405)
                    assert status in refused, (method, path)
                    assert "access-control-allow-origin" not in evil.headers


def test_the_page_comes_with_its_policy(site: Site, owner: str) -> None:
    page = ask(site.app, "GET", "/", headers=[("cookie", owner)])
    assert page.status == 200
    assert page.headers["content-security-policy"] == PAGE_POLICY
    assert page.headers["cache-control"] == "no-store"
    text = page.body.decode()
    for remote in re.findall(r'(?:src|href)="(https?:)?//[^"]+"', text):
        raise AssertionError(f"the page loads from elsewhere: {remote}")
    assets = re.findall(r'(?:src|href)="(?:\./)?(/?(?:assets|corral|static)/[^"]+)"', text)
    assert assets
    for path in assets:
        path = "/" + path.lstrip("/")
        assert ask(site.app, "GET", path, headers=[("cookie", owner)]).status == 200, path


def test_the_page_config_names_no_path_of_this_machine(
    site: Site, services: Services, owner: str
) -> None:
    text = ask(site.app, "GET", "/config", headers=[("cookie", owner)]).body.decode()
    assert site.secret not in text
    assert "owner-token" not in text


def test_a_session_of_one_user_is_closed_to_another(site: Site, services: Services) -> None:
    first, second = sign_in(services, 1, "first"), sign_in(services, 1, "second")

    async def visit() -> list[int]:
        # Two users; the database knows one so far, so the second is told apart by hand here.
        site.app.accounts.visitor("first")
        visitor = site.app.accounts.visitor("second")
        assert visitor is not None
        site.app.accounts._recent[visitor.session] = (
            replace(visitor, user_id=2),
            site.app.accounts._clock(),
        )
        found = []
        join = {"session_hash": "firsthash1", "fn_index": 10_000, "data": []}
        for cookie, method, path, body in (
            (first, "POST", "/gradio_api/queue/join", join),
            (second, "POST", "/gradio_api/queue/join", join),
            (second, "GET", "/gradio_api/queue/data?session_hash=firsthash1", None),
            (second, "GET", "/gradio_api/heartbeat/firsthash1", None),
            (second, "POST", "/gradio_api/component_server", {**join, "fn_name": "x"}),
            (second, "POST", "/gradio_api/cancel", {**join, "event_id": "x"}),
        ):
            content = json.dumps(body).encode() if body else b""
            headers = same_origin(cookie) if body else [("cookie", cookie)]
            answer = await ask_async(site.app, method, path, headers=headers, body=content)
            found.append(answer.status)
        return found

    statuses = asyncio.run(visit())
    assert statuses[0] not in (401, 403)
    assert statuses[1:] == [403] * 5


# Hostile paths


SCHEMES = ("http:", "https:", "HTTP:", "hTTps:", "ftp:", "file:", "gopher:", "data:", "blob:", "")
TARGETS = (
    "//127.0.0.1:{port}/x", "//localhost:{port}/x", "/127.0.0.1:{port}/x", "//[::1]:{port}/x",
    "//2130706433:{port}/x", "//0x7f000001:{port}/x", "//0:{port}/x", "//127.1:{port}/x",
    "//user@127.0.0.1:{port}/x", "\\\\127.0.0.1:{port}\\x", "///127.0.0.1:{port}/x",
)  # fmt: skip


def test_no_form_of_a_remote_address_makes_the_server_fetch(
    site: Site, owner: str, network_attempts: list[str]
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        port = listener.getsockname()[1]
        tried = 0
        for start in ("/gradio_api/file=", "/file=", "/gradio_api/proxy=", "/gradio_api/file/"):
            for scheme in SCHEMES:
                for target in TARGETS:
                    address = scheme + target.format(port=port)
                    for form in (address, address.replace("/", "%2f"), address.replace(":", "%3A")):
                        answer = ask(site.app, "GET", start + form, headers=[("cookie", owner)])
                        assert answer.status == 404, form
                        tried += 1
        assert tried >= 200
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert network_attempts == []


def traversals(folder: Path, number: int) -> list[str]:
    """A seeded sample of known path tricks (all of them for a large `number`)."""
    with lzma.open(folder / "hostile" / "traversal.jsonl.xz", "rt", encoding="utf-8") as lines:
        found = [json.loads(line)["path"] for line in lines]
    return random.Random(7).sample(found, min(number, len(found)))


PLACES = (
    "/gradio_api/file=", "/static/", "/assets/", "/svelte/", "/corral/", "/corral/icons/",
    "/gradio_api/custom_component/x/client/y/", "/gradio_api/deep_link?session_hash=",
    "/gradio_api/heartbeat/",
)  # fmt: skip


def try_traversals(site: Site, owner: str, services: Services, paths: list[str]) -> int:
    """Ask for every path in every place; fail on any byte of a file that is not ours to give."""
    canary = str(services.settings.data / "canary.txt")
    tried = 0
    for path in [*paths, canary, "../" * 12 + canary[1:], "%2e%2e/" * 12 + canary[1:]]:
        text = path.encode("utf-8", "replace").decode("latin-1")
        for place in PLACES:
            for form in {text, quote(text, safe="%/"), text.replace("../", "..%2f")}:
                if "heartbeat" in place and re.fullmatch(r"[A-Za-z0-9_-]{4,64}", form):
                    continue  # a sound name: that stream would rightly stay open
                answer = ask(site.app, "GET", place + form, headers=[("cookie", owner)])
                tried += 1
                assert answer.status in (400, 403, 404, 431), (place, form, answer.status)
                assert b"canary-bytes" not in answer.body
                assert b"root:" not in answer.body
    return tried


def test_paths_never_lead_out(
    site: Site, owner: str, services: Services, shared_data: Path
) -> None:
    assert try_traversals(site, owner, services, traversals(shared_data, 160)) >= 2000


@pytest.mark.full
def test_paths_never_lead_out_full(
    site: Site, owner: str, services: Services, shared_data: Path
) -> None:
    number = try_traversals(site, owner, services, traversals(shared_data, 10_000))
    print(f"{number} paths")
    assert number >= 15_000


def test_malformed_bodies_are_refused_and_nothing_breaks(site: Site, owner: str) -> None:
    bodies: list[bytes] = [
        b"{}", b"[]", b"null", b"\x00", b"{" * 9000, b'{"session_hash": "abcd1234"}',
        b'{"session_hash": "abcd1234", "fn_index": "x", "data": 5}',
        b'{"session_hash": "abcd1234", "fn_index": -1, "data": []}',
        b'{"session_hash": "abcd1234", "fn_index": 99999999999999999999, "data": []}',
        b'{"session_hash": "abcd1234", "fn_index": 0, "data": {"a": [1]}}',
        b'{"session_hash": "abcd1234", "data": [], "event_data": []}',
        b'{"session_hash": "abcd1234", "data": [NaN, Infinity]}',
        b'{"session_hash": "abcd1234", "component_id": 1, "fn_name": "__class__", "data": []}',
        b'{"session_hash": "abcd1234", "component_id": 999, "fn_name": "x", "data": []}',
        b'{"session_hash": "abcd1234", "component_id": "x", "fn_name": 5, "data": "x"}',
    ]  # fmt: skip
    for path in ("/gradio_api/queue/join", "/gradio_api/component_server", "/gradio_api/cancel"):
        for body in bodies:
            answer: Answer = ask(site.app, "POST", path, headers=same_origin(owner), body=body)
            assert 400 <= answer.status < 500, (path, body)
            assert answer.headers["content-type"] == "application/json"
            assert b"Traceback" not in answer.body
    assert ask(site.app, "GET", "/", headers=[("cookie", owner)]).status == 200
