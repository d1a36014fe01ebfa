"""The list at the side with very many conversations, tags, the archive, other languages."""

import pytest
from playwright.sync_api import Browser, Page, expect

from storage.connection import Database
from storage.records import OWNER_ID
from tests.browser.conftest import ask
from tests.browser.site import Site

pytestmark = pytest.mark.browser
MANY = 10_000


def _fill(db: Database) -> None:
    """One conversation an hour, the newest first; every hundredth tagged."""
    newest = 1_790_000_000_000
    db.conn.executemany(
        "INSERT INTO conversation (key, user_id, title, created_at, updated_at, tags) "
        "VALUES (?, 1, ?, 0, ?, ?)",
        (
            (f"k{n}", f"Talk {n}", newest - n * 3_600_000, '["hundred"]' if n % 100 == 0 else "[]")
            for n in range(MANY)
        ),
    )


@pytest.mark.own_site
def test_ten_thousand_conversations_are_a_few_rows(page: Page, site: Site) -> None:
    site.services.store._writer.call(_fill)
    page.reload()
    expect(page.locator("#listing .conv").first).to_contain_text("Talk 0")
    assert page.locator("#listing .conv").count() <= 120
    listing = page.locator("#listing")
    whole = listing.evaluate("el => el.scrollHeight")
    assert whole > MANY * 36
    for share in (0.5, 1.0, 0.25):
        listing.evaluate("(el, share) => { el.scrollTop = share * el.scrollHeight }", share)
        assert listing.evaluate("el => el.scrollTop") > MANY  # it does scroll, inside its box
        page.wait_for_function(
            """() => { const box = document.getElementById('listing').getBoundingClientRect();
               const middle = document.elementFromPoint(box.x + 60, box.y + box.height / 2);
               return middle && middle.closest('.conv, .day'); }"""
        )
        assert page.locator("#listing .conv").count() <= 120
        assert listing.evaluate("el => el.scrollHeight") == whole  # nothing jumps
    page.locator("#listing .conv a").nth(60).click()
    expect(page.locator("#listing .conv [aria-current]")).to_have_count(1)
    listing.evaluate("el => { el.scrollTop = 0 }")
    page.click("#listing [data-tag=hundred]")
    expect(page.locator("#listing .conv").nth(1)).to_contain_text("Talk 100")
    assert page.locator("#listing .conv").count() == 100
    page.click("#listing [data-tag=hundred]")
    expect(page.locator("#listing .conv").nth(1)).to_contain_text("Talk 1")


def test_the_archive_is_a_list_of_its_own(page: Page, site: Site) -> None:
    store = site.services.store
    key = store.create_conversation(OWNER_ID, title="${print(1)} <b>`kept`</b>").key
    store.archive(OWNER_ID, key, True)
    page.click("#foot [data-mode=archive]")
    expect(page.locator("#listing .conv .name")).to_have_text("${print(1)} <b>`kept`</b>")
    page.click("#listing [data-act=shelf-close]")
    expect(page.locator("#listing .conv")).to_have_count(0)


def test_the_page_speaks_the_language_of_its_browser(browser: Browser, site: Site) -> None:
    for locale, spoken, new in (
        ("zh-CN", "zh-Hans", "新对话"),
        ("zh-TW", "zh-Hant", "新對話"),
        ("fr-FR", "en", "New conversation"),
    ):
        context = browser.new_context(locale=locale)
        page = context.new_page()
        page.goto(site.url)
        expect(page.locator("#side-top .new")).to_contain_text(new)
        assert page.evaluate("document.documentElement.lang") == spoken
        if locale == "zh-TW":
            page.select_option("#language", "zh-Hans")
            expect(page.locator("#side-top .new")).to_contain_text("新对话")
            page.click("[data-panel=keys] >> nth=0")
            expect(page.locator("#panel-title")).to_have_text("帮助")
        context.close()


def test_keys_do_what_the_sheet_says(page: Page, site: Site) -> None:
    page.keyboard.press("Control+/")
    expect(page.locator("[data-kind=keys]")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Control+Shift+F")
    expect(page.locator("#find")).to_be_focused()
    page.keyboard.press("Control+k")
    expect(page.locator("#ask")).to_be_focused()
    ask(page, "not to be lost")
    page.fill("#ask", "a draft")
    page.hover("#listing .conv")
    page.click("#listing [data-act=trash]")
    expect(page.locator("#note [data-act=restore]")).to_be_visible()
    expect(page.locator("#listing .conv")).to_have_count(0)
    page.keyboard.press("Control+z")
    expect(page.locator("#listing .name")).to_have_text("not to be lost")
