"""Letting others in, as people do it: the dialog People, invitations, sign-in, guests, a link."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from app.strings import Strings
from storage.records import OWNER_ID
from tests.app.paper_tunnel import PaperTunnel, share_of
from tests.browser.axe import violations
from tests.browser.conftest import ask
from tests.browser.guarded import Guarded

pytestmark = pytest.mark.browser
STRINGS = Strings.load("en")
PASSWORD = "four words in a row"
PHONE = {"width": 390, "height": 844}


@pytest.fixture
def opened(browser: Browser) -> Iterator[list[Page]]:
    """Pages of browsers that know nothing of each other, closed at the end."""
    pages: list[Page] = []
    yield pages
    for page in pages:
        page.context.close()


def another(browser: Browser, opened: list[Page], **options: object) -> Page:
    context = browser.new_context(reduced_motion="reduce", **options)  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(60_000)
    opened.append(page)
    return page


def owners(guarded: Guarded, browser: Browser, opened: list[Page], **options: object) -> Page:
    page = another(browser, opened, **options)
    page.goto(guarded.key())
    page.wait_for_selector("#window .empty")
    return page


def open_people(page: Page) -> None:
    if page.viewport_size and page.viewport_size["width"] < 700:
        page.click("#head [data-act=drawer]")
    page.locator("[data-panel=people]:visible").first.click()
    expect(page.locator("#dialog[open] [data-kind=people]")).to_be_visible()


def said(page: Page) -> str:
    expect(page.locator("#panel-said")).not_to_be_empty()
    return page.locator("#panel-said").inner_text()


def invited(page: Page, role: str, note: str) -> str:
    """Press the button; the address that is shown once."""
    page.fill("#people-note", note)
    page.click(f"#invite-{role}")
    expect(page.locator("#panel-said")).to_contain_text("/corral/invitation#")
    return said(page).split()[-1]


def test_a_person_is_invited_signs_in_and_is_locked_out(
    guarded: Guarded, browser: Browser, opened: list[Page]
) -> None:
    owner = owners(guarded, browser, opened)
    open_people(owner)
    address = invited(owner, "user", "Anna")
    expect(owner.locator("#withdraw-1")).to_be_visible()
    anna = another(browser, opened, viewport=PHONE)
    anna.goto(address)
    expect(anna.locator("#for-user")).to_be_visible()
    assert "#" not in anna.url and violations(anna) == []
    anna.fill("[name=name]", "Anna")
    anna.fill("[name=password]", PASSWORD)
    anna.click("button")
    anna.wait_for_selector("#window .empty")
    again = another(browser, opened, color_scheme="dark")
    again.goto(address)
    expect(again.locator("#said")).to_have_text(STRINGS.say("signin.used"))
    again.goto(f"{guarded.url}/corral/signin")
    again.fill("[name=name]", "anna")
    again.fill("[name=password]", "not the password")
    again.click("button")
    expect(again.locator("#said")).to_have_text(STRINGS.say("signin.wrong"))
    assert violations(again) == []
    again.fill("[name=password]", PASSWORD)
    again.click("button")
    again.wait_for_selector("#window .empty")

    open_people(anna)
    expect(anna.locator("#invite-user")).to_have_count(0)
    expect(anna.locator("[id^=sign-out-]")).to_have_count(1)
    anna.fill("#people-current", "not the password")
    anna.fill("#people-password", "another four words")
    anna.click("#people-set")
    assert said(anna) == STRINGS.say("people.current_wrong")
    anna.fill("#people-current", PASSWORD)
    anna.click("#people-set")
    expect(anna.locator("#panel-said")).to_have_text(STRINGS.say("people.password_set"))
    expect(anna.locator("[id^=sign-out-]")).to_have_count(0)  # the other browser is out
    again.goto(guarded.url)
    expect(again.get_by_role("heading", name=STRINGS.say("entrance.heading"))).to_be_visible()

    owner.reload()
    owner.wait_for_selector("#window .empty")
    open_people(owner)
    expect(owner.get_by_text("Anna", exact=True)).to_be_visible()
    owner.locator("[id^=quota-]:visible").fill("500")
    owner.locator("[id^=set-quota-]").click()
    expect(owner.locator("#panel-said")).to_have_text(STRINGS.say("people.changed"))
    expect(owner.get_by_text("/ 500")).to_be_visible()
    owner.locator("[id^=disable-]").click()
    expect(owner.locator("[id^=enable-]")).to_be_visible()
    anna.goto(guarded.url)
    expect(anna.get_by_role("heading", name=STRINGS.say("entrance.heading"))).to_be_visible()
    owner.locator("[id^=remove-]").click()
    expect(owner.get_by_text("Anna", exact=True)).to_have_count(0)


def test_a_guest_sees_a_chat_and_nothing_else_and_leaves_nothing(
    guarded: Guarded, browser: Browser, opened: list[Page]
) -> None:
    secret = "the owner's own title"
    guarded.services.store.create_conversation(OWNER_ID, title=secret)
    owner = owners(guarded, browser, opened)
    open_people(owner)
    address = invited(owner, "guest", "")
    guest = another(browser, opened)
    guest.goto(address)
    expect(guest.locator("#for-guest")).to_be_visible()
    expect(guest.locator("[name=password]")).to_have_count(0)
    guest.fill("[name=name]", "Gast")
    guest.click("button")
    guest.wait_for_selector("#window .empty")
    ask(guest, "hello")
    expect(guest.locator("#window .reply .md")).to_have_text("Hello there, friend.")
    assert secret not in guest.content()
    for kind in ("models", "safety"):
        guest.locator(f"[data-panel={kind}]").first.click(force=True)
        expect(guest.locator("#dialog [data-kind]")).to_have_count(0)
    open_people(guest)
    assert guest.locator("#dialog .field").count() == 0 and violations(guest) == []
    store = guarded.services.store
    (visiting,) = [each for each in store.people.everybody() if each.role == "guest"]
    assert len(store.conversations(visiting.id)) == 1
    guest.click("#leave")
    expect(guest.get_by_role("heading", name=STRINGS.say("entrance.heading"))).to_be_visible()
    assert visiting.id not in [each.id for each in store.people.everybody()]


def test_a_link_shows_what_it_is_and_ends_at_once(
    guarded: Guarded, browser: Browser, opened: list[Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    tunnel = PaperTunnel()
    share_of(guarded.site, tunnel)
    monkeypatch.setattr("app.lan.addresses", lambda: ["127.0.0.2"])
    owner = owners(guarded, browser, opened, color_scheme="dark")
    open_people(owner)
    expect(owner.get_by_text(STRINGS.say("people.operator"))).to_be_visible()
    owner.click("#share-on")
    assert "password" in said(owner) and tunnel.ports == []
    owner.fill("#people-password", PASSWORD)
    owner.click("#people-set")
    expect(owner.locator("#panel-said")).to_have_text(STRINGS.say("people.password_set"))
    owner.select_option("#share-hours", "1")
    owner.click("#share-on")
    expect(owner.locator(".offer .qr svg")).to_be_visible()
    expect(owner.locator(".offer").first).to_contain_text("abcdef.gradio.live")
    expect(owner.locator(".offer").first).to_contain_text("until")
    assert invited(owner, "guest", "").startswith("https://abcdef.gradio.live/corral/invitation#")
    assert violations(owner) == []
    owner.click("#share-off")
    expect(owner.locator("#share-on")).to_be_visible()
    assert tunnel.closed == 1
    owner.click("#lan-on")
    expect(owner.locator("#lan-off")).to_be_visible()
    neighbour = another(browser, opened, viewport=PHONE)
    neighbour.goto(owner.locator(".offer a").inner_text())
    expect(neighbour.locator("#signin")).to_be_visible()
    assert violations(neighbour) == []
    owner.click("#lan-off")
    expect(owner.locator("#lan-on")).to_be_visible()


def test_a_key_is_shown_once(guarded: Guarded, browser: Browser, opened: list[Page]) -> None:
    owner = owners(guarded, browser, opened, viewport=PHONE)
    open_people(owner)
    owner.click("#api-switch")
    expect(owner.locator("#panel-said")).to_have_text(STRINGS.say("people.api_on"))
    owner.fill("#key-name", "My script")
    owner.select_option("#key-scope", "chat")
    owner.click("#key-make")
    expect(owner.locator("#panel-said")).to_contain_text("corral-")
    key = said(owner).split()[-1]
    assert violations(owner) == []
    owner.click("#panel-close")
    owner.locator("#dialog").wait_for(state="hidden")
    owner.reload()
    owner.wait_for_selector("#window .empty")
    open_people(owner)
    expect(owner.get_by_text("My script")).to_be_visible()
    assert key not in owner.content()
    assert owner.eval_on_selector("#dialog .sheet-body", "e => e.scrollWidth <= e.clientWidth")
    owner.locator("[id^=revoke-]").click()
    expect(owner.get_by_text("My script")).to_have_count(0)
    owner.click("#api-switch")


@pytest.mark.parametrize("language", ["zh-Hans", "zh-Hant"])
def test_the_dialog_speaks_the_language_of_the_page(
    guarded: Guarded, browser: Browser, opened: list[Page], language: str
) -> None:
    locale = {"zh-Hans": "zh-CN", "zh-Hant": "zh-TW"}[language]
    owner = owners(guarded, browser, opened, locale=locale)
    open_people(owner)
    title = Strings.load(language).say("people.title")
    expect(owner.locator("#panel-title")).to_have_text(title)
    assert "people." not in owner.locator("#dialog").inner_text()
    assert violations(owner) == []
