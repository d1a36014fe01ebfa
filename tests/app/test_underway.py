"""An open stream ends with the session, the key or the account behind it, at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from app import underway
from app.accounts import digest
from app.site import Site, build
from storage.records import OWNER_ID
from tests.app.api.house import PROMPT
from tests.app.api.house import House as ApiHouse
from tests.app.asgi import Answer, ask_async
from tests.app.fakes import TellingEngine
from tests.app.gateway_house import GUEST, OWNER, House
from tests.app.house import make_services, sign_in
from tests.app.page_events import begin, config_of, join, stream

WAIT_SECONDS = 60.0  # patience with a machine under load; what is waited for takes milliseconds


class Endless:
    """An app whose answers never end by themselves; `silent` ones do not even begin."""

    def __init__(self, *, silent: bool = False) -> None:
        self.silent = silent
        self.num_open = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if not self.silent:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"first ", "more_body": True})
        self.num_open += 1
        try:
            await asyncio.sleep(WAIT_SECONDS * 2)
        finally:
            self.num_open -= 1


async def until(happened: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not happened():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def two_streams(app: Any, endless: Endless) -> AsyncIterator[asyncio.Task[Answer]]:
    """The owner's open stream; beside it a guest's, which must still be open at the end."""
    theirs, guests = (
        asyncio.create_task(ask_async(app, "GET", "/config", headers=[("cookie", cookie)]))
        for cookie in (OWNER, GUEST)
    )
    await until(lambda: endless.num_open == 2)
    yield theirs
    assert endless.num_open == 1 and not guests.done()
    guests.cancel()
    await asyncio.wait([guests])


def test_signing_out_ends_that_browsers_streams(house: House) -> None:
    house.app._app = endless = Endless()

    async def scene() -> Answer:
        async with two_streams(house.app, endless) as stream:
            await asyncio.to_thread(house.accounts.leave, digest("owner-token"))
            return await asyncio.wait_for(stream, WAIT_SECONDS)

    answer = asyncio.run(scene())
    assert (answer.status, answer.body) == (200, b"first ")
    assert house.app.underway._open == {} and house.app.rates._open == {}


def test_signing_out_itself_is_answered(house: House) -> None:
    """The request that ends the session is not cut with it."""

    async def leave(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.to_thread(house.accounts.leave, scope["corral_session"])
        for _ in range(20):
            await asyncio.sleep(0)  # whatever ends the streams has ended them
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    house.app._app = leave
    assert house.post("/corral/leave", {}).status == 204
    assert house.post("/corral/leave", {}).status == 401


def test_who_has_had_no_answer_yet_is_told(house: House) -> None:
    house.app._app = endless = Endless(silent=True)

    async def scene() -> Answer:
        async with two_streams(house.app, endless) as stream:
            await asyncio.to_thread(house.accounts.leave, digest("owner-token"))
            return await asyncio.wait_for(stream, WAIT_SECONDS)

    answer = asyncio.run(scene())
    assert (answer.status, answer.json["code"]) == (401, "session")


def test_a_session_that_ends_by_its_time_ends_its_streams(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(underway, "LOOK_SECONDS", 0.02)
    house.app._app = endless = Endless()

    async def scene() -> Answer:
        async with two_streams(house.app, endless) as stream:
            house.sessions.users.pop(digest("owner-token"))  # nobody says so
            return await asyncio.wait_for(stream, WAIT_SECONDS)

    assert asyncio.run(scene()).body == b"first "


# The streams of the real page and of the real API


ENDS: dict[str, Callable[[Site, int, str], object]] = {
    "signing-out": lambda site, user, token: site.entrance.accounts.leave(digest(token)),
    "another-password": lambda site, user, token: site.doors.set_password(user, "x" * 12),
    "a-lock": lambda site, user, token: site.doors.lock_out(user),
    "removal": lambda site, user, token: site.doors.lock_out(user, remove=True),
}


def test_the_pages_stream_ends_with_what_opened_it(tmp_path: Path) -> None:
    """Pages follow answers that are being written; then somebody ends their sessions."""
    engine = TellingEngine(["one two three"], hold=Event())
    services = make_services(tmp_path, engine=engine)
    services.load()

    async def scene() -> None:
        site = build(services)
        await begin(site, sign_in(services, OWNER_ID, "owner"))
        for end in ENDS:
            await follow_and_end(site, end)

    async def follow_and_end(site: Site, end: str) -> None:
        invited = site.doors.invite("user", "").partition("#")[2]
        user = services.store.people.accept(digest(invited), end, "no password").id
        cookie, session = sign_in(services, user, f"token-{end}"), f"hash-{end}"
        key, config = services.store.create_conversation(user).key, await config_of(site, cookie)
        sent = {"key": key, "text": "go", "client_key": end, "last": 40}
        assert (await join(site, cookie, session, config, "send", **sent)).status == 200
        await until(lambda: services.jobs.running(user, key))
        assert (await join(site, cookie, session, config, "follow", key=key)).status == 200
        follows = asyncio.create_task(stream(site, cookie, session))
        await until(lambda: digest(f"token-{end}") in site.app.underway._open)
        await asyncio.sleep(0.1)
        assert not follows.done(), end
        await asyncio.to_thread(ENDS[end], site, user, f"token-{end}")
        found = await asyncio.wait_for(follows, WAIT_SECONDS)
        assert b"close_stream" not in found.body, end  # cut, not finished
        assert (await stream(site, cookie, session)).status == 401, end
        if end in ("a-lock", "removal"):  # nor is anything written any more
            assert services.jobs.running(user, key) is None, end
        services.jobs.stop(user, key)

    asyncio.run(scene())
    services.close()


@pytest.mark.parametrize("end", ["the key", "the API", "the account"])
def test_a_call_ends_with_its_key(tmp_path: Path, end: str) -> None:
    engine = TellingEngine(["one two three"], hold=Event())
    house = ApiHouse(tmp_path, engine=engine)
    invited = house.site.doors.invite("user", "").partition("#")[2]
    user = house.services.store.people.accept(digest(invited), "Anna", "no password").id
    keys = house.site.doors.keys
    key, others = keys.create(user, "program"), keys.create(OWNER_ID, "another")
    ends: dict[str, Callable[[], object]] = {
        "the key": lambda: keys.revoke(user, house.services.store.people.keys(user)[0].id),
        "the API": lambda: house.site.doors.switch_api(False),
        "the account": lambda: house.site.doors.lock_out(user),
    }

    def call(key: str, *, stream: bool) -> asyncio.Task[Answer]:
        body = json.dumps({"model": "corral", "messages": PROMPT, "stream": stream}).encode()
        headers = [("authorization", f"Bearer {key}"), ("content-type", "application/json")]
        path = "/v1/chat/completions"
        return asyncio.create_task(
            ask_async(house.site.app, "POST", path, headers=headers, body=body)
        )

    async def scene() -> tuple[Answer, bool]:
        theirs, another = call(key, stream=False), call(others, stream=True)
        await until(lambda: len(engine.prompts) == 2)
        await asyncio.to_thread(ends[end])
        found = await asyncio.wait_for(theirs, WAIT_SECONDS)
        await until(lambda: not house.services.jobs._lines.of(user))  # the engine is free of it
        still = not another.done()
        engine.hold.set()  # type: ignore[union-attr]  # it has one
        await asyncio.wait([another])
        return found, still

    found, still = asyncio.run(scene())
    house.services.close()
    assert found.status == 401 and found.json["error"]["code"] == "api_key"
    assert still is (end != "the API")
