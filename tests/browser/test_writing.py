"""Reading and writing: scrolling, drafts, composed characters, big texts, copying, keys."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Held, ask, settle
from tests.browser.site import Site

pytestmark = pytest.mark.browser

CODE = "def f(x):\n\treturn `x`  \n\n\n    # ${print(1)} <b>\n"


def test_enter_sends_and_shift_enter_breaks_the_line(page: Page) -> None:
    page.focus("#ask")
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    expect(page.locator("#window .bubble")).to_have_count(0)
    page.keyboard.press("Enter")
    settle(page)
    assert page.locator("#window .bubble").inner_text() == "one\ntwo"
    expect(page.locator("#ask")).to_have_value("")


def test_enter_that_ends_a_composition_does_not_send(page: Page) -> None:
    page.focus("#ask")
    session = page.context.new_cdp_session(page)
    session.send(
        "Input.imeSetComposition", {"text": "nihao", "selectionStart": 5, "selectionEnd": 5}
    )
    page.evaluate(
        """() => {
          const ask = document.getElementById('ask');
          const key = { key: 'Enter', bubbles: true, cancelable: true };
          ask.dispatchEvent(new KeyboardEvent('keydown', { ...key, isComposing: true }));
          ask.dispatchEvent(new KeyboardEvent('keydown', { ...key, keyCode: 229 }));
        }"""
    )
    session.send("Input.insertText", {"text": "你好"})
    page.wait_for_timeout(200)
    expect(page.locator("#window .bubble")).to_have_count(0)
    expect(page.locator("#ask")).to_have_value("你好")
    page.keyboard.press("Enter")
    settle(page)
    assert page.locator("#window .bubble").inner_text() == "你好"


def test_what_is_written_on_the_way_to_another_conversation_belongs_there(page: Page) -> None:
    """Nothing waits for the server: a click and a prompt in the same moment, then one more."""
    ask(page, "of the first")
    first = page.url
    page.fill("#ask", "a draft for the first")
    page.evaluate(
        """() => {
          document.querySelector('[data-act=new]').click();
          document.getElementById('ask').value = 'of the second';
          document.getElementById('send').click();
        }"""
    )
    expect(page.locator("#window .prompt .bubble")).to_have_text("of the second")
    settle(page)
    assert page.url != first
    page.evaluate(
        """() => {
          document.querySelector('#listing .conv a:not([aria-current])').click();
          const ask = document.getElementById('ask');
          ask.value += 'typed early';
        }"""
    )
    expect(page.locator("#window .prompt .bubble")).to_have_text("of the first")
    expect(page.locator("#ask")).to_have_value("typed early")


def test_what_is_written_where_one_goes_outlasts_what_was_sent_before(page: Page) -> None:
    """A prompt is taken while the page is on its way elsewhere, over a slow network."""
    ask(page, "of the first")
    first = page.locator("#listing .conv").get_attribute("data-key")
    page.click("[data-act=new]")
    expect(page.locator("#window .empty")).to_be_visible()
    ask(page, "of the second")
    page.fill("#ask", "one more of the second")
    page.press("#ask", "Enter")
    opening = Held(page, f'"key":"{first}"')
    page.click(f"#listing a[data-key='{first}']")
    opening.wait()
    expect(page.locator("body.sending")).to_have_count(0)  # it was taken
    page.fill("#ask", "typed early")
    opening.release()
    expect(page.locator("#window .bubble")).to_have_text(["of the first"])
    expect(page.locator("#ask")).to_have_value("typed early")


def test_where_nothing_answers_it_is_said_and_the_box_is_as_it_was(page: Page) -> None:
    ask(page, "one")
    page.click("[data-act=new]")
    expect(page.locator("#window .empty")).to_be_visible()
    page.fill("#ask", "a thought")
    page.clock.install()
    page.route("**/queue/join*", lambda route: route.fulfill(json={"event_id": "lost"}))
    page.click("#listing .conv a")
    expect(page.locator("#ask")).to_have_value("")
    page.clock.run_for(21_000)
    expect(page.locator("#note .toast.error")).to_contain_text("does not answer")
    expect(page.locator("#ask")).to_have_value("a thought")
    expect(page.locator("#listing [aria-current]")).to_have_count(0)


def test_drafts_stay_with_their_conversation(page: Page) -> None:
    ask(page, "first")
    page.fill("#ask", "a draft for the first")
    page.click("[data-act=new]")
    expect(page.locator("#window .empty")).to_be_visible()
    expect(page.locator("#ask")).to_have_value("")
    page.fill("#ask", "a draft for a new one")
    page.click("#listing .conv a")
    expect(page.locator("#ask")).to_have_value("a draft for the first")
    page.reload()
    expect(page.locator("#window .turn")).to_have_count(2)
    expect(page.locator("#ask")).to_have_value("a draft for the first")
    page.click("[data-act=new]")
    expect(page.locator("#ask")).to_have_value("a draft for a new one")
    other = page.context.browser.new_page()  # type: ignore[union-attr]
    other.goto(page.url)
    expect(other.locator("#ask")).to_have_value("a draft for a new one")
    other.locator("#listing .conv a").click()
    expect(other.locator("#ask")).to_have_value("a draft for the first")
    other.press("#ask", "Enter")
    settle(other)
    other.reload()
    expect(other.locator("#window .turn")).to_have_count(4)
    expect(other.locator("#ask")).to_have_value("")
    other.close()


def test_what_stands_in_an_edit_is_there_when_one_comes_back(page: Page) -> None:
    ask(page, "as it was")
    page.click("#window .prompt [data-act=edit]")
    page.fill("form.edit textarea", "as it may become")
    page.click("[data-act=new]")
    expect(page.locator("#window .empty")).to_be_visible()
    page.click("#listing .conv a")
    page.click("#window .prompt [data-act=edit]")
    expect(page.locator("form.edit textarea")).to_have_value("as it may become")
    page.click("form.edit [data-act=cancel-edit]")
    page.click("#window .prompt [data-act=edit]")
    expect(page.locator("form.edit textarea")).to_have_value("as it was")


def test_the_view_stays_while_somebody_reads_above(page: Page, site: Site) -> None:
    site.engine.say = {"long": "\n\n".join(f"Paragraph {n} of this." for n in range(80))}
    site.engine.pause_after = 140
    ask(page, "a long one", wait=False)
    expect(page.locator("#live .md")).to_contain_text("Paragraph 30")
    # At once with its event, as a wheel does it: no update comes in between.
    scroll = "e => { e.scrollTop = 100; e.dispatchEvent(new Event('scroll')); }"
    page.locator("#scroll").evaluate(scroll)
    expect(page.locator(".jump")).to_be_visible()
    site.engine.go.set()
    settle(page)
    assert page.locator("#scroll").evaluate("e => e.scrollTop") == 100
    page.click(".jump")
    expect(page.locator(".jump")).to_be_hidden()
    gap = page.locator("#scroll").evaluate("e => e.scrollHeight - e.scrollTop - e.clientHeight")
    assert gap < 2


def test_the_end_stays_in_view_for_whoever_reads_there(page: Page, site: Site) -> None:
    site.engine.say = {"long": "\n\n".join(f"Paragraph {n} of this." for n in range(60))}
    ask(page, "a long one")
    gap = page.locator("#scroll").evaluate("e => e.scrollHeight - e.scrollTop - e.clientHeight")
    assert gap < 2


def paste(page: Page, text: str) -> None:
    page.evaluate(
        """(text) => {
          const ask = document.getElementById('ask');
          ask.value = text;
          ask.dispatchEvent(new Event('input', { bubbles: true }));
        }""",
        text,
    )


def test_a_huge_text_is_refused_and_kept(page: Page) -> None:
    text = "word " * 250_000
    paste(page, text)
    page.press("#ask", "Enter")
    expect(page.locator("#note .toast.error")).to_be_visible()
    assert page.evaluate("document.getElementById('ask').value") == text


def test_a_big_text_is_sent_whole_and_folded(page: Page, site: Site) -> None:
    text = "line of some length\n" * 10_000
    site.engine.say = {"line": "Got it."}
    site.engine.context_length = 10_000_000
    paste(page, text)
    page.press("#ask", "Enter")
    settle(page)
    bubble = page.locator("#window .bubble")
    assert bubble.bounding_box()["height"] < 500  # type: ignore[index]
    assert bubble.text_content() == text
    page.click("[data-act=unfold]")
    assert bubble.bounding_box()["height"] > 10_000  # type: ignore[index]


def test_copying_is_byte_exact(page: Page, site: Site) -> None:
    reply = f"Here:\n\n```python\n{CODE}```\n\n*done* `x`"
    site.engine.say = {"code": reply}
    ask(page, "some code")
    page.click("[data-act=copy-code]")
    assert page.evaluate("navigator.clipboard.readText()") == CODE
    page.click("#window .reply .bar [data-act=copy]")
    assert page.evaluate("navigator.clipboard.readText()") == reply
    expect(page.locator("#window .reply .bar .done")).to_have_attribute("aria-label", "Copied")
    page.click("[data-act=wrap]")
    expect(page.locator("#window figure.wrapped")).to_have_count(1)


@pytest.mark.own_site
def test_a_sending_that_is_refused_keeps_the_text(page: Page, site: Site) -> None:
    site.services.jobs.close()
    page.fill("#ask", "do not lose me")
    page.press("#ask", "Enter")
    expect(page.locator("#note .toast.error")).to_be_visible()
    expect(page.locator("#ask")).to_have_value("do not lose me")
    expect(page.locator("body.sending")).to_have_count(0)


def test_dark_and_light_are_kept(page: Page) -> None:
    page.click("#head [data-act=theme]")
    expect(page.locator("html[data-theme=dark]")).to_have_count(1)
    page.reload()
    page.wait_for_selector("#window .empty")
    expect(page.locator("html[data-theme=dark]")).to_have_count(1)
    page.click("#head [data-act=theme]")
    expect(page.locator("html[data-theme=light]")).to_have_count(1)


def test_the_list_is_a_drawer_on_a_phone(page: Page) -> None:
    ask(page, "hello")
    page.set_viewport_size({"width": 390, "height": 780})
    expect(page.locator("#side")).not_to_be_visible()
    page.click("#head [data-act=drawer]")
    expect(page.locator("#side [data-act=drawer]")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#side")).not_to_be_visible()
    expect(page.locator("#head [data-act=drawer]")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#listing .conv")).to_be_visible()
    page.click("#listing .conv a")
    expect(page.locator("#side")).not_to_be_visible()
    wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert not wide


def test_every_control_has_a_name_and_can_be_reached_by_keyboard(page: Page) -> None:
    ask(page, "hello")
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('#app :is(button, a, input, textarea)')]
          .filter((e) => !(e.getAttribute('aria-label') || e.textContent).trim())
          .map((e) => e.outerHTML)"""
    )
    assert nameless == []
    page.focus("#find")
    seen = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.dataset.act || document.activeElement.id"))
    assert {"open", "pin", "rename", "trash", "edit", "copy", "again", "shield", "ask"} <= seen


def test_the_keyboard_goes_on_where_a_control_was_drawn_anew(page: Page) -> None:
    ask(page, "hello")
    page.focus("#listing .conv a")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#listing .pinned")).to_have_count(1)
    expect(page.locator("#listing [data-act=pin]")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.type("Another name")
    page.keyboard.press("Enter")
    expect(page.locator("#listing .conv a")).to_be_focused()
    page.click("#window [data-act=again]")
    versions = page.locator("#window .reply .versions")
    expect(versions).to_contain_text("2 / 2")
    settle(page)
    page.focus("#window [data-act=version]:not(:disabled)")
    page.keyboard.press("Enter")
    expect(versions).to_contain_text("1 / 2")
    expect(page.locator("#window [data-act=version]:focus")).to_have_count(1)


def test_whole_sentences_are_announced_once(page: Page, site: Site) -> None:
    site.engine.say = {"go": "First sentence here. Second sentence there. And the third."}
    ask(page, "go")
    expect(page.locator("#said")).to_contain_text("the third.")
    said = page.locator("#said p").all_text_contents()
    assert " ".join(" ".join(said).split()) == site.engine.say["go"]
