"""Passwords, invitations and guests, asked over the gateway."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from concurrent.futures import Future
from types import SimpleNamespace

import httpx
import pytest

from app.accounts import digest
from app.guesses import FREE_TRIES, MAX_A_MINUTE, Guesses
from app.passwords import MEMORY_KIBIBYTES, Passwords
from app.rates import Rates
from app.services import Services
from app.site import Site
from app.strings import Strings
from app.visitors import Visitors
from storage.clock import now
from storage.records import OWNER_ID
from tests.app.api.running import served
from tests.app.asgi import Answer, ask, same_origin
from tests.app.house import sign_in

PASSWORD = "four words in a row"
HOUR = 3_600_000


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def post(site: Site, path: str, value: object, cookie: str = "") -> Answer:
    return ask(site.app, "POST", path, headers=same_origin(cookie), body=json.dumps(value).encode())


def invite(services: Services, role: str = "user", uses: int = 1, lasts: int = HOUR) -> str:
    token = f"token-{role}-{uses}-{lasts}"
    services.store.people.invite(
        digest(token), role=role, note="", uses=uses, expires_at=now() + lasts
    )
    return token


def give_password(services: Services, user_id: int = OWNER_ID, password: str = PASSWORD) -> None:
    hashed = asyncio.run(Passwords(memory_kibibytes=64).hash(password))
    services.store.people.set_password(user_id, hashed)


def cookie_of(answer: Answer) -> str:
    return answer.headers["set-cookie"].partition(";")[0]


def test_a_password_opens_a_session(site: Site, services: Services) -> None:
    give_password(services)
    answer = post(site, "/corral/signin", {"name": "Owner", "password": PASSWORD})
    assert answer.status == 204
    flags = answer.headers["set-cookie"]
    assert "HttpOnly" in flags and "SameSite=Strict" in flags
    assert post(site, "/corral/leave", {}, cookie_of(answer)).status == 204
    assert post(site, "/corral/leave", {}, cookie_of(answer)).status == 401
    assert [entry.action for entry in services.store.audit()][:1] == ["signin"]


def test_a_wrong_name_and_a_wrong_password_look_alike(site: Site, services: Services) -> None:
    give_password(services)
    answers = [
        post(site, "/corral/signin", {"name": name, "password": password})
        for name, password in (("owner", "not the password"), ("nobody", PASSWORD))
    ]
    assert {(a.status, a.body) for a in answers} == {(403, answers[0].body)}


def test_an_unknown_name_costs_the_same_work() -> None:
    passwords = Passwords(memory_kibibytes=64)
    checked: list[str] = []
    verify = passwords._hasher.verify
    passwords._hasher = type(  # type: ignore[assignment]  # counts, then does the work
        "Counting", (), {"verify": lambda _, h, p: (checked.append(h), verify(h, p))[1]}
    )()
    known = asyncio.run(Passwords(memory_kibibytes=64).hash(PASSWORD))
    assert asyncio.run(passwords.verify(known, PASSWORD)) is True
    assert asyncio.run(passwords.verify(None, PASSWORD)) is False
    assert len(checked) == 2
    parameters = [each.split("$")[1:4] for each in checked]
    assert parameters[0] == parameters[1]  # the same algorithm, version and cost


def test_the_cost_is_what_the_cheat_sheet_asks() -> None:
    hashed = asyncio.run(Passwords().hash(PASSWORD))
    assert hashed.startswith(f"$argon2id$v=19$m={MEMORY_KIBIBYTES},t=1,p=1$")
    assert MEMORY_KIBIBYTES == 47_104


def test_checking_a_password_leaves_the_loop_free() -> None:
    passwords, go_on = Passwords(memory_kibibytes=64), threading.Event()
    passwords._hasher = SimpleNamespace(  # type: ignore[assignment]  # waits for the loop
        verify=lambda known, given: go_on.wait(60)
    )

    async def check() -> bool:
        checking = asyncio.create_task(passwords.verify("hash", PASSWORD))
        await asyncio.sleep(0)
        go_on.set()
        return await checking

    assert asyncio.run(check())


@pytest.mark.parametrize("password", ["", "short", "x" * 257])
def test_a_password_has_a_length(password: str) -> None:
    with pytest.raises(ValueError, match="length"):
        asyncio.run(Passwords(memory_kibibytes=64).hash(password))


def test_look_alike_input_is_one_password() -> None:
    passwords = Passwords(memory_kibibytes=64)
    hashed = asyncio.run(passwords.hash("ｐａｓｓ ｗｏｒｄ ｗｉｄｅ"))
    assert asyncio.run(passwords.verify(hashed, "pass word wide"))


def test_guessing_is_slowed_down_and_costs_nothing(site: Site, services: Services) -> None:
    give_password(services)
    statuses = [
        post(site, "/corral/signin", {"name": "owner", "password": f"guess number {n}"}).status
        for n in range(40)
    ]
    assert statuses[:FREE_TRIES] == [403] * FREE_TRIES
    assert statuses.count(403) <= 25 and statuses[-1] == 429
    right = post(site, "/corral/signin", {"name": "owner", "password": PASSWORD})
    assert right.status == 429 and int(right.headers["retry-after"]) > 0


@pytest.mark.parametrize("num_names", [1, 3, 1000])
def test_a_minute_of_guesses_evaluates_at_most_twenty_five(num_names: int) -> None:
    clock = Clock()
    guesses = Guesses(clock)
    evaluated = 0
    for number in range(60_000):  # a thousand tries a second
        name = f"name {number % num_names}"
        if guesses.wait_seconds(name) == 0:
            evaluated += 1
            guesses.failed(name)
        clock.now += 0.001
    assert 0 < evaluated <= MAX_A_MINUTE + 5 <= 25


@pytest.mark.full
def test_a_minute_of_guesses_by_the_clock(site: Site, services: Services) -> None:
    """One client over a real port, as fast as it is answered; every guess has another password."""
    give_password(services)
    checked: list[str] = []
    check = site.doors.passwords._checking

    def counting(known: str | None, password: str) -> Future[bool]:
        checked.append(password)
        return check(known, password)

    site.doors.passwords._checking = counting  # type: ignore[method-assign]
    site.app.rates = Rates(burst=1e9)  # the limit on requests would hide the one on guesses
    statuses: Counter[int] = Counter()
    with served(site) as address:
        url = address.removesuffix("/v1")
        end = time.monotonic() + 60
        with httpx.Client(base_url=url, headers={"Origin": url}, timeout=60) as client:
            while time.monotonic() < end:
                number = statuses.total()
                name = ("owner", "owner", f"nobody {number}")[number % 3]
                given = {"name": name, "password": f"guess number {number}"}
                statuses[client.post("/corral/signin", json=given).status_code] += 1
    print(f"{statuses.total()} guesses in a minute, {len(checked)} evaluated")
    assert {*statuses} == {403, 429} and statuses.total() > 500
    assert 5 <= len(checked) == statuses[403] <= 25


def test_waiting_doubles_up_to_a_minute_and_ends_with_success() -> None:
    clock = Clock()
    guesses = Guesses(clock)
    waits = []
    for _ in range(14):
        clock.now += 61
        assert guesses.wait_seconds("anna") == 0
        guesses.failed("Anna")
        waits.append(round(guesses.wait_seconds("ANNA"), 3))
    assert [w for w in waits if w][:7] == [2, 4, 8, 16, 32, 60, 60]
    guesses.succeeded("anna")
    assert guesses.wait_seconds("anna") == 0


def test_an_invitation_becomes_an_account(site: Site, services: Services) -> None:
    token = invite(services)
    path = "/corral/invitation"
    assert post(site, path, {"token": token}).json == {"role": "user"}
    assert post(site, path, {"token": token, "name": "Anna", "password": "short"}).status == 400
    assert post(site, path, {"token": token, "name": "<b>", "password": PASSWORD}).status == 400
    assert post(site, path, {"token": token, "name": "owner", "password": PASSWORD}).status == 409
    made = post(site, path, {"token": token, "name": "Anna", "password": PASSWORD})
    assert made.status == 204
    assert post(site, path, {"token": token}).status == 403  # used up
    assert post(site, "/corral/signin", {"name": "anna", "password": PASSWORD}).status == 204
    assert [person.role for person in services.store.people.everybody()] == ["owner", "user"]


def test_old_and_unknown_invitations_open_nothing(site: Site, services: Services) -> None:
    for token in (invite(services, lasts=-1), "x", ""):
        given = {"token": token, "name": "Anna", "password": PASSWORD}
        assert post(site, "/corral/invitation", given).status == 403


def test_a_guest_leaves_nothing_behind(site: Site, services: Services) -> None:
    token = invite(services, "guest", uses=2)
    come = [post(site, "/corral/invitation", {"token": token, "name": "Gast"}) for _ in range(2)]
    assert [answer.status for answer in come] == [204, 204]
    guest = services.store.people.everybody()[1]
    assert guest.role == "guest" and not guest.has_password
    assert services.policy(guest.id) != services.policy(OWNER_ID)
    services.store.create_conversation(guest.id)
    assert post(site, "/corral/leave", {}, cookie_of(come[0])).status == 204
    left = services.store.people.everybody()
    assert guest.id not in [person.id for person in left] and len(left) == 2


def test_no_secret_is_exchanged_by_a_get(site: Site, services: Services) -> None:
    token = invite(services)
    give_password(services)
    for path in (
        f"/corral/invitation?token={token}&name=Anna&password={PASSWORD}",
        f"/corral/signin?name=owner&password={PASSWORD}",
    ):
        answer = ask(site.app, "GET", path.replace(" ", "%20"))
        assert answer.status == 200 and "set-cookie" not in answer.headers
        assert answer.headers["referrer-policy"] == "no-referrer"
    assert len(services.store.people.everybody()) == 1


def test_a_form_of_another_site_signs_nobody_in(site: Site, services: Services) -> None:
    give_password(services)
    body = f"name=owner&password={PASSWORD}".encode()
    for origin in ("http://evil.example", "null"):
        headers = [("origin", origin), ("content-type", "application/x-www-form-urlencoded")]
        assert ask(site.app, "POST", "/corral/signin", headers=headers, body=body).status == 403


def test_the_keys_of_this_machine_are_not_taken_over_a_link(site: Site) -> None:
    site.app.hosts.opened["abc.gradio.live"] = "share"
    for path in ("/corral/enter", "/corral/launch"):
        for method in ("GET", "POST"):
            answer = ask(
                site.app,
                method,
                path,
                hosts=["abc.gradio.live"],
                headers=same_origin(origin="https://abc.gradio.live"),
                body=b"{}" if method == "POST" else b"",
            )
            assert answer.status in (401, 404)


def test_over_a_link_the_cookie_is_secure_and_the_home_page_asks_for_a_name(
    site: Site, services: Services
) -> None:
    give_password(services)
    host = "abc.gradio.live"
    assert ask(site.app, "GET", "/", hosts=[host]).status == 403
    site.app.hosts.opened[host] = "share"
    home = ask(site.app, "GET", "/", hosts=[host])
    assert home.status == 401 and b'id="signin"' in home.body
    body = json.dumps({"name": "owner", "password": PASSWORD}).encode()
    for origin, status in ((f"https://{host}", 204), (f"http://{host}", 403)):
        answer = ask(
            site.app,
            "POST",
            "/corral/signin",
            hosts=[host],
            headers=same_origin(origin=origin),
            body=body,
        )
        assert answer.status == status
        assert status != 204 or "Secure" in answer.headers["set-cookie"]


def test_one_user_cannot_use_up_anothers_requests(site: Site, services: Services) -> None:
    site.app.rates = Rates(per_second=0.0, burst=3)
    cookie = sign_in(services, OWNER_ID, "owner")
    strangers = [ask(site.app, "GET", "/corral/health").status for _ in range(5)]
    assert strangers == [200, 200, 200, 429, 429]
    path = "/corral/corral.css"
    statuses = [ask(site.app, "GET", path, headers=[("cookie", cookie)]).status for _ in range(4)]
    assert statuses == [200, 200, 200, 429]


def test_visitors_are_counted_while_they_are_here() -> None:
    clock = Clock()
    visitors = Visitors(clock)
    visitors.saw(b"a", "share")
    visitors.saw(b"a", "share")
    visitors.saw(b"b", "lan")
    visitors.saw(b"c", "")
    assert (visitors.count("share"), visitors.count("lan")) == (1, 1)
    clock.now += 121
    assert visitors.count("share") == 0


@pytest.mark.parametrize(
    ("accepted", "language"),
    [("zh-TW,zh;q=0.9,en;q=0.8", "zh-Hant"), ("zh-CN", "zh-Hans"), ("fr, en;q=0.5", "en")],
)
def test_strangers_are_spoken_to_in_their_language(
    site: Site, services: Services, accepted: str, language: str
) -> None:
    strings, header = Strings.load(language), ("accept-language", accepted)
    site.app.hosts.opened["abc.gradio.live"] = "share"
    for path, key in (("/", "signin.heading"), ("/corral/invitation", "signin.invited_heading")):
        page = ask(site.app, "GET", path, hosts=["abc.gradio.live"], headers=[header])
        assert strings.say(key) in page.body.decode()
    wrong = ask(
        site.app,
        "POST",
        "/corral/invitation",
        headers=[*same_origin(), header],
        body=b'{"token": "x"}',
    )
    assert wrong.json["detail"] == strings.say("signin.used")
