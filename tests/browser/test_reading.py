"""Reading an answer: what was thought is folded away, and the line under it is calm."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import ask, settle
from tests.browser.site import Site

pytestmark = pytest.mark.browser


def test_thinking_is_folded_judged_and_not_copied(page: Page, site: Site) -> None:
    thought = "First I weigh **this** " * 30
    site.engine.say = {"why": f"<think>\n{thought}\n</think>\n\nBecause of that."}
    site.engine.pause_after = 60
    ask(page, "why", wait=False)
    live = page.locator("#live .thinking")
    expect(live.locator("summary")).to_contain_text("Thinking…")
    expect(page.locator("#live .turn > .md")).to_be_empty()
    live.locator("summary").click()  # it can be read while it grows
    expect(live.locator("strong").first).to_be_visible()
    site.engine.go.set()
    settle(page)
    folded = page.locator("#window .thinking")
    expect(folded).not_to_have_attribute("open", "")
    expect(folded.locator("summary")).to_contain_text(f"{len(thought.strip())} characters")
    expect(page.locator("#window .reply > .md")).to_have_text("Because of that.")
    expect(page.locator("#said")).to_have_text("Because of that.")
    page.click("#window .reply [data-act=copy]")
    assert page.evaluate("navigator.clipboard.readText()") == "Because of that."
    judged = [reply for _, reply in site.guard.judged if reply]
    assert any("First I weigh" in reply and "Because of that." in reply for reply in judged)


def test_the_menu_of_an_answer_by_mouse_and_by_keyboard(page: Page) -> None:
    ask(page, "first")
    ask(page, "second")
    menu = page.locator("#turn-menu")
    page.locator("#window .reply [popovertarget]").first.focus()
    page.keyboard.press("Enter")
    expect(menu).to_be_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")  # the last one
    expect(page.locator("#dialog [data-kind=branches]")).to_be_visible()
    expect(page.locator("#branches-text")).to_have_value("You said: first")
    page.keyboard.press("Escape")
    expect(page.locator("#window .reply [popovertarget]").first).to_be_focused()
    page.set_viewport_size({"width": 390, "height": 780})
    page.locator("#window .reply [popovertarget]").last.click()
    expect(menu).to_be_visible()
    box = menu.bounding_box()
    assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 390
    page.keyboard.press("Escape")
    expect(menu).to_be_hidden()


def test_find_counts_and_steps_through_all_of_a_long_conversation(page: Page, site: Site) -> None:
    texts = {3: "A needle here, and a **need**le there.", 90: "```\nneedle = 1 # ${print(1)}\n```"}
    messages = [
        {
            "id": n,
            "parent": n - 1 or None,
            "role": "user" if n % 2 else "assistant",
            "status": "done",
            "content": texts.get(n, f"Message {n}."),
        }
        for n in range(1, 101)
    ]
    messages[3]["content"] = texts[3]  # an answer: its marks are not seen
    key = site.services.store.add_document(1, {"title": "long", "messages": messages}).key
    page.goto(f"{site.url}?c={key}")
    expect(page.locator("#window .turn")).to_have_count(40)
    page.keyboard.press("Control+f")
    page.keyboard.type("NEEDLE")
    count = page.locator("#seek-count")
    expect(count).to_have_text("1 of 4")  # of the prompt's two only the unbroken one
    expect(page.locator("#window .bubble", has_text="A needle here")).to_be_in_viewport()
    for told in ("2 of 4", "3 of 4", "4 of 4"):
        page.keyboard.press("Enter")
        expect(count).to_have_text(told)
    marked = "[...CSS.highlights.get('hit-now')].map((range) => [range.toString(), "
    marked += "range.startContainer.parentElement.closest('pre') !== null])"
    assert page.evaluate(marked) == [["needle", True]]
    assert page.evaluate("CSS.highlights.get('hit').size") == 4
    page.keyboard.press("Shift+Enter")
    assert page.evaluate(marked) == [["needle", False]]
    page.keyboard.press("Escape")
    expect(page.locator("#seek")).to_be_hidden()
    assert page.evaluate("CSS.highlights.size") == 0
    page.keyboard.press("Control+f")
    page.fill("#seek-text", "no such words")
    expect(count).to_have_text("Nothing found")
