"""Files beside a message: picked, dropped and pasted; removed, kept, sent, edited and taken out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from app.attachments import document
from storage.records import OWNER_ID
from tests.app.chat_exports import HOSTILE
from tests.browser.chips import CHIPS, ORDERS, pick
from tests.browser.conftest import Held, ask, settle
from tests.browser.site import Site

pytestmark = pytest.mark.browser

NOTES = f"# Notes\n\tindented {HOSTILE}\n"


def drop(page: Page, name: str, text: str) -> None:
    page.evaluate(
        """([name, text]) => {
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File([text], name));
          for (const kind of ['dragover', 'drop']) {
            const options = { dataTransfer, bubbles: true, cancelable: true };
            document.getElementById('scroll').dispatchEvent(new DragEvent(kind, options));
          }
        }""",
        [name, text],
    )


def kept_soon(page: Page, site: Site, draft: str, key: str | None = None) -> None:
    for _ in range(1_000):
        if site.services.store.draft(OWNER_ID, key) == draft:
            return
        page.wait_for_timeout(20)
    assert site.services.store.draft(OWNER_ID, key) == draft


def prompts(site: Site) -> list[str]:
    store = site.services.store
    (conversation,) = store.conversations(OWNER_ID)
    return [m.content for m in store.path(OWNER_ID, conversation.key) if m.role == "user"]


def test_a_file_goes_with_the_prompt_and_stays_through_editing_and_export(
    page: Page, site: Site
) -> None:
    told = document("notes.md", NOTES.encode())
    count = len(told.split())  # as the engine of these tests counts
    page.fill("#ask", "What is in it?")
    pick(page, ("notes.md", NOTES))
    chip = page.locator(CHIPS)
    expect(chip.locator("summary")).to_have_text(f"notes.md{count} tokens")
    expect(page.locator("#said")).to_contain_text(f"notes.md is attached: {count} tokens.")
    expect(page.locator("#meter")).to_contain_text(f"{count + 8} of")  # the words, and the file
    assert page.input_value("#ask") == "What is in it?"
    chip.locator("summary").click()
    assert chip.locator("pre").text_content() == told
    page.press("#ask", "Enter")
    settle(page)
    expect(chip).to_have_count(0)
    assert prompts(site) == [f"What is in it?\n\n{told}"]
    sent = page.locator("#window .prompt .file")
    expect(page.locator("#window .bubble")).to_have_text("What is in it?")
    expect(sent.locator("pre")).not_to_be_visible()
    sent.locator("summary").press("Enter")
    assert sent.locator("pre").text_content() == told
    page.hover("#window .prompt")
    page.click("#window .prompt [data-act=copy]")
    assert page.evaluate("navigator.clipboard.readText()") == prompts(site)[0]

    page.click("#window .prompt [data-act=edit]")
    page.fill("form.edit textarea", "What else?")
    page.click("form.edit [data-act=resend]")
    expect(page.locator("#window .prompt .versions")).to_contain_text("2 / 2")
    settle(page)
    assert prompts(site) == [f"What else?\n\n{told}"]
    page.hover("#window .prompt")
    page.click("#window .prompt [data-act=edit]")
    page.click("form.edit [data-act=detach]")
    page.click("form.edit [data-act=resend]")
    expect(page.locator("#window .prompt .versions")).to_contain_text("3 / 3")
    settle(page)
    assert prompts(site) == ["What else?"]

    page.click("#head [data-panel=keep]")
    with page.expect_download() as saved:
        page.click("#keep-json")
    exported = json.loads(Path(saved.value.path()).read_text(encoding="utf-8"))
    contents = [message["content"] for message in exported["conversations"][0]["messages"]]
    assert f"What else?\n\n{told}" in contents


def test_dropped_files_warn_are_removed_by_keyboard_and_wait_with_the_draft(
    page: Page, site: Site
) -> None:
    drop(page, "letter.txt", ORDERS)
    expect(page.locator(f"{CHIPS}.warn summary")).to_contain_text("letter.txt")
    drop(page, "hidden\u202e.txt", "seen\U000e0041\U000e0042\n")
    expect(page.locator(f"{CHIPS}.warn")).to_have_count(2)
    page.locator(f"{CHIPS} summary").first.press("Enter")
    expect(page.locator(f"{CHIPS} p").first).to_contain_text("speaks to the model")
    expect(page.locator(f"{CHIPS} p").last).to_contain_text("2 hidden characters")
    expect(page.locator(f"{CHIPS} b").last).to_have_text("hidden.txt")
    drop(page, "scan.bin", "\0\1\2")
    expect(page.locator("#note .toast.error")).to_contain_text("scan.bin: This is no text file")
    expect(page.locator(CHIPS)).to_have_count(2)
    page.fill("#ask", "Is it safe?")
    first, second = (
        document("letter.txt", ORDERS.encode()),
        document("hidden.txt", "seen\U000e0041\U000e0042\n".encode()),
    )
    draft = f"Is it safe?\n\n{first}\n\n{second}"
    kept_soon(page, site, draft)
    page.reload()
    expect(page.locator(f"{CHIPS}.warn")).to_have_count(2)
    expect(page.locator("#ask")).to_have_value("Is it safe?")
    page.focus(f"{CHIPS}:first-child [data-act=detach]")
    page.keyboard.press("Enter")
    expect(page.locator(CHIPS)).to_have_count(1)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Remove hidden.txt"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "ask"
    page.keyboard.press("Enter")
    settle(page)
    assert prompts(site) == ["Is it safe?"]
    kept_soon(page, site, "")


def test_a_file_on_its_way_stays_with_the_conversation_it_was_attached_in(
    page: Page, site: Site
) -> None:
    ask(page, "first")
    (conversation,) = site.services.store.conversations(OWNER_ID)
    page.fill("#ask", "Sum it up:")
    upload = Held(page, "attach.part")
    drop(page, "notes.md", NOTES)
    busy = page.locator(f"{CHIPS}.busy")
    expect(busy).to_have_count(1)
    page.click("[data-act=new]")
    expect(page.locator("#window .empty")).to_be_visible()
    expect(page.locator(CHIPS)).to_have_count(0)
    page.click("#listing .conv a")
    expect(busy).to_have_count(1)  # one sees that it goes on
    page.click("[data-act=new]")
    expect(page.locator("#window .empty")).to_be_visible()
    upload.release()
    expect(page.locator("#said")).to_contain_text("notes.md is attached")
    whole = f"Sum it up:\n\n{document('notes.md', NOTES.encode())}"
    kept_soon(page, site, whole, conversation.key)
    expect(page.locator(CHIPS)).to_have_count(0)
    assert site.services.store.draft(OWNER_ID, None) == ""
    page.click("#listing .conv a")
    expect(page.locator(f"{CHIPS} b")).to_have_text("notes.md")
    expect(page.locator("#ask")).to_have_value("Sum it up:")
    page.press("#ask", "Enter")
    settle(page)
    assert prompts(site) == ["first", whole]


def test_a_file_on_its_way_to_a_conversation_that_is_not_kept_reaches_no_other(
    page: Page, site: Site
) -> None:
    ask(page, "stored")
    page.click("[data-act=new]")
    page.click("[data-act=temporary]")
    expect(page.locator("[data-temporary=true]")).to_have_count(1)
    upload = Held(page, '\\"place\\":\\"270000\\"')  # its second part
    drop(page, "secret.txt", "secret words\n" * 30_000)
    upload.wait()
    page.click("#listing .conv a")
    expect(page.locator("#window .bubble")).to_have_text("stored")
    upload.release()
    expect(page.locator("#said")).to_contain_text("secret.txt is attached")
    page.reload()
    expect(page.locator("#window .bubble")).to_have_text("stored")
    assert not list((site.services.settings.data / "incoming").glob("*"))
    store = site.services.store
    (conversation,) = store.conversations(OWNER_ID)
    assert [store.draft(OWNER_ID, key) for key in (None, conversation.key)] == ["", ""]


def test_a_huge_paste_becomes_a_file_or_text_as_one_likes(page: Page, site: Site) -> None:
    text = f"{HOSTILE}\n" * 400
    page.evaluate("text => navigator.clipboard.writeText(text)", text)
    page.fill("#ask", "Sum it up: ")
    page.press("#ask", "End")
    page.keyboard.press("Control+v")
    expect(page.locator(f"{CHIPS} b")).to_have_text("pasted.txt")
    assert page.input_value("#ask") == "Sum it up: "
    page.click("#note .toast .btn")
    expect(page.locator(CHIPS)).to_have_count(0)
    assert page.input_value("#ask") == f"Sum it up: {text}"
    page.fill("#ask", "Sum it up:")
    page.keyboard.press("Control+v")
    expect(page.locator(f"{CHIPS} b")).to_have_text("pasted.txt")
    page.press("#ask", "Enter")
    settle(page)
    assert prompts(site)[0].startswith('Sum it up:\n\n<document name="pasted.txt">\n')
    assert prompts(site)[0].count(HOSTILE) == 400


def test_hostile_names_and_texts_only_show(page: Page, site: Site) -> None:
    names = ["<img src=x onerror=print()>.txt", "${print(1)}`.md", "{{7*7}}\"'.txt"]
    pick(page, *((name, HOSTILE) for name in names))
    shown = page.locator(f"{CHIPS} b").all_inner_texts()
    assert shown == ["img src=x onerror=print() .txt", "${print(1)}`.md", "{{7*7}} '.txt"]
    page.press("#ask", "Enter")
    settle(page)
    assert page.locator("#window .prompt .file b").all_inner_texts() == shown
    expect(page.locator("#window .bubble")).not_to_be_visible()
    expect(page.locator("#head h1")).to_have_text("img src=x onerror=print() .txt")


def test_a_phone_and_a_conversation_that_is_not_kept_take_files_too(page: Page, site: Site) -> None:
    page.set_viewport_size({"width": 390, "height": 780})
    page.click("[data-act=temporary]")
    expect(page.locator("[data-temporary=true]")).to_have_count(1)
    pick(page, ("a-name-that-is-much-too-long-for-a-narrow-screen-of-a-phone.txt", "words " * 40))
    box = page.locator(CHIPS).bounding_box()
    assert box is not None and box["x"] >= 16 and box["x"] + box["width"] <= 374
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    ask(page, "and now?")
    sent = page.locator("#window .prompt .file").bounding_box()
    assert sent is not None and sent["x"] >= 16 and sent["x"] + sent["width"] <= 374
    assert site.services.store.conversations(OWNER_ID) == []
    assert not list((site.services.settings.data / "incoming").glob("*"))
