"""Tags, copies, exports, imports, branches and alternatives, as a person does them."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from storage.records import OWNER_ID
from tests.app.chat_exports import HOSTILE, chatgpt
from tests.browser.conftest import ask, settle
from tests.browser.site import Site

pytestmark = pytest.mark.browser


def keep(page: Page) -> None:
    page.click("#head [data-panel=keep]")
    expect(page.locator("[data-kind=keep]")).to_be_visible()


def more(page: Page, turn: str) -> None:
    page.hover(turn)
    if "reply" in turn:
        page.click(f"{turn} [popovertarget]")
        page.click("#turn-menu [data-panel=branches]")
    else:
        page.click(f"{turn} [data-panel=branches]")
    expect(page.locator("[data-kind=branches]")).to_be_visible()


def test_export_tag_copy_and_archive(page: Page, site: Site, tmp_path: Path) -> None:
    ask(page, HOSTILE)
    keep(page)
    page.fill("#keep-tags", f"work, {HOSTILE[:11]}")
    page.click("#keep-tag")
    expect(page.locator("#panel-said")).to_contain_text("saved")
    store = site.services.store
    assert store.conversations(OWNER_ID)[0].tags == ("work", HOSTILE[:11])
    for kind in ("json", "markdown", "html"):
        with page.expect_download() as saved:
            page.click(f"#keep-{kind}")
        text = Path(saved.value.path()).read_text(encoding="utf-8")
        if kind == "html":
            assert "<img" not in text and "&lt;img" in text
        elif kind == "markdown":
            assert HOSTILE in text
        else:
            assert json.loads(text)["conversations"][0]["messages"][0]["content"] == HOSTILE
    page.click("#keep-archive")
    expect(page.locator("#keep-archive")).to_have_text("Back to the list")
    assert store.conversations(OWNER_ID) == []
    page.click("#keep-archive")
    page.click("#keep-copy")
    expect(page.locator("#head h1")).to_contain_text("(copy)")
    assert len(store.conversations(OWNER_ID)) == 2


def test_an_import_is_reported_conversation_by_conversation(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "conversations.json"
    long = {**chatgpt(), "title": HOSTILE, "filler": "x" * 400_000}  # takes more than one part
    file.write_text(json.dumps([chatgpt(), long, {"title": "odd"}]), encoding="utf-8")
    keep(page)
    page.set_input_files("#import-file", file)
    expect(page.locator("#panel-said")).to_have_text("2 of 3 conversations are imported.")
    expect(page.locator("#import-report li[data-state=ok]")).to_have_count(2)
    expect(page.locator("#import-report li[data-state=error]")).to_contain_text("odd")
    page.click("#panel-close")
    page.click("#listing .conv a >> text=Llamas")
    expect(page.locator("#window .bubble")).to_have_text(HOSTILE)
    expect(page.locator("#window .reply .shield")).to_contain_text("not checked")


def test_alternatives_stand_side_by_side_and_one_is_chosen(page: Page, site: Site) -> None:
    ask(page, "three of them")
    more(page, "#window .reply")
    page.fill("#branches-beginning", "So, ")
    page.select_option("#branches-count", "3")
    page.click("#branches-go")
    expect(page.locator(".beside[aria-busy=false] section")).to_have_count(4)
    expect(page.locator(".beside section").nth(1)).to_contain_text("So, ")
    page.click(".beside section:nth-child(2) .btn")
    expect(page.locator("#window .versions")).to_contain_text("2 / 4")


def test_an_answer_is_reworded_forked_removed_and_brought_back(page: Page, site: Site) -> None:
    ask(page, "tell me")
    more(page, "#window .reply")
    page.fill("#branches-text", f"My own words {HOSTILE}")
    page.click("#branches-save")
    expect(page.locator("#window .reply .md")).to_contain_text("My own words")
    expect(page.locator("#window .versions")).to_contain_text("2 / 2")
    more(page, "#window .reply")
    page.click("#branches-remove")
    expect(page.locator("#branches-undo")).to_be_visible()
    page.click("#branches-undo")
    expect(page.locator("#window .versions")).to_contain_text("2 / 2")
    more(page, "#window .reply")
    page.click("#branches-fork")
    expect(page.locator("#head h1")).to_contain_text("(fork)")
    expect(page.locator("#window .reply .md")).to_contain_text("My own words")
    settle(page)
    assert len(site.services.store.conversations(OWNER_ID)) == 2
