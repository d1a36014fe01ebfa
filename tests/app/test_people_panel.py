"""The dialog People: what each role sees, what its buttons do, and who may press them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from app.accounts import digest
from app.page.panels import Panels
from app.page.people import PeoplePanel
from app.page.templates import Templates
from app.passwords import PasswordRefused
from app.services import Services
from app.site import Site, build
from app.strings import Strings
from storage.records import OWNER_ID
from tests.app.house import no_page, sign_in
from tests.app.panel_events import fire, make_panels
from tests.app.paper_tunnel import PaperTunnel, share_of

PASSWORD = "four words in a row"


@pytest.fixture
def panels(site: Site, services: Services) -> Panels:
    return make_panels(services)


def person(services: Services, site: Site, role: str = "user") -> int:
    address = site.doors.invite(role, "")  # type: ignore[arg-type]
    token = address.partition("#")[2]
    return services.store.people.accept(digest(token), f"A {role}", "hash").id


def act(panels: Panels, mode: str, text: str = "", **who: Any) -> dict[str, Any]:
    found: dict[str, Any] = fire(panels.people, {"mode": mode, "text": text}, **who)["panel"]
    return found


def look(panels: Panels, **who: Any) -> str:
    return str(fire(panels.panel, {"mode": "people"}, **who)["panel"]["html"])


def test_every_role_sees_its_own_part(panels: Panels, services: Services, site: Site) -> None:
    user, guest = person(services, site), person(services, site, "guest")
    owner = look(panels)
    for part in ("share-on", "lan-on", "invite-user", "api-switch", f"remove-{user}", "key-make"):
        assert f'id="{part}"' in owner
    assert "operator can read what is sent" in owner and "not encrypted" in owner
    own = look(panels, user_id=user)
    assert 'id="key-make"' in own and 'id="people-password"' in own
    for part in ("share-on", "invite-user", "api-switch", "remove-"):
        assert part not in own
    visiting = look(panels, user_id=guest)
    assert "deleted when you leave" in visiting and "<input" not in visiting
    away = look(panels, away=True)  # the owner, over the link
    assert 'id="share-on"' not in away and 'id="people-password"' in away


OWNERS = [
    ("invite-user", "x"), ("invite-guest", "x"), ("withdraw", "00"), ("disable", "2"),
    ("enable", "2"), ("remove", "2"), ("quota", '["2","5"]'), ("api-on", ""), ("api-off", ""),
    ("share-on", ""), ("share-off", ""), ("lan-on", ""), ("lan-off", ""),
]  # fmt: skip


def test_what_is_the_owners_nobody_else_can_do(
    panels: Panels, services: Services, site: Site
) -> None:
    listed = {mode for mode, _ in OWNERS}
    assert listed == set(PeoplePanel(services, Templates(Strings.load("en")))._owners)
    user, guest = person(services, site), person(services, site, "guest")
    before = services.store.people.everybody(), services.store.people.invitations()
    for mode, text in OWNERS:
        for who in ({"user_id": user}, {"user_id": guest}, {"away": True}):
            assert act(panels, mode, text, **who)["tone"] == "error", (mode, who)
    assert (services.store.people.everybody(), services.store.people.invitations()) == before
    assert not site.app.api_on and site.app.hosts.opened == {}


def test_a_guest_can_do_nothing_here(panels: Panels, services: Services, site: Site) -> None:
    guest = person(services, site, "guest")
    for mode, text in (("password", PASSWORD), ("key", "x"), ("sign-out", "00")):
        assert act(panels, mode, text, user_id=guest)["tone"] == "error"
    assert services.store.people.keys(guest) == []
    models = fire(panels.panel, {"mode": "models"}, user_id=guest)["panel"]
    assert "html" not in models


def test_a_password_an_invitation_and_a_link(
    panels: Panels, services: Services, site: Site
) -> None:
    tunnel = PaperTunnel()
    share_of(site, tunnel)
    assert "no account has a password" not in act(panels, "share-on")["said"]
    assert tunnel.ports == []
    assert act(panels, "password", "short")["tone"] == "error"
    assert act(panels, "password", PASSWORD)["tone"] == "info"
    shared = act(panels, "share-on", "2")
    assert "https://abcdef.gradio.live" in shared["said"] and "<svg" in shared["html"]
    said = act(panels, "invite-guest", "Friends")["said"]
    address = re.search(r"https://abcdef\.gradio\.live/corral/invitation#(\S+)", said)
    assert address is not None
    assert services.store.people.invitation(digest(address[1])) is not None
    assert address[1] not in look(panels)  # shown once
    kept = services.store.people.invitations()[0]
    assert (kept.note, kept.num_left) == ("Friends", 10)
    act(panels, "withdraw", kept.id)
    assert services.store.people.invitations() == []
    act(panels, "share-off")
    assert tunnel.closed == 1


def test_keys_are_shown_once_and_revoked(panels: Panels, services: Services) -> None:
    said = act(panels, "key", json.dumps(["My script", "chat"]))["said"]
    key = said.split()[-1]
    assert key.startswith("corral-") and key not in look(panels)
    kept = services.store.people.keys(OWNER_ID)[0]
    assert (kept.name, kept.scopes) == ("My script", ("chat",))
    act(panels, "revoke-key", str(kept.id))
    assert services.store.people.keys(OWNER_ID) == []
    for _ in range(20):
        act(panels, "key", json.dumps(["x", "all"]))
    assert act(panels, "key", json.dumps(["x", "all"]))["tone"] == "error"


@pytest.mark.parametrize("whose", ["a user's", "the owner's, over a link"])
def test_what_outlives_a_session_asks_for_the_password(
    panels: Panels, services: Services, site: Site, whose: str
) -> None:
    """A stolen session can neither change the password nor make a key of the API."""
    user = person(services, site) if whose == "a user's" else OWNER_ID
    who: dict[str, Any] = {"user_id": user, "away": whose != "a user's"}
    name = {each.id: each.name for each in services.store.people.everybody()}[user]
    other, wrong = "another four words", json.dumps(["not the password", "x", "all"])
    site.doors.set_password(user, PASSWORD)
    sign_in(services, user, "stolen")
    sign_in(services, user, "another browser")

    def sessions() -> int:
        return len(services.store.people.sessions(user, idle_milliseconds=1 << 40))

    for text in (wrong, json.dumps(["x", "all"]), "x"):
        assert act(panels, "key", text, **who)["tone"] == "error"
    for text in (json.dumps(["not the password", other]), other, json.dumps([other])):
        assert act(panels, "password", text, **who)["tone"] == "error"
    assert services.store.people.keys(user) == [] and sessions() == 2
    assert 'id="key-current"' in look(panels, **who)

    made = act(panels, "key", json.dumps([PASSWORD, "mine", "chat"]), **who)
    assert site.doors.keys.find(made["said"].split()[-1]) is not None
    assert act(panels, "password", json.dumps([PASSWORD, "short"]), **who)["tone"] == "error"
    assert act(panels, "password", json.dumps([PASSWORD, other]), **who)["tone"] == "info"
    assert sessions() == 0  # every other browser; this one has no session in a test
    site.doors.check_password(name, other)
    with pytest.raises(PasswordRefused):
        site.doors.check_password(name, PASSWORD)


def test_trying_passwords_in_the_dialog_is_guessing_too(
    panels: Panels, services: Services, site: Site
) -> None:
    user = person(services, site)
    site.doors.set_password(user, PASSWORD)
    tries = [json.dumps([f"guess number {n}", "x", "all"]) for n in range(10)]
    said = [act(panels, "key", each, user_id=user)["said"] for each in tries]
    say = Strings.load("en").say
    assert said == [say("people.current_wrong")] * 5 + [say("people.current_wait")] * 5


def test_who_has_no_password_sets_one_at_the_machine_alone(
    panels: Panels, services: Services
) -> None:
    for text in (PASSWORD, json.dumps(["", PASSWORD])):
        assert act(panels, "password", text, away=True)["tone"] == "error"
    assert not services.store.people.has_passwords()
    assert act(panels, "password", PASSWORD)["tone"] == "info"
    assert services.store.people.has_passwords()


def test_accounts_are_limited_locked_out_and_removed(
    panels: Panels, services: Services, site: Site
) -> None:
    user = person(services, site)
    sign_in(services, user, "a browser")
    act(panels, "quota", json.dumps([str(user), "500"]))
    assert services.store.people.tokens_left(user) == 500
    act(panels, "quota", json.dumps([str(user), ""]))
    assert services.store.people.tokens_left(user) is None
    act(panels, "disable", str(user))
    assert services.store.people.everybody()[1].disabled_at is not None
    act(panels, "enable", str(user))
    act(panels, "remove", str(user))
    assert [each.id for each in services.store.people.everybody()] == [OWNER_ID]
    assert act(panels, "remove", str(OWNER_ID))["tone"] == "error"


def test_a_browser_is_signed_out(panels: Panels, services: Services) -> None:
    sign_in(services, OWNER_ID, "a token")
    assert "last used" in look(panels)
    act(panels, "sign-out", digest("a token").hex())
    assert services.store.session_user(digest("a token"), idle_milliseconds=1 << 40) is None


def test_the_switch_of_the_api_holds_after_a_start(
    panels: Panels, services: Services, site: Site
) -> None:
    act(panels, "api-on")
    assert site.app.api_on
    again = build(services, no_page)  # as after a new start
    assert again.app.api_on
    act(panels, "api-off")
    assert not again.app.api_on and not build(services, no_page).app.api_on


@pytest.mark.parametrize("text", ["-1", "x", "", "9" * 30, "[", "[]", "[1]", "١"])
def test_what_the_page_never_sends_is_refused(panels: Panels, text: str) -> None:
    for mode in ("disable", "quota", "revoke-key"):
        assert act(panels, mode, text)["tone"] == "error"


def test_names_of_others_are_text(panels: Panels, services: Services, site: Site) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    act(panels, "invite-user", hostile)
    act(panels, "key", json.dumps([hostile, "all"]))
    services.store.add_session(b"s" * 32, OWNER_ID, 1 << 52, hostile)
    html = look(panels)
    assert "<img" not in html and html.count("&lt;img") == 3
