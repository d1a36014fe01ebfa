"""Malformed requests of many kinds: the process stays, nothing answers 5xx, a user is served."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator

import pytest

from app.api.keys import Keys
from app.services import Services
from app.site import Site
from storage.records import OWNER_ID
from tests.app.asgi import ask_async, same_origin
from tests.app.house import make_services, sign_in, whole_site

PATHS = (
    "/gradio_api/queue/join", "/gradio_api/component_server", "/gradio_api/cancel",
    "/corral/enter", "/corral/launch", "/corral/signin", "/corral/invitation",
    "/v1/chat/completions", "/v1/completions", "/v1/moderations",
)  # fmt: skip
GOOD: dict[str, dict[str, object]] = {
    "/gradio_api": {"session_hash": "abcd1234", "fn_index": 0, "data": [], "event_data": {},
                    "component_id": 1, "fn_name": "x", "event_id": "e", "trigger_id": 1},
    "/corral": {"token": "x", "name": "owner", "password": "wrong password"},
    "/v1/chat": {"model": "corral", "messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"model": "corral", "prompt": "hi", "max_tokens": 3},
    "/v1/moderations": {"input": "hi"},
}  # fmt: skip
ODD: tuple[object, ...] = (
    None, True, -1, 0, 1 << 70, 1e308, -0.0, "", "\0", "\ud800", "x" * 70_000, [], {}, [[]],
    {"": {}}, ["a", 1, None], "\u202e", "../../etc/passwd", "__class__", {"path": "/etc/passwd"},
)  # fmt: skip
Spoil = Callable[[bytes, dict[str, object], random.Random], bytes]


def _dumped(value: object) -> bytes:
    return json.dumps(value).encode()


def _cut(body: bytes, good: dict[str, object], dice: random.Random) -> bytes:
    return body[: dice.randrange(len(body))]


def _flip(body: bytes, good: dict[str, object], dice: random.Random) -> bytes:
    found = bytearray(body)
    found[dice.randrange(len(found))] ^= 1 << dice.randrange(8)
    return bytes(found)


def _odd(body: bytes, good: dict[str, object], dice: random.Random) -> bytes:
    return _dumped({**good, dice.choice(sorted(good)): dice.choice(ODD)})


def _doubled(body: bytes, good: dict[str, object], dice: random.Random) -> bytes:
    name = dice.choice(sorted(good))
    return body[:-1] + b', "' + name.encode() + b'": 1}'


def _more(**fields: object) -> Spoil:
    return lambda body, good, dice: _dumped({**good, **fields})


def _raw(content: bytes) -> Spoil:
    return lambda body, good, dice: content


KINDS: dict[str, Spoil] = {
    "cut": _cut,
    "a bit flipped": _flip,
    "an odd value": _odd,
    "a key twice": _doubled,
    "a key less": lambda b, g, d: _dumped({k: v for k, v in g.items() if d.random() < 0.5}),
    "an unknown key": lambda b, g, d: _dumped({**g, f"key{d.randrange(99)}": d.choice(ODD)}),
    "a list": lambda b, g, d: _dumped([g]),
    "nested deep": lambda b, g, d: b"[" * d.randrange(1, 20_000),
    "nested objects": lambda b, g, d: b'{"a":' * d.randrange(1, 20_000),
    "nothing": _raw(b""),
    "white space": _raw(b" \n\t" * 50),
    "null": _raw(b"null"),
    "a number": _raw(b"1e999"),
    "NaN": _raw(b'{"temperature": NaN, "model": "corral"}'),
    "bytes that are no UTF-8": lambda b, g, d: d.randbytes(d.randrange(1, 400)),
    "UTF-16": lambda b, g, d: b.decode().encode("utf-16"),
    "a byte order mark": lambda b, g, d: b"\xef\xbb\xbf" + b,
    "something behind": lambda b, g, d: b + b"{}",
    "a form": _raw(b"model=corral&messages=hi&token=x"),
    "XML": _raw(b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>"),
    "huge numbers": _more(n=1 << 65, max_tokens=1 << 65, fn_index=1 << 65, seed=-(1 << 65)),
    "negative numbers": _more(n=-1, max_tokens=-1, fn_index=-1, temperature=-1, top_p=-1),
    "wrong types": _more(messages="hi", data="x", prompt={"a": 1}, input=5, token=[1]),
    "long lists": _more(messages=[{"role": "user", "content": "x"}] * 2_000, data=[1] * 2_000),
    "a file object": _more(data=[{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}]),
    "lone surrogates": _raw(b'{"token": "\\ud800", "model": "\\udfff", "session_hash": "\\ud8ff"}'),
    "a long text": _more(token="x" * 900_000, prompt="x" * 900_000, input="x" * 900_000),
    "too long a body": lambda b, g, d: b"x" * (1 << 20) + b"y",
    "a prototype": _more(__proto__={"admin": True}, constructor={"prototype": {}}),
}
SAMPLE = 10  # of each kind


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    found = make_services(tmp_path_factory.mktemp("data"))
    found.load()
    yield found
    found.close()


@pytest.fixture(scope="module")
def site(services: Services) -> Site:
    return whole_site(services, api=True)


def send_all(services: Services, site: Site, per_kind: int) -> int:
    cookie = sign_in(services, OWNER_ID, "owner")
    key = Keys(services.store.people).create(OWNER_ID, "fuzz")
    dice = random.Random(8)

    async def send() -> int:
        number = 0
        for name, spoil in KINDS.items():
            for _ in range(per_kind):
                path = dice.choice(PATHS)
                good = next(fields for start, fields in GOOD.items() if path.startswith(start))
                headers = same_origin(cookie)
                if path.startswith("/v1"):
                    headers = [
                        ("content-type", "application/json"), ("authorization", f"Bearer {key}")
                    ]  # fmt: skip
                body = spoil(_dumped(good), good, dice)
                answer = await ask_async(site.app, "POST", path, headers=headers, body=body)
                assert answer.status < 500, (name, path, body[:200], answer.body[:300])
                assert b"Traceback" not in answer.body
                number += 1
                if number % 500 == 0:
                    headers = [("cookie", cookie)]
                    page = await ask_async(site.app, "GET", "/", headers=headers)
                    assert page.status == 200
        return number

    return asyncio.run(send())


def test_malformed_requests_break_nothing(services: Services, site: Site) -> None:
    assert len(KINDS) >= 25
    assert send_all(services, site, SAMPLE) == len(KINDS) * SAMPLE


@pytest.mark.full
def test_malformed_requests_break_nothing_full(services: Services, site: Site) -> None:
    number = send_all(services, site, 700)
    print(f"{number} requests of {len(KINDS)} kinds")
    assert number >= 20_000
