"""A session hash belongs to whoever used it first, and its events go to nobody else."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.app.asgi import ask_async, same_origin
from tests.app.gateway_house import GUEST, JOIN, OWNER, House


def test_a_session_hash_belongs_to_its_first_user(house: House) -> None:
    async def cross() -> list[int]:
        found = []
        for cookie, method, path, body in (
            (OWNER, "POST", JOIN, {"session_hash": "owners1"}),
            (GUEST, "GET", "/gradio_api/queue/data?session_hash=owners1", None),
            (GUEST, "GET", "/gradio_api/heartbeat/owners1", None),
            (GUEST, "POST", JOIN, {"session_hash": "owners1"}),
            (GUEST, "POST", "/gradio_api/component_server", {"session_hash": "owners1"}),
            (GUEST, "POST", "/gradio_api/component_server/", {"session_hash": "owners1"}),
            (GUEST, "POST", "/gradio_api/cancel", {"session_hash": "owners1", "event_id": "x"}),
            (OWNER, "GET", "/gradio_api/queue/data?session_hash=owners1", None),
            (OWNER, "GET", "/gradio_api/heartbeat/owners1", None),
            (GUEST, "GET", "/gradio_api/heartbeat/guests1", None),
            (OWNER, "POST", JOIN, {"session_hash": "guests1"}),
        ):
            headers = same_origin(cookie) if body else [("cookie", cookie)]
            content = json.dumps(body).encode() if body else b""
            answer = await ask_async(house.app, method, path, headers=headers, body=content)
            found.append(answer.status)
        return found

    assert asyncio.run(cross()) == [200, 403, 403, 403, 403, 403, 403, 200, 200, 200, 403]


def test_only_the_one_who_joined_may_cancel(house: House) -> None:
    event = house.post(JOIN, {"session_hash": "owners1"}).json["event_id"]
    cancel = "/gradio_api/cancel"
    mine, theirs = {"session_hash": "owners1"}, {"session_hash": "guests1"}
    assert house.post(cancel, {**theirs, "event_id": event}, cookie=GUEST).status == 403
    assert house.post(cancel, {**mine, "event_id": "another"}).status == 403
    assert house.post(cancel, mine).status == 403
    assert house.post(cancel, {**mine, "event_id": event}).status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b'"abcdef"', b"{", b"{}", b'{"session_hash": null}', b"\xff\xfe{",
        b'{"session_hash": 5}', b'{"session_hash": ""}', b'{"session_hash": "a b"}',
        b'{"session_hash": "abcdef", "session_hash": "owners1"}', b'{"session_hash": ["abcdef"]}',
        b'{"session_hash": "../../x"}', b'{"session_hash": "' + b"a" * 65 + b'"}',
        b'{"session_hash": "abcdef"} x', b"[" * 100_000, b'{"a":' * 50_000,
        '{"session_hash": "abcdef"}'.encode("utf-16"), b'\xef\xbb\xbf{"session_hash": "abcdef"}',
    ],
)  # fmt: skip
def test_bodies_without_one_clear_session_are_refused(house: House, body: bytes) -> None:
    assert house.post(JOIN, body).status == 400
    assert house.echo.scopes == []


@pytest.mark.parametrize(
    "query",
    ["", "session_hash=", "session_hash=abcdef&session_hash=owners1", "session_hash=a%2fb",
     "SESSION_HASH=abcdef", "session_hash=abcdef&session%5fhash=owners1", "x=1"],
)  # fmt: skip
def test_queries_without_one_clear_session_are_refused(house: House, query: str) -> None:
    assert house.get(f"/gradio_api/queue/data?{query}").status == 400
    assert house.echo.scopes == []
