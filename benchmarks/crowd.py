"""How far a page lags while others are there: `python -m benchmarks.crowd [--json]`.

One person clicks through the page over its real routes (`queue/join`, then the stream of the
session) while 0, 20 and 50 others each follow an answer of their own that is being written, and
while another account floods the server with malformed requests. Two things are measured: how long
a click takes until its handler has painted, and how long after it was made each update of those
answers is with the browser that follows it. The engine is scripted, 10 tokens a second for each;
everybody asks from a second process. Wants an otherwise idle machine: the server has one processor,
those who ask the other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable
from dataclasses import asdict, dataclass, replace
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any

import httpx

from benchmarks.served import served

if TYPE_CHECKING:
    from app.services import Services
    from app.site import Site

CROWDS = (0, 20, 50)
SECONDS = 20.0
SECONDS_PER_TOKEN = 0.1
PAUSE_SECONDS = 0.25  # between the clicks of the one who is measured
# The number of an update, whole or as Gradio's difference to the one before.
NUMBER = re.compile(r'"number": ?([0-9]+)|"number"\], ?([0-9]+)')
MALFORMED = (b"", b"{", b"[[[[", b"null", b'{"session_hash": 5}', b"\xff\xfe", b'{"data": "x"}')


@dataclass(frozen=True)
class Person:
    """A signed-in browser: its cookie, its Gradio session and a conversation of its own."""

    cookie: str
    session: str
    key: str


@dataclass(frozen=True)
class Scene:
    """What the second process is to do. The first person clicks, the last one may flood."""

    url: str
    people: list[Person]
    events: dict[str, tuple[int, int]]  # name → (fn_index, trigger_id), from the page's config
    storm: bool

    @classmethod
    def read(cls, told: IO[str]) -> Scene:
        """A scene as `asdict` gave it to another process."""
        given = json.load(told)
        return cls(people=[Person(**each) for each in given.pop("people")], **given)


class Browser:
    """The requests that the page of one person makes. `num_errors` counts answers but 200.

    `arrived` are the numbers of the updates that came, with the time (seconds since 1970).
    """

    def __init__(self, scene: Scene, person: Person) -> None:
        self.scene, self.person = scene, person
        self.num_errors = 0
        self.arrived: list[tuple[int, float]] = []
        self.client = httpx.AsyncClient(
            base_url=scene.url,
            headers={"Cookie": person.cookie, "Origin": scene.url},
            timeout=120,
            trust_env=False,
        )

    async def fire(self, name: str, **data: object) -> int:
        """One event, until its handler has ended; how often it painted."""
        fn_index, trigger_id = self.scene.events[name]
        session = self.person.session
        body = {"data": [], "event_data": {"language": "en", **data}, "fn_index": fn_index}
        joined = await self.client.post(
            "/gradio_api/queue/join",
            json={**body, "trigger_id": trigger_id, "session_hash": session},
        )
        if joined.status_code != 200:
            self.num_errors += 1
            return 0
        painted = 0
        where = f"/gradio_api/queue/data?session_hash={session}"
        async with self.client.stream("GET", where) as stream:
            async for line in stream.aiter_lines():
                message = json.loads(line[5:]) if line.startswith("data:") else {}
                if message.get("msg") == "process_generating":
                    painted += 1
                    self.arrived += [
                        (int(whole or changed), time.time())
                        for whole, changed in NUMBER.findall(line)
                    ]
                if message.get("msg") == "process_completed":
                    self.num_errors += not message["success"]
                    return painted
        self.num_errors += 1
        return painted


async def clicks(browser: Browser, until: float) -> list[float]:
    """Seconds that each click of one person took."""
    found = []
    while time.monotonic() < until:
        began = time.perf_counter()
        await browser.fire("pulse")
        found.append(time.perf_counter() - began)
        await asyncio.sleep(PAUSE_SECONDS)
    return found


async def follow(browser: Browser, number: int) -> int:
    """Ask something and follow the answer; how often it was painted."""
    key = browser.person.key
    await browser.fire("send", key=key, text="go", client_key=f"crowd{number}", last=40)
    return await browser.fire("follow", key=key)


async def flood(browser: Browser, until: float) -> int:
    """Malformed requests, as fast as they are answered; how many."""
    dice, sent = random.Random(1), 0
    while time.monotonic() < until:
        path = dice.choice(("queue/join", "cancel", "component_server"))
        answer = await browser.client.post(
            f"/gradio_api/{path}",
            content=dice.choice(MALFORMED),
            headers={"Content-Type": "application/json"},
        )
        browser.num_errors += answer.status_code >= 500
        sent += 1
    return sent


async def ask_all(scene: Scene) -> dict[str, Any]:
    """Play a scene: everybody asks at once."""
    browsers = [Browser(scene, person) for person in scene.people]
    first, crowd = browsers[0], browsers[1:]
    await first.fire("pulse")
    until = time.monotonic() + SECONDS
    others: list[Awaitable[int]] = (
        [flood(crowd[-1], until)]
        if scene.storm
        else [follow(each, number) for number, each in enumerate(crowd)]
    )
    waited, *done = await asyncio.gather(clicks(first, until), *others)
    return {
        "others": len(crowd),
        "storm_requests": done[0] if scene.storm else 0,
        "clicks": len(waited),
        "click_p50_milliseconds": 1000 * statistics.median(waited),
        "click_p95_milliseconds": 1000 * statistics.quantiles(waited, n=20)[-1],
        "updates_a_second": statistics.mean(done) / SECONDS if crowd and not scene.storm else 0.0,
        "errors": sum(browser.num_errors for browser in browsers),
        "arrived": [each for browser in crowd for each in browser.arrived],
    }


def invite(services: Services, site: Site, number: int) -> Person:
    """An account, signed in, with a conversation."""
    from app.accounts import digest

    token = site.doors.invite("user", "").partition("#")[2]
    user = services.store.people.accept(digest(token), f"person {number}", "no password")
    key = services.store.create_conversation(user.id).key
    return Person(signed_in(services, site, user.id), f"crowdhash{number}", key)


def signed_in(services: Services, site: Site, user_id: int) -> str:
    """The cookie of a session that is opened for a user."""
    from app.accounts import cookie_name

    cookie = site.entrance.accounts.open_session(user_id)
    return f"{cookie_name(services.settings.port, secure=False)}={cookie}"


def events_of(url: str, person: Person) -> dict[str, tuple[int, int]]:
    """The numbers under which the page fires its events."""
    answer = httpx.get(f"{url}/config", headers={"Cookie": person.cookie}, trust_env=False)
    found = {}
    for each in answer.json()["dependencies"]:
        for component, name in each["targets"]:
            found.setdefault(name, (each["id"], component))
    return {name: found[name] for name in ("pulse", "send", "follow")}


def scripted(services: Services) -> None:
    """An engine that writes at a steady pace for as long as is measured; a guard that is free."""
    from engine.scripted import ScriptedEngine
    from safety.base import Verdict

    reply = " ".join(f"word{n}" for n in range(int(SECONDS / SECONDS_PER_TOKEN)))
    engine = ScriptedEngine([reply], seconds_per_token=SECONDS_PER_TOKEN, context_length=1 << 20)
    guard = SimpleNamespace(name="none", version="1", judge=lambda prompt, reply=None: Verdict(0.0))
    services.running.part.replace(lambda: engine)
    services.guard.replace(lambda: guard)
    for part in (services.running.part, services.guard):
        part.wait(services.closing)


def noting(made: dict[int, float]) -> None:
    """Have every update of an answer noted when it is made: number → seconds since 1970."""
    from app.page.live import LiveAnswer

    value = LiveAnswer.value

    def noted(self: LiveAnswer, view: Any) -> dict[str, object]:
        found = value(self, view)
        made[int(str(found["number"]))] = time.time()
        return found

    LiveAnswer.value = noted  # type: ignore[method-assign]  # in this process alone


def play(scene: Scene, made: dict[int, float]) -> dict[str, Any]:
    """The figures of a scene, played by a second process; `made` as `noting` fills it."""
    command = [sys.executable, "-m", "benchmarks.crowd", "--scene"]
    run = subprocess.run(
        command, input=json.dumps(asdict(scene)), capture_output=True, text=True, check=True
    )
    row = dict(json.loads(run.stdout))
    lags = [1000 * (at - made[number]) for number, at in row.pop("arrived") if number in made]
    row["updates"] = len(lags)
    row["update_lag_p50_milliseconds"] = statistics.median(lags) if lags else 0.0
    row["update_lag_p95_milliseconds"] = statistics.quantiles(lags, n=20)[-1] if lags else 0.0
    return row


def measure() -> list[dict[str, Any]]:
    """One row for each crowd, and one for the storm."""
    made: dict[int, float] = {}
    noting(made)
    with served() as (services, site):
        scripted(services)
        url = f"http://127.0.0.1:{services.settings.port}"
        rows = []
        for crowd in CROWDS:
            people = [invite(services, site, crowd * 100 + n) for n in range(crowd + 1)]
            scene = Scene(url, people, events_of(url, people[0]), storm=False)
            rows.append(play(scene, made))
        two = [invite(services, site, 9_000 + n) for n in range(2)]
        rows.append(play(replace(scene, people=two, storm=True), made))
        return rows


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--scene", action="store_true", help="play the scene on standard input")
    chosen = parser.parse_args()
    if chosen.scene:
        print(json.dumps(asyncio.run(ask_all(Scene.read(sys.stdin)))))
        return
    rows = measure()
    if chosen.json:
        print(json.dumps(rows))
        return
    quiet = rows[0]["click_p95_milliseconds"]
    print("                       click ms                  update lag ms")
    print("with            clicks   p50      p95   x alone   p50      p95   updates/s   errors")
    for row in rows:
        sent = row["storm_requests"]
        who = f"{sent} malformed" if sent else f"{row['others']} streaming"
        print(
            f"{who:15} {row['clicks']:6} {row['click_p50_milliseconds']:5.1f} "
            f"{row['click_p95_milliseconds']:8.1f} {row['click_p95_milliseconds'] / quiet:9.2f} "
            f"{row['update_lag_p50_milliseconds']:5.1f} {row['update_lag_p95_milliseconds']:8.1f} "
            f"{row['updates_a_second']:11.1f} {row['errors']:8}"
        )


if __name__ == "__main__":
    main()
