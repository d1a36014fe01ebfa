"""The dialogs Safety and Models, with a keyboard and with a mouse, on a real page."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.axe import violations
from tests.browser.conftest import ask
from tests.browser.site import Site
from tests.engine.checkpoints import make_checkpoint

pytestmark = [pytest.mark.browser, pytest.mark.own_site]

HOSTILE = ["${print(1)}", "`+print(1)+`", "<img src=x onerror=print(1)>", "\"' onfocus=print(1) x="]


def open_panel(page: Page, kind: str) -> None:
    page.click(f"[data-panel={kind}]:visible >> nth=0")
    expect(page.locator(f"#dialog[open] [data-kind={kind}]")).to_be_visible()


def test_a_lowered_limit_blocks_what_was_let_through(page: Page) -> None:
    ask(page, "hello")
    expect(page.locator("#window .reply .md")).to_have_count(1)
    open_panel(page, "safety")
    page.click("#limits")
    limit = page.locator("#limit-violent_crimes-prompt")
    expect(limit).to_be_disabled()  # as usual
    page.select_option("#action-violent_crimes-prompt", "block")
    limit.fill("7")
    page.click("#panel-save")
    expect(page.locator("#head [data-panel=safety]")).to_have_text(
        "Guard: balanced"
    )  # the browser refused it
    limit.fill("0.005")
    page.click("#panel-save")
    expect(page.locator("#panel-said")).to_have_text("Saved. It holds from your next message.")
    expect(page.locator("#head [data-panel=safety]")).to_have_text("Guard: own policy")
    expect(page.locator("#head h1")).to_have_text("hello")
    expect(limit).to_have_value("0.005")
    page.click("#panel-close")
    ask(page, "hello")
    expect(page.locator("#window .notice.stop")).to_contain_text("limit 0.01")
    open_panel(page, "safety")
    page.click("#panel-back")
    expect(page.locator("#head [data-panel=safety]")).to_have_text("Guard: balanced")
    page.click("#panel-close")
    ask(page, "hello again")
    expect(page.locator("#window .reply .md")).to_have_count(2)


def test_the_keyboard_alone_is_enough(page: Page) -> None:
    page.focus("#head [data-panel=safety]")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Safety")
    expect(dialog).to_be_visible()
    expect(page.get_by_role("heading", name="Safety", exact=True)).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#panel-close")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#preset-open")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#preset-open")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#preset-open")).to_be_focused()
    expect(page.get_by_role("status")).to_contain_text(["“open” holds from your next message."])
    page.keyboard.press("Control+k")  # the page behind it does not hear this
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.locator("#head [data-panel=safety]")).to_be_focused()
    expect(page.locator("#head [data-panel=safety]")).to_have_text("Guard: open")


def test_two_models_take_turns_and_a_broken_one_is_refused(page: Page, site: Site) -> None:
    models = site.services.settings.data / "models"
    for seed, name in enumerate(("one", "two", "cut")):
        make_checkpoint(models / name, seed=seed)
    (models / "cut" / "model.safetensors").write_bytes(b"\x08")
    open_panel(page, "models")
    for name in ("one", "two"):
        page.click(f"[data-mode=use][data-text={name}]")
        expect(page.locator("#panel-said")).to_have_text(
            f"{name} answers from now on.", timeout=60_000
        )
        expect(page.locator(".footing b")).to_have_text(name)
        expect(page.locator(f"[data-mode=use][data-text={name}]")).to_have_count(0)
    page.click("[data-mode=use][data-text=cut]")
    expect(page.locator("#panel-said.error")).to_contain_text(
        "cut was not loaded, and two answers on.", timeout=60_000
    )
    page.keyboard.press("Escape")
    expect(page.locator("#window .model-hint")).to_have_count(0)  # it is not the small one now
    ask(page, "hello")
    expect(page.locator("#window .reply")).to_have_count(1)
    assert site.services.engine_info().model == "two"  # type: ignore[union-attr]
    assert site.engine.closed


def test_hostile_names_are_shown_and_run_nothing(page: Page, site: Site) -> None:
    """That nothing ran is checked at the end by the `page` fixture."""
    for seed, name in enumerate(HOSTILE):
        make_checkpoint(site.services.settings.data / "models" / name, seed=seed)
    open_panel(page, "models")
    shown = page.locator("#dialog .models b").all_inner_texts()
    assert set(HOSTILE) <= set(shown)
    name = "<img src=x onerror=print(1)>"
    page.get_by_role("button", name=f"Use {name}", exact=True).click()
    expect(page.locator("#panel-said")).to_have_text(f"{name} answers from now on.", timeout=60_000)
    page.keyboard.press("Escape")
    expect(page.locator(".footing b")).to_have_text(name)


def test_on_a_phone_nothing_is_wider_than_the_screen(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 780})
    open_panel(page, "safety")
    page.click("#limits")
    assert page.eval_on_selector("#dialog .sheet-body", "e => e.scrollWidth <= e.clientWidth")
    page.click("#panel-close")
    page.click("#head [data-act=drawer]")
    page.click(".footing [data-panel=models]")
    page.click("#get")
    assert page.eval_on_selector("#dialog .sheet-body", "e => e.scrollWidth <= e.clientWidth")
    assert page.eval_on_selector("#dialog", "e => e.getBoundingClientRect().width") == 390


def test_the_diagnostics_are_copied(page: Page) -> None:
    open_panel(page, "keys")
    page.click("#dialog [data-panel=diagnostics]")
    sheet = page.locator("#dialog[open] [data-kind=diagnostics]")
    expect(sheet).to_be_visible(timeout=60_000)  # a program of its own gathers them
    sheet.get_by_text("Copy diagnostics").click()
    expect(sheet.locator("[data-act=copy-code]")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("Corral, facts for a bug report (no message text):")
    assert violations(page) == []
