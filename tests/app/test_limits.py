"""What one caller can take from the others: requests, places, room on the disk."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from app.asgi import Refused
from app.page.uploads import Uploads
from app.rates import MAX_AT_ONCE, Rates
from app.routes import MAX_OPEN_BODY_BYTES
from tests.app.asgi import ask, ask_async, same_origin
from tests.app.gateway_house import GUEST, JOIN, OWNER, House

LINK = "abcdef.gradio.live"


def test_strangers_over_a_link_use_up_nothing_of_this_machine(house: House) -> None:
    house.app.hosts.opened[LINK] = "share"
    house.app.rates = Rates(per_second=0.0, burst=3, pause_seconds=0)
    for path, cookie in (("/config", ""), ("/config", "corral-7860=wrong"), ("/v1/models", "")):
        headers = [("cookie", cookie)]
        assert ask(house.app, "GET", path, hosts=[LINK], headers=headers).status == 401
    for path in ("/config", "/v1/models", "/corral/health"):
        assert ask(house.app, "GET", path, hosts=[LINK]).status == 429, path
    assert house.get("/corral/health", cookie="").status == 200
    assert house.get("/config").status == 200


def test_a_caller_has_so_many_places_and_no_more(house: House) -> None:
    waiting = asyncio.Event()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await waiting.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def crowd() -> tuple[list[int], int, int]:
        house.app._app = stream

        async def get(cookie: str) -> int:
            return (
                await ask_async(house.app, "GET", "/config", headers=[("cookie", cookie)])
            ).status

        held = [asyncio.create_task(get(GUEST)) for _ in range(MAX_AT_ONCE)]
        while house.app.rates._open[2] < MAX_AT_ONCE:
            await asyncio.sleep(0.01)
        beyond = await get(GUEST)
        owner = asyncio.create_task(get(OWNER))
        waiting.set()
        return await asyncio.gather(*held), beyond, await owner

    held, beyond, owner = asyncio.run(crowd())
    assert held == [200] * MAX_AT_ONCE
    assert (beyond, owner) == (429, 200)
    assert house.app.rates._open == {}


def test_a_place_is_given_back_whatever_happens() -> None:
    rates = Rates(at_once=1)
    for error in (Refused(400, "binding"), KeyError(), asyncio.CancelledError()):
        with pytest.raises(type(error)), rates.place("share"):
            raise error
    with rates.place("share"), pytest.raises(Refused), rates.place("share"):
        pass


def test_a_stranger_has_little_to_say(house: House) -> None:
    long = b'{"token": "' + b"x" * MAX_OPEN_BODY_BYTES + b'"}'
    for path in ("/corral/enter", "/corral/launch", "/corral/signin", "/corral/invitation"):
        answer = ask(house.app, "POST", path, headers=same_origin(), body=long)
        assert answer.status == 413, path
    assert house.post(JOIN, {"session_hash": "abcdef", "data": "x" * 100_000}).status == 200


@pytest.mark.parametrize("more", [("transfer-encoding", "chunked"), ("content-length", "5")])
def test_what_is_read_only_has_no_body(house: House, more: tuple[str, str]) -> None:
    assert house.get("/config", headers=[more]).status == 413
    assert house.echo.scopes == []


def test_over_https_the_cookie_is_bound_to_its_host(house: House) -> None:
    house.app.hosts.opened[LINK] = "share"

    def status(cookie: str, host: str) -> int:
        return ask(house.app, "GET", "/config", hosts=[host], headers=[("cookie", cookie)]).status

    assert status(OWNER, LINK) == 401  # a neighbour's site could have planted this one
    assert status(f"__Host-{OWNER}", LINK) == 200
    assert status(f"__Host-{OWNER}", "127.0.0.1:7860") == 401
    answer = ask(house.app, "GET", "/", hosts=[LINK], headers=[("cookie", f"__Host-{OWNER}")])
    renewed = answer.headers["set-cookie"]
    assert renewed.startswith(f"__Host-{OWNER};") and renewed.endswith("; Secure")
    assert "Path=/;" in renewed and "Domain" not in renewed


def test_a_session_planted_before_signing_in_opens_nothing(house: House) -> None:
    """Session fixation: the server takes no token that it has not made."""
    assert house.get("/config", cookie="corral-7860=chosen-by-somebody").status == 401
    both = f"{OWNER}; corral-7860=chosen-by-somebody"
    assert house.get("/config", cookie=both).status == 401


def test_nobody_fills_the_disk_with_files_half_sent(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "uploads")
    for number in range(40):
        part = {"upload": f"{number:016}", "place": "0", "content": "eA=="}
        assert uploads.take(7, part, max_bytes=100) is None
    uploads.take(8, {"upload": "0" * 16, "place": "0", "content": "eA=="}, max_bytes=100)
    kept = sorted(path.name.partition("-")[0] for path in (tmp_path / "uploads").iterdir())
    assert kept == ["7"] * 5 + ["8"]


def test_errors_of_the_gateway_have_one_shape(house: House) -> None:
    house.app.rates = Rates(per_second=0.0, burst=0)
    answer = house.get("/config")
    assert answer.status == 429 and answer.headers["retry-after"] == "5"
    assert set(json.loads(answer.body)) == {"detail", "code"}
