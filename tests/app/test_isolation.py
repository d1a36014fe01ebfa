"""Three users, every route, every method, ids of the others: nothing is read or changed."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from app import routes
from app.accounts import digest
from app.services import Services
from app.site import Site
from storage.records import OWNER_ID
from tests.app.all_routes import METHODS, all_routes, example
from tests.app.asgi import ask, same_origin
from tests.app.house import make_services, sign_in, whole_site
from tests.app.page_events import begin, config_of, join, stream
from tests.app.panel_events import fire, make_panels
from tests.storage import make

SAMPLE = 250


@dataclass(frozen=True)
class Somebody:
    """A signed-in user with one conversation, one bound Gradio session, and words of their own."""

    id: int
    cookie: str
    key: str
    prompt_id: int
    reply_id: int
    hash: str
    canary: str


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    found = make_services(tmp_path_factory.mktemp("data"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def site(services: Services) -> Site:
    return whole_site(services, api=True)


@pytest.fixture(scope="module")
def everybody(services: Services, site: Site) -> list[Somebody]:
    ids = [OWNER_ID]
    for role in ("user", "guest"):
        token = site.doors.invite(role, "").partition("#")[2]
        ids.append(services.store.people.accept(digest(token), f"a {role}", "hash").id)
    found = []
    for number, user_id in enumerate(ids):
        store, canary = services.store, f"canary-of-{number}-zanzibar"
        key = store.create_conversation(user_id, title=canary).key
        turn = store.begin_turn(user_id, key, parent_id=None, text=canary, client_key="1")
        store.append(turn.reply.id, canary)
        store.finish_reply(turn.reply.id, status="stopped", generation=None)
        cookie, name = sign_in(services, user_id, f"token-{number}"), f"session{number}hash"
        site.app.sessions.hashes.claim(name, user_id)
        found.append(Somebody(user_id, cookie, key, turn.prompt.id, turn.reply.id, name, canary))
    return found


def attempts(site: Site, everybody: list[Somebody]) -> list[tuple[Somebody, Somebody, str, str]]:
    """(who, of whom, method, target) for everything that could be asked."""
    # Leaving names nobody else, and a guest who leaves is removed: test_signin.py has that.
    paths = sorted({example(path) for path in all_routes(site.app._app)} - {routes.LEAVE})
    found = []
    for who, whose in itertools.permutations(everybody, 2):
        for path, method in itertools.product(paths, METHODS):
            for id in (whose.hash, whose.key, str(whose.reply_id)):
                # A name that nobody has is anybody's: only the bound one is foreign.
                target = path.replace("heartbeat/x1234", f"heartbeat/{whose.hash}")
                found.append((who, whose, method, f"{target}?session_hash={whose.hash}&c={id}"))
    return found


def try_all(
    services: Services,
    site: Site,
    everybody: list[Somebody],
    chosen: list[tuple[Somebody, Somebody, str, str]],
) -> int:
    before = services.store._writer.call(make.rows)
    for who, whose, method, target in chosen:
        if method in ("GET", "HEAD") and target.startswith("/gradio_api/queue/data"):
            target = target.split("&", maxsplit=1)[0]
        data = {"session_hash": whose.hash, "event_id": whose.key, "fn_index": 0, "data": []}
        more = {"event_data": {"key": whose.key, "id": whose.reply_id}, "component_id": 1}
        body = json.dumps({**data, **more, "fn_name": "x", "trigger_id": 1}).encode()
        answer = ask(
            site.app,
            method,
            target,
            headers=same_origin(who.cookie),
            body=b"" if method in ("GET", "HEAD") else body,
        )
        where = (who.id, method, target)
        assert answer.status < 500, where
        assert whose.canary.encode() not in answer.body, where
    after = services.store._writer.call(make.rows)
    quiet = {"session", "audit", "user"}  # what signing in and out writes of oneself
    assert {t: r for t, r in before.items() if t not in quiet} == {
        t: r for t, r in after.items() if t not in quiet
    }
    return len(chosen)


def test_users_reach_nothing_of_each_other(
    services: Services, site: Site, everybody: list[Somebody]
) -> None:
    chosen = random.Random(8).sample(attempts(site, everybody), SAMPLE)
    assert try_all(services, site, everybody, chosen) == SAMPLE


@pytest.mark.full
def test_users_reach_nothing_of_each_other_full(
    services: Services, site: Site, everybody: list[Somebody]
) -> None:
    number = try_all(services, site, everybody, attempts(site, everybody))
    print(f"{number} attempts")
    assert number >= 5_000


EVENTS = (
    "view", "send", "again", "resume", "version", "anyway", "appeal", "follow", "stop", "listing",
    "rename", "pin", "trash", "restore", "pulse", "seek", "draft",
)  # fmt: skip


def test_no_event_of_the_page_reaches_what_is_anothers(
    services: Services, site: Site, everybody: list[Somebody]
) -> None:
    """Every event over its real route, with the conversation and the messages of another user."""

    async def fire_all() -> int:
        num = 0
        await begin(site, everybody[0].cookie)
        for who, whose in itertools.permutations(everybody, 2):
            config = await config_of(site, who.cookie)
            for name in EVENTS:
                data = {"key": whose.key, "id": whose.reply_id, "parent": whose.prompt_id}
                data |= {"text": "x", "client_key": f"{who.id}{name}", "last": 40, "on": True}
                session = f"{who.hash}-{whose.id}-{name}"
                joined = await join(site, who.cookie, session, config, name, **data)
                assert joined.status == 200, name
                painted = await stream(site, who.cookie, session)
                assert b"process_completed" in painted.body
                assert whose.canary.encode() not in painted.body, (who.id, name)
                num += 1
        return num

    before = services.store._writer.call(make.rows)
    assert asyncio.run(fire_all()) == 6 * len(EVENTS)
    assert services.store._writer.call(make.rows) == before


def test_no_dialog_tells_of_others(
    services: Services, site: Site, everybody: list[Somebody]
) -> None:
    """Every event of the dialogs, with the conversation, message and account of another user."""
    panels = make_panels(services)
    modes: dict[str, list[str]] = {
        "panel": ["keep", "session", "compare", "tokens", "branches", "numbers", "people"],
        "desk": ["delete", "export", "rate", "branch", "move", "tag", "feedback", "share"],
        "people": ["disable", "remove", "quota", "sign-out", "revoke-key"],
    }
    before = services.store._writer.call(make.rows)
    for who, whose in itertools.permutations(everybody, 2):
        for name, each in modes.items():
            for mode in each:
                data: dict[str, Any] = {
                    "mode": mode,
                    "key": whose.key,
                    "id": whose.reply_id,
                    "parent": whose.prompt_id,
                    "text": str(whose.id),
                }
                if who.id == OWNER_ID and name == "people":
                    continue  # accounts are the owner's; test_people_panel.py has them
                shown = fire(getattr(panels, name), data, user_id=who.id)
                assert whose.canary not in str(shown), (who.id, name, mode)
    assert services.store._writer.call(make.rows) == before
