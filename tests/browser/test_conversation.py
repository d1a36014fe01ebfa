"""The main job of the page: ask, read, come back, find, change one's mind."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, Route, expect

from storage.records import VerdictRecord
from tests.browser.conftest import ask, settle
from tests.browser.site import Site

pytestmark = pytest.mark.browser


def key_of(page: Page) -> str:
    match = re.search(r"[?&]c=([^&]+)", page.url)
    assert match, page.url
    return match[1]


def replies(page: Page) -> list[str]:
    return [text.strip() for text in page.locator("#window .reply .md").all_inner_texts()]


def prompts(page: Page) -> list[str]:
    return page.locator("#window .prompt .bubble").all_inner_texts()


def long_conversation(site: Site) -> str:
    """Thirty turns; their key."""
    store = site.services.store
    key = store.create_conversation(1, title="long").key
    parent = None
    for n in range(30):
        turn = store.begin_turn(1, key, parent_id=parent, text=f"p{n}", client_key=f"k{n}")
        store.append(turn.reply.id, f"r{n}")
        verdict = VerdictRecord("final", "words", "1", "allow", 0.0)
        store.finish_reply(turn.reply.id, status="done", generation=None, verdicts=[verdict])
        parent = turn.reply.id
    return key


def test_five_turns_are_answered_kept_and_found_after_a_reload(page: Page, site: Site) -> None:
    said = [f"Question number {n}" for n in range(1, 6)]
    for text in said:
        ask(page, text)
        expect(page).to_have_title("Question number 1 · Corral")
    assert prompts(page) == said
    assert replies(page) == [f"You said: {text}" for text in said]
    expect(page.locator("#listing .conv")).to_have_count(1)
    expect(page.locator("#listing .conv [aria-current] .name")).to_have_text("Question number 1")
    expect(page.locator("#window .reply .shield.ok")).to_have_count(5)
    stored = site.services.store.path(1, key_of(page))
    assert [message.content for message in stored[::2]] == said
    assert {message.status for message in stored} == {"done"}

    page.reload()
    expect(page.locator("#window .turn")).to_have_count(10)
    assert prompts(page) == said


def test_a_reload_in_the_middle_shows_the_answer_growing(page: Page, site: Site) -> None:
    site.engine.say = {"long": " ".join(f"w{n}" for n in range(120))}
    site.engine.pause_after = 60
    ask(page, "a long one", wait=False)
    expect(page.locator("#live .md")).to_contain_text("w20")
    page.reload()
    expect(page.locator("#live .md")).to_contain_text("w0 w1 w2")
    expect(page.locator("#live .md")).to_contain_text("w20")
    site.engine.go.set()
    settle(page)
    assert replies(page) == [site.engine.say["long"]]


def test_a_second_tab_shows_the_same_answer_growing(page: Page, site: Site) -> None:
    site.engine.say = {"long": " ".join(f"w{n}" for n in range(120))}
    site.engine.pause_after = 60
    ask(page, "a long one", wait=False)
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.locator("#live .md")).to_contain_text("w20")
    expect(page.locator("#live .md")).to_contain_text("w20")
    site.engine.go.set()
    for tab in (page, other):
        settle(tab)
        assert replies(tab) == [site.engine.say["long"]]
    ask(page, "and what one tab asks")
    expect(other.locator("#window .bubble").last).to_have_text("and what one tab asks")
    settle(other)


def test_leaving_a_conversation_ends_its_painting_not_its_answer(page: Page, site: Site) -> None:
    site.engine.say = {"long": " ".join(f"w{n}" for n in range(60))}
    site.engine.pause_after = 30
    ask(page, "a long one", wait=False)
    key = key_of(page)
    expect(page.locator("#live .md")).to_contain_text("w5")
    page.click("[data-act=new]")
    expect(page.locator("#window .empty")).to_be_visible()
    expect(page.locator("#live .md")).to_have_count(0)
    site.engine.go.set()
    page.click(f"#listing [data-act=open][data-key='{key}']")
    settle(page)
    assert replies(page) == [site.engine.say["long"]]


def test_the_browsers_back_and_forward_lead_through_what_was_open(page: Page, site: Site) -> None:
    ask(page, "first")
    page.click("[data-act=new]")
    expect(page.locator("#window .empty")).to_be_visible()
    ask(page, "second")
    page.click("#listing .conv a:not([aria-current])")
    bubble = page.locator("#window .bubble")
    expect(bubble).to_have_text("first")
    page.fill("#ask", "a draft for the first")
    page.go_back()
    expect(bubble).to_have_text("second")
    expect(page).to_have_title("second · Corral")
    expect(page.locator("#ask")).to_have_value("")
    page.go_back()
    expect(bubble).to_have_text("first")
    page.go_forward()
    expect(bubble).to_have_text("second")
    page.go_forward()
    expect(bubble).to_have_text("first")
    expect(page.locator("#ask")).to_have_value("a draft for the first")
    site.services.purge(1, key_of(page))
    page.go_back()
    expect(bubble).to_have_text("second")
    page.go_forward()  # to what is no more: the first screen, and why
    expect(page.locator("#window .empty")).to_be_visible()
    expect(page.locator("#note .toast.error")).to_contain_text("is not here. It was removed")
    assert "c=" not in page.url


def test_nothing_moves_while_nothing_is_told(page: Page, site: Site) -> None:
    """The browser shares the machine with the engine, and a laptop its battery."""
    site.engine.say = {"long": " ".join(f"w{n}" for n in range(60))}
    site.engine.pause_after = 30
    page.add_init_script(
        "window.frames_asked = 0; const native = window.requestAnimationFrame.bind(window);"
        "window.requestAnimationFrame = (f) => { window.frames_asked += 1; return native(f); };"
    )
    page.reload()
    page.wait_for_selector("#window .empty")
    page.wait_for_function(  # once the page has come to rest, fewer than the 60 of a loop
        """async () => {
          const before = window.frames_asked;
          await new Promise((done) => setTimeout(done, 1000));
          return window.frames_asked - before < 10;
        }"""
    )
    ask(page, "a long one", wait=False)
    expect(page.locator("#live .md")).to_contain_text("w5")
    endless = (
        "() => document.getAnimations().filter((a) => a.effect.getTiming().iterations > 9).length"
    )
    assert page.evaluate(endless) == 0
    site.engine.go.set()
    settle(page)


def test_an_answer_goes_on_growing_when_more_of_its_conversation_is_shown(
    page: Page, site: Site
) -> None:
    page.goto(f"{site.url}?c={long_conversation(site)}")
    expect(page.locator("#window .turn")).to_have_count(40)
    site.engine.say = {"long": " ".join(f"w{n}" for n in range(100))}
    site.engine.pause_after = 60
    page.fill("#ask", "a long one")
    page.press("#ask", "Enter")
    expect(page.locator("#live .md")).to_contain_text("w20")
    page.click("[data-act=earlier]")
    expect(page.locator("#window .turn")).to_have_count(61)
    site.engine.pause_after = 90
    expect(page.locator("#live .md")).to_contain_text("w70")
    site.engine.go.set()
    settle(page)


def test_stop_keeps_what_was_shown_and_continue_goes_on(page: Page, site: Site) -> None:
    site.engine.say = {"long": " ".join(f"w{n}" for n in range(100))}
    site.engine.pause_after = 60
    ask(page, "a long one", wait=False)
    expect(page.locator("#live .md")).to_contain_text("w10")
    page.click("#stop")
    settle(page)
    partial = replies(page)[0]
    assert site.engine.say["long"].startswith(partial)
    assert partial != site.engine.say["long"]
    expect(page.locator("#window .ending")).to_be_visible()
    site.engine.pause_after = 1_000_000
    page.click("#window [data-act=continue]")
    page.wait_for_selector("#window .ending", state="detached")
    settle(page)
    assert replies(page) == [site.engine.say["long"]]


def test_editing_makes_a_branch_and_the_arrows_lead_back(page: Page) -> None:
    ask(page, "first question")
    ask(page, "second question")
    page.hover("#window .prompt >> nth=0")
    page.click("#window .prompt >> nth=0 >> [data-act=edit]")
    page.fill("form.edit textarea", "first question, changed")
    page.click("[data-act=resend]")
    expect(page.locator("#window .versions").first).to_contain_text("2 / 2")
    settle(page)
    assert prompts(page) == ["first question, changed"]
    page.click("#window [data-act=version] >> nth=0")
    expect(page.locator("#window .versions").first).to_contain_text("1 / 2")
    expect(page.locator("#window .turn")).to_have_count(4)
    assert prompts(page) == ["first question", "second question"]
    page.reload()
    expect(page.locator("#window .turn")).to_have_count(4)
    assert prompts(page) == ["first question", "second question"]


def test_again_gives_another_version(page: Page) -> None:
    ask(page, "once more")
    page.click("#window [data-act=again]")
    expect(page.locator("#window .reply .versions")).to_contain_text("2 / 2")


def test_rename_pin_trash_and_undo(page: Page, site: Site) -> None:
    ask(page, "keep me")
    page.hover("#listing .conv")
    page.click("#listing [data-act=rename]")
    page.fill("#listing input.rename", "A better name")
    page.press("#listing input.rename", "Enter")
    expect(page.locator("#listing .name")).to_have_text("A better name")
    expect(page.locator("#head h1")).to_have_text("A better name")
    page.hover("#listing .conv")
    page.click("#listing [data-act=pin]")
    expect(page.locator("#listing .pinned")).to_have_count(1)
    page.hover("#listing .conv")
    page.click("#listing [data-act=trash]")
    expect(page.locator("#listing .conv")).to_have_count(0)
    expect(page.locator("#window .empty")).to_be_visible()
    page.click("#note [data-act=restore]")
    expect(page.locator("#listing .name")).to_have_text("A better name")
    assert site.services.store.conversations(1)[0].title == "A better name"


def test_the_trash_can_be_opened_and_restored_from(page: Page) -> None:
    ask(page, "to be thrown away")
    page.hover("#listing .conv")
    page.click("#listing [data-act=trash]")
    page.click("[data-act=shelf][data-mode=trash]")
    page.click("#listing [data-act=restore]")
    expect(page.locator("#listing .conv")).to_have_count(0)
    page.click("[data-act=shelf-close]")
    expect(page.locator("#listing .name")).to_have_text("to be thrown away")


def test_search_finds_marks_and_jumps(page: Page) -> None:
    ask(page, "Tell me about zebras")
    for n in range(3):
        ask(page, f"something else {n}")
    page.click("[data-act=new]")
    expect(page.locator("#window .empty")).to_be_visible()
    ask(page, "another conversation")
    page.fill("#find", "zebra")
    hit = page.locator("#listing .hit", has=page.locator(".snippet")).first
    expect(hit.locator("mark").first).to_contain_text("zebra")
    hit.click()
    expect(page.locator("#window .found")).to_have_count(1)
    assert prompts(page)[0] == "Tell me about zebras"
    page.fill("#find", "nothing like this")
    expect(page.locator("#listing .quiet")).to_contain_text("nothing like this")
    page.fill("#find", "")
    expect(page.locator("#listing .conv")).to_have_count(2)


def test_a_blocked_prompt_gets_a_card_and_never_reaches_the_model(page: Page, site: Site) -> None:
    ask(page, "something forbidden")
    card = page.locator("#window .notice.stop")
    expect(card).to_be_visible()
    expect(card.locator(".meter")).to_be_visible()
    assert site.engine.prompts == []
    page.click("#window .shield")
    expect(page.locator("#window .panel").first).to_contain_text("0.99")
    card.locator("[data-act=edit-prompt]").click()
    page.fill("form.edit textarea", "something allowed")
    page.click("[data-act=resend]")
    expect(page.locator("#window .versions")).to_contain_text("2 / 2")
    settle(page)
    assert replies(page) == ["You said: something allowed"]


def test_an_answer_that_turns_bad_is_cut(page: Page, site: Site) -> None:
    site.engine.say = {"go": "This begins well. " * 10 + "and then forbidden things. " * 5}
    ask(page, "go")
    expect(page.locator("#window .notice.stop")).to_be_visible()
    assert "forbidden" not in page.locator("#window").inner_text().lower()


def test_an_error_says_what_to_do(page: Page, site: Site) -> None:
    site.engine.fails_after = 0
    ask(page, "hello")
    card = page.locator("#window .notice.error")
    expect(card).to_be_visible()
    site.engine.fails_after = None
    card.locator("[data-act=again]").click()
    expect(page.locator("#window .reply .md")).to_have_text("You said: hello")


def test_earlier_messages_come_on_demand(page: Page, site: Site) -> None:
    page.goto(f"{site.url}?c={long_conversation(site)}")
    expect(page.locator("#window .turn")).to_have_count(40)
    assert (
        page.locator("#scroll").evaluate("e => e.scrollHeight - e.scrollTop - e.clientHeight") < 2
    )
    page.click("[data-act=earlier]")
    expect(page.locator("#window .turn")).to_have_count(60)
    expect(page.locator("[data-act=earlier]")).to_have_count(0)
    assert page.locator("#scroll").evaluate("e => e.scrollTop") > 1000  # what was read stays put


def test_a_prompt_waits_visibly_for_the_parts(browser_page_unready: tuple[Page, Site]) -> None:
    page, site = browser_page_unready
    ask(page, "are you there", wait=False)
    expect(page.locator("#live .doing")).to_contain_text("Waiting for the safety check")
    expect(page.locator(".footing[data-state=loading]")).to_be_visible()
    assert site.engine.prompts == []
    site.services.load()
    settle(page)
    assert replies(page) == ["You said: are you there"]
    expect(page.locator(".footing[data-state=ready]")).to_be_visible()


def test_a_prompt_whose_event_is_lost_is_sent_again(page: Page, site: Site) -> None:
    lost: list[str] = []

    def lose(route: Route) -> None:
        if not lost and "lost words" in (route.request.post_data or ""):
            lost.append(route.request.url)
            route.fulfill(json={"event_id": "lost"})
        else:
            route.continue_()

    page.route("**/queue/join*", lose)
    ask(page, "lost words")
    assert lost
    expect(page.locator("#window .prompt")).to_have_count(1)
    expect(page.locator("#window .reply")).to_contain_text("You said: lost words")
