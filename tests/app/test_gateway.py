"""The gateway alone, before an app that says whatever reached it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from app import accounts, asgi
from app.asgi import MAX_BODY_BYTES, MAX_DRAIN_BYTES
from app.reply import OWN_POLICY, PAGE_POLICY
from storage.records import StoreClosed, User
from tests.app.asgi import ask, same_origin
from tests.app.gateway_house import GUEST, JOIN, OWNER, House

# Session


def test_without_a_cookie_the_page_says_how_to_get_in(house: House) -> None:
    answer = house.get("/", cookie="")
    assert answer.status == 401
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.body == b"<h1>how to get in</h1>"
    assert answer.headers["content-security-policy"] == OWN_POLICY


@pytest.mark.parametrize(
    "cookie",
    [
        "corral-7860=wrong", "corral-7861=owner-token", "corral-7860=", "corral-7860", "=", ";;;",
        "corral-7860=guest-token; corral-7860=owner-token", "corral-7860=" + "x" * 5000,
        "Corral-7860=owner-token", "corral-7860=owner-token\xff", "a=b; corral-7860=owner-tokenX",
    ],
)  # fmt: skip
def test_other_cookies_open_nothing(house: House, cookie: str) -> None:
    for path in ("/config", "/gradio_api/queue/data?session_hash=abcdef", "/no/such/route"):
        assert house.get(path, cookie=cookie).status == 401
    assert house.post(JOIN, {"session_hash": "abcdef"}, cookie=cookie).status == 401
    assert house.echo.scopes == []


def test_the_user_is_set_here_and_only_here(house: House) -> None:
    forged = {"corral_user": 99, "corral_session": b"x"}
    assert house.get("/config", extra=forged).status == 200
    assert house.echo.scopes[-1]["corral_user"] == 1
    assert house.get("/config", cookie=GUEST, extra=forged).status == 200
    assert house.echo.scopes[-1]["corral_user"] == 2
    assert house.get("/corral/health", cookie="", extra=forged).status == 200
    assert house.echo.scopes[-1]["corral_user"] is None
    assert house.echo.scopes[-1]["corral_session"] is None


def test_the_app_sees_neither_cookie_nor_forwarding_headers(house: House) -> None:
    forged = [
        ("x-forwarded-host", "evil.example"), ("x-forwarded-proto", "https"), ("range", "bytes=9-"),
        ("x-direct-url", "http://evil.example"), ("x-gradio-server", "http://evil.example"),
        ("forwarded", "host=evil.example"), ("authorization", "Bearer x"), ("x-gradio-user", "app"),
    ]  # fmt: skip
    assert house.get("/config", headers=forged).status == 200
    names = {name for name, _ in house.echo.scopes[-1]["headers"]}
    assert names == {b"host", b"x-gradio-user"}


def test_a_session_is_believed_for_a_moment_only(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        assert house.get("/config").status == 200
    assert house.sessions.num_asked == 1
    monkeypatch.setattr(accounts, "RECHECK_SECONDS", 0.0)
    house.sessions.users.clear()
    assert house.get("/config").status == 401


def test_using_the_page_renews_the_cookie(house: House) -> None:
    for answer in (house.get("/"), house.post(JOIN, {"session_hash": "abcdef"})):
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith(f"{OWNER}; Max-Age=600; Path=/; HttpOnly; SameSite=Strict")
    for answer in (house.get("/config"), house.get("/", cookie="")):
        assert "set-cookie" not in answer.headers


def test_a_store_that_cannot_answer_lets_nobody_in(house: House) -> None:
    def fail(token_sha256: bytes, *, idle_milliseconds: int) -> User | None:
        raise StoreClosed("closed")

    house.sessions.session_user = fail  # type: ignore[method-assign]
    assert house.get("/config").status == 503
    assert house.echo.scopes == []


# Routes and methods


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd", "/gradio_api/file=https://evil.example/x",
        "/gradio_api/file=//evil.example", "/gradio_api/proxy=http://evil.example",
        "/file=/etc/passwd",
        "/gradio_api/upload", "/gradio_api/run/predict", "/gradio_api/call/predict",
        "/gradio_api/info",
        "/gradio_api/openapi.json", "/openapi.json", "/docs", "/redoc", "/login", "/logout",
        "/gradio_api/token", "/gradio_api/user", "/gradio_api/runs", "/gradio_api/deep_link",
        "/monitoring", "/monitoring/summary", "/pwa_icon/99999", "/manifest.json", "/robots.txt",
        "/gradio_api/dev/reload", "/gradio_api/custom_component/a/b/c/d", "/gradio_api/reset",
        "/gradio_api/stream/a/b/c/playlist.m3u8", "/gradio_api/upload_progress", "//", "/./",
        "/x/../",
        "/assets/../../etc/passwd", "/assets/%2e%2e/%2e%2e/etc/passwd",
        "/assets/..%2f..%2fetc/passwd",
        "/assets/a%00.js", "/static/..%5c..%5cwin.ini", "/assets//etc/passwd", "/corral/../config",
        "/corral/strings/en/errors.json", "/corral/.hidden.css", "/corral/pages/entrance.html",
        "/corral/icons/icons/x.svg", "/config/x", "/gradio_api/heartbeat/",
        "/gradio_api/heartbeat/a/b",
    ],
)  # fmt: skip
def test_what_is_not_on_the_list_is_not_there(house: House, path: str) -> None:
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        answer = ask(house.app, method, path, headers=same_origin(OWNER))
        assert answer.status == 404, method
        assert ask(house.app, method, path).status == 401, method
    assert house.echo.scopes == []


@pytest.mark.parametrize(
    "method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "POST"]
)
def test_other_methods_are_refused(house: House, method: str) -> None:
    assert ask(house.app, method, "/config", headers=same_origin(OWNER)).status == 405
    assert house.echo.scopes == []


def test_websockets_are_closed_and_lifespan_passes(house: House) -> None:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(house.app({"type": "websocket", "path": "/", "headers": []}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
    assert house.echo.scopes == []
    asyncio.run(house.app({"type": "lifespan"}, receive, send))
    assert house.echo.scopes == [{"type": "lifespan"}]


# Sizes


def test_a_long_declared_body_is_refused_with_a_sentence(house: House) -> None:
    body = json.dumps({"session_hash": "abcdef", "data": ["x" * MAX_BODY_BYTES]}).encode()
    answer = house.post(JOIN, body)
    assert answer.status == 413
    assert answer.json["detail"].endswith(".")
    endless = [*same_origin(OWNER), ("content-length", str(MAX_DRAIN_BYTES + 1))]
    assert ask(house.app, "POST", JOIN, headers=endless).status == 413
    assert house.echo.scopes == []


def test_a_long_chunked_body_is_refused(house: House) -> None:
    chunks = [b'{"session_hash": "abcdef", "data": ["'] + [b"x" * 65536] * 17 + [b'"]}']
    answer = ask(house.app, "POST", JOIN, headers=same_origin(OWNER), chunks=chunks)
    assert answer.status == 413
    endless = [b"x" * (1 << 20)] * 17
    answer = ask(house.app, "POST", JOIN, headers=same_origin(OWNER), chunks=endless)
    assert answer.status == 413


def test_a_body_at_the_limit_passes_unchanged(house: House) -> None:
    frame = len(json.dumps({"session_hash": "abcdef", "data": ""}))
    body = {"session_hash": "abcdef", "data": "x" * (MAX_BODY_BYTES - frame)}
    assert house.post(JOIN, body).status == 200
    assert house.echo.bodies[-1] == json.dumps(body).encode()
    chunks = [b'{"session_hash"', b': "abc', b'def"}']
    answer = ask(house.app, "POST", JOIN, headers=same_origin(OWNER), chunks=chunks)
    assert answer.status == 200
    assert house.echo.bodies[-1] == b"".join(chunks)
    assert dict(house.echo.scopes[-1]["headers"])[b"content-length"] == b"26"


@pytest.mark.parametrize("length", ["-1", "1e3", "abc", "٣", "5, 5", ""])
def test_a_false_length_is_refused(house: House, length: str) -> None:
    value = length.encode().decode("latin-1")
    headers = [*same_origin(OWNER), ("content-length", value)]
    assert ask(house.app, "POST", JOIN, headers=headers).status == 400


def test_a_get_with_a_body_is_refused(house: House) -> None:
    assert house.get("/config", body=b"x").status == 413


def test_too_many_or_too_long_headers_are_refused(house: House) -> None:
    assert house.get("/config", headers=[(f"x-{i}", "1") for i in range(200)]).status == 431
    assert house.get("/config", headers=[("x-long", "1" * 40_000)]).status == 431
    assert house.get("/config?" + "q" * 40_000).status == 431


def test_a_slow_body_is_given_up(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "BODY_SECONDS", 0.05)

    async def hang() -> int:
        status = 0

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(60)
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            nonlocal status
            status = message.get("status", status)

        headers = [("host", "localhost:7860"), *same_origin(OWNER, "http://localhost:7860")]
        raw = [(n.encode(), v.encode()) for n, v in headers]
        scope = {
            "type": "http",
            "scheme": "http",
            "method": "POST",
            "path": JOIN,
            "query_string": b"",
        }
        await house.app({**scope, "headers": raw}, receive, send)
        return status

    assert asyncio.run(hang()) == 408


# Answers


def test_every_answer_carries_our_headers_and_no_foreign_ones(house: House) -> None:
    answer = house.get("/config")
    assert answer.headers["content-security-policy"] == PAGE_POLICY
    assert answer.headers["cache-control"] == "no-store"
    assert "set-cookie" not in answer.headers  # the app's own is dropped
    for found in (answer, house.get("/config", cookie=""), house.get("/", hosts=["evil.example"])):
        assert found.headers["x-content-type-options"] == "nosniff"
        assert found.headers["referrer-policy"] == "no-referrer"
        assert found.headers["cross-origin-opener-policy"] == "same-origin"
        assert not any(name.startswith("access-control") for name in found.headers)
    asset = house.get("/assets/index-abc.js")
    assert asset.headers["cache-control"] == "private, max-age=31536000, immutable"


def test_the_policy_lets_nothing_leave() -> None:
    rules = dict(part.strip().split(" ", 1) for part in PAGE_POLICY.split(";"))
    for name in ("connect-src", "img-src", "media-src", "form-action", "base-uri", "default-src"):
        assert rules[name] == "'self'"
    for name in ("frame-ancestors", "object-src", "frame-src"):
        assert rules[name] == "'none'"
    assert rules["script-src"] == "'self' 'unsafe-inline' 'unsafe-eval'"


def test_an_error_inside_is_a_sentence_and_a_number() -> None:
    house = House()

    async def broken(scope: object, receive: object, send: object) -> None:
        raise RuntimeError("what the user wrote")

    house.app._app = broken
    answer = house.get("/config")
    assert answer.status == 500
    assert b"what the user wrote" not in answer.body
    assert len(answer.json["id"]) == 8
    assert answer.headers["content-security-policy"] == OWN_POLICY


def test_a_500_in_the_apps_own_words_is_replaced() -> None:
    house = House()

    async def broken(scope: object, receive: object, send: Any) -> None:
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"what the user wrote"})

    house.app._app = broken
    answer = house.get("/config")
    assert (answer.status, answer.json["code"]) == (500, "error")

    async def broken_midway(scope: object, receive: object, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half ", "more_body": True})
        raise RuntimeError("x")

    house.app._app = broken_midway
    assert house.get("/config").body == b"half "


def test_head_has_no_body(house: House) -> None:
    answer = ask(house.app, "HEAD", "/")
    assert (answer.status, answer.body) == (401, b"")
