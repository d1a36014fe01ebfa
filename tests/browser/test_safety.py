"""What a person sees of the guards, and what they may do about it, on a real page."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import ask
from tests.browser.site import Site

pytestmark = [pytest.mark.browser, pytest.mark.own_site]

CODE = "Use this:\n\n```python\nimport os\nos.system('rm ' + name)\n```\n\nDone."
PLACE = os.environ.get("CORRAL_TEST_PICTURES", "")


def picture(page: Page, name: str) -> None:
    """Keep a picture where somebody asked for it, to be looked at."""
    if PLACE:
        page.screenshot(path=f"{PLACE}/{name}.png")


def test_what_was_stopped_can_be_called_wrong_and_shown_anyway(page: Page, site: Site) -> None:
    ask(page, "a forbidden thing")
    notice = page.locator("#window .notice.stop")
    expect(notice).to_contain_text("This prompt was not answered")
    picture(page, "blocked")
    notice.get_by_role("button", name="This is wrong").click()
    expect(page.locator("#note")).to_contain_text("Noted.")
    assert [e.outcome for e in site.services.store.safety_events(limit=1)] == ["appealed"]
    page.get_by_role("button", name="Show anyway").click()
    expect(page.locator("#window .reply .md")).to_contain_text("You said: a forbidden thing")
    expect(page.locator("#window .notice.warn")).to_be_visible()
    page.locator("#window .reply .shield").click()
    expect(page.locator("#window .reply .panel")).to_contain_text("Judged by words")
    picture(page, "anyway")
    page.locator("#head [data-panel=safety]").click()
    page.click("#appeals")
    expect(page.locator("#dialog")).to_contain_text("would have avoided 1 of 1")
    for section in ("guards", "judgements", "own-categories"):
        page.click(f"#{section}")
    expect(page.locator("#dialog .log")).to_contain_text("called wrong")
    with page.expect_download() as given:
        page.click("#log-export")
    assert given.value.suggested_filename == "safety-log.jsonl"
    picture(page, "safety")
    page.locator("#judgements").scroll_into_view_if_needed()
    picture(page, "log")


def test_weaknesses_stand_under_their_code(page: Page, site: Site) -> None:
    site.engine.say["code"] = CODE
    ask(page, "code please")
    note = page.locator("#window .code-note.flagged")
    expect(note).to_contain_text("Line 2")
    expect(note).to_contain_text("CWE-78")
    expect(page.locator("#window .notice")).to_have_count(0)
    picture(page, "code")


def test_the_guard_is_measured_on_the_page_and_answers_can_come_whole(
    page: Page, site: Site, tmp_path: Path
) -> None:
    rows = [("a forbidden thing", True), ("a bad thing", True), ("hello", False)]
    lines = [json.dumps({"text": text, "unsafe": unsafe, "kind": "k"}) for text, unsafe in rows]
    (tmp_path / "set.jsonl").write_text("\n".join(lines), encoding="utf-8")
    page.locator("#head [data-panel=safety]").click()
    page.click("#self-test")
    page.fill("#test-place", str(tmp_path / "set.jsonl"))
    page.select_option("#test-policy", "strict")
    page.click("#run-self-test")
    state = page.locator("#self-test-state")
    expect(state.locator("polyline")).to_have_count(4)
    expect(state).to_contain_text("50.0 %")
    state.scroll_into_view_if_needed()
    picture(page, "self-test")
    with page.expect_download() as given:
        page.click("#test-html")
    assert given.value.suggested_filename == "guard-report.html"
    page.click("#release")
    page.select_option("#gate-mode", "whole")
    page.click("#gate-save")
    expect(page.locator("#panel-said")).to_contain_text("It holds from the next message on")
    assert site.services.guarding.gate_mode == "whole"
    page.locator("#release").scroll_into_view_if_needed()
    picture(page, "release")
