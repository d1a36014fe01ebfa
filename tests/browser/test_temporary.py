"""Temporary conversations as a person sees them: marked, complete, gone with the tab."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import ask
from tests.browser.site import Site
from tests.storage.make import CANARY, holds

pytestmark = [pytest.mark.browser, pytest.mark.own_site]


def test_it_is_marked_used_left_and_found_again_and_gone_with_the_tab(
    page: Page, site: Site
) -> None:
    store = site.services.store
    page.click("#head [data-act=temporary]")
    expect(page.locator("#window .empty h2")).to_have_text("Nothing of this will be kept.")
    ask(page, f"{CANARY} one")
    mark = page.locator("#head .temp")
    expect(mark).to_have_text("Temporary: not kept")
    assert "c=" not in page.url
    (key,) = store.temporary.of_user(1)
    row = page.locator("#listing .aside")
    expect(row).to_contain_text(CANARY)
    page.click("#window [data-act=again]")
    expect(page.locator("#window .versions")).to_contain_text("2 / 2")
    page.fill("#ask", f"{CANARY} draft")

    page.click("[data-act=new]")
    expect(page.locator("#window .empty")).to_be_visible()
    ask(page, "this one stays")
    row.locator("a").click()
    expect(page.locator("#window .bubble")).to_have_text(f"{CANARY} one")
    page.click("#head [data-panel=safety]")
    expect(page.locator("#dialog[open]")).to_be_visible()
    page.click("#panel-close")
    expect(mark).to_have_text("Temporary: not kept")
    page.click("#window .shield >> nth=0")
    expect(page.locator("#window .panel").first).to_contain_text("words")  # the guard's name
    ask(page, "and something forbidden")
    expect(page.locator("#window .notice.stop")).to_be_visible()
    assert [one.title for one in store.conversations(1)] == ["this one stays"]

    page.reload()
    page.wait_for_selector("#window .empty")
    expect(row).to_have_count(0)
    expect(page.locator("#listing .conv")).to_have_count(1)
    assert not store.temporary.holds(1, key)
    assert "canary" not in page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
    assert holds(site.services.settings.data, "this one stays")
    assert holds(site.services.settings.data, CANARY) == []


def test_it_can_be_kept_after_all(page: Page, site: Site) -> None:
    page.click("#head [data-act=temporary]")
    ask(page, "worth keeping")
    page.click("#head .temp")
    page.click("#keep-keep")
    expect(page.locator("#listing .conv:not(.aside) .name")).to_have_text("worth keeping")
    expect(page.locator("#listing .aside")).to_have_count(0)
    expect(page.locator("#head .temp")).to_have_count(0)
    assert "c=" in page.url
    assert site.services.store.temporary.of_user(1) == []
