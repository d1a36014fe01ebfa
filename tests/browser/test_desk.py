"""The dialogs on a conversation and its answers, on a real page with a real tiny model's engine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Watch, ask, settle
from tests.browser.site import Site
from tests.engine.answers import tiny_engine
from tests.engine.checkpoints import make_checkpoint

pytestmark = [pytest.mark.browser, pytest.mark.own_site]

HOSTILE = "${print(1)} `+print(1)+` <img src=x onerror=print(1)> \"' onfocus=print(1) x="


def open_panel(page: Page, kind: str, place: int = -1) -> None:
    if kind in ("compare", "tokens"):
        page.locator("#window [popovertarget]").nth(place).click()
    page.locator(f"[data-panel={kind}]:visible").nth(place).click()
    expect(page.locator(f"#dialog[open] [data-kind={kind}]")).to_be_visible()


def close(page: Page) -> None:
    page.keyboard.press("Escape")
    expect(page.locator("#dialog[open]")).to_have_count(0)


def key_of(page: Page) -> str:
    return str(page.evaluate("new URLSearchParams(location.search).get('c')"))


def test_a_persona_and_a_preset_hold_from_the_next_message(page: Page, site: Site) -> None:
    open_panel(page, "session")
    page.select_option("#pick_persona", "Patient teacher")
    expect(page.locator("#system_prompt")).to_have_value(site.services.library.personas[1].text)
    page.check("#preset-exact")
    expect(page.locator("#value-temperature")).to_have_value("0.0")
    page.select_option("#answer-language", "zh-Hant")
    expect(page.locator("#dialog")).to_contain_text(site.services.library.rules["zh-Hant"])
    page.check("#convert")
    page.check("#overflow-stop")
    page.click("#session-save")
    expect(page.locator("#head .chip").first).to_have_text("Patient teacher")
    site.engine.say = {"头发": "头发和 `头发`"}
    ask(page, "头发?")
    expect(page.locator("#window .reply .md")).to_have_text("頭髮和 头发")
    told = site.engine.prompts[-1].messages
    assert told is not None
    assert told[0]["role"] == "system"
    assert told[0]["content"].endswith(site.services.library.rules["zh-Hant"])
    (run,) = site.services.store.path(1, key_of(page))[-1].generations
    assert (run.sampling["temperature"], run.system_prompt) == (0.0, told[0]["content"])
    kept = site.services.store.conversation(1, key_of(page)).choices
    assert kept == {
        "preset": "exact",
        "language": "zh-Hant",
        "convert": True,
        "overflow": "stop",
        "persona": "Patient teacher",
    }


def test_own_values_are_checked_by_the_browser_and_kept_under_a_name(page: Page) -> None:
    ask(page, "hello")
    open_panel(page, "session")
    page.check("#preset-own")
    temperature = page.locator("#value-temperature")
    expect(temperature).to_be_enabled()
    temperature.fill("9")
    page.click("#session-save")
    expect(page.locator("#panel-said")).to_be_empty()  # the browser refused it
    temperature.fill("0.45")
    page.click("#keep")
    page.fill("#sampling_as", "mine")
    page.click("#keep-sampling")
    expect(page.locator("#panel-said")).to_have_text("“mine” is kept.")
    page.fill("#system_prompt", HOSTILE)
    page.fill("#persona_as", HOSTILE[:60])
    page.click("#keep-persona")
    kept = page.locator("#dialog .models b")
    expect(kept).to_have_text([HOSTILE[:60], "mine"])
    page.locator("#dialog .models .btn").first.click()
    expect(kept).to_have_text(["mine"])
    page.click("#saved-undo")
    expect(kept).to_have_text([HOSTILE[:60], "mine"])
    page.click("#session-save")
    expect(page.locator("#panel-said")).to_have_text("Saved. It holds from your next message.")
    close(page)
    open_panel(page, "session")
    expect(page.locator("#system_prompt")).to_have_value(HOSTILE)
    expect(temperature).to_have_value("0.45")
    page.check("#preset-wild")
    expect(temperature).to_have_value("1.4")
    page.select_option("#pick_sampling", "mine")
    expect(temperature).to_have_value("0.45")
    close(page)
    ask(page, "again")
    open_panel(page, "numbers")
    expect(page.locator("#dialog .facts")).to_contain_text("temperature 0.45")
    page.click("#told")
    expect(page.locator("#dialog .wording")).to_have_text(HOSTILE)


def test_a_prompt_is_filled_in_and_ones_own_is_kept(page: Page) -> None:
    open_panel(page, "prompts")
    expect(page.locator("#dialog h3")).to_have_count(12)
    page.click("#prompt-b0")
    page.fill("#var-1", HOSTILE)
    page.click("#dialog #prompt-use")
    expect(page.locator("#ask")).to_be_focused()
    assert HOSTILE in page.input_value("#ask")
    assert "{{what matters}}" in page.input_value("#ask")
    open_panel(page, "prompts")
    page.click("#prompt-new")
    page.fill("#prompt-name", "Sum up")
    page.select_option("#prompt-use", "summarization")
    page.fill("#prompt-text", "Sum up: {{text}} ${print(1)}")
    page.click("#prompt-save")
    own = page.locator("#dialog .presets button", has_text="mine")
    expect(own).to_have_count(1)
    own.click()
    page.fill("#var-1", "the {{text}}")
    page.click("#dialog #prompt-use")
    expect(page.locator("#ask")).to_have_value("Sum up: the {{text}} ${print(1)}")
    open_panel(page, "prompts")
    own.click()
    page.click("#prompt-remove")
    expect(own).to_have_count(0)
    page.click("#saved-undo")
    expect(own).to_have_count(1)


def test_the_meter_counts_the_draft_and_says_what_will_go(page: Page, site: Site) -> None:
    meter = page.locator("#meter")
    site.engine.context_length = 100
    page.fill("#ask", "one two three")
    expect(meter).to_have_text("7 of 100 tokens")
    page.fill("#ask", "word " * 120)
    expect(meter).to_contain_text("too long for the model")
    page.fill("#ask", "")
    site.engine.say = {"word": "answer " * 20}
    ask(page, "word " * 20)
    page.fill("#ask", "word " * 30)
    expect(meter).to_contain_text("2 earlier messages will be left out")
    page.press("#ask", "Enter")
    page.wait_for_function("() => document.querySelectorAll('#window .turn').length === 4")
    settle(page)
    unread = page.locator("#window .unread")
    expect(unread).to_have_count(1)
    ids = page.eval_on_selector_all("#window > * > * > *", "(all) => all.map((e) => e.className)")
    assert [name.split()[-1] for name in ids] == ["prompt", "reply", "unread", "prompt", "reply"]
    open_panel(page, "session")
    page.check("#overflow-stop")
    page.click("#session-save")
    expect(page.locator("#panel-said")).to_contain_text("Saved.")
    close(page)
    page.fill("#ask", "word " * 30)
    expect(meter).to_have_text("This no longer fits the context, and nothing may be left out")
    page.press("#ask", "Enter")
    expect(page.locator("#window .notice.error")).to_contain_text("no longer fits")


def test_thumbs_ratings_win_rates_and_the_data_of_them(page: Page, site: Site) -> None:
    site.engine.say = {"colour": f"First, {HOSTILE}"}
    ask(page, "Which colour?")
    open_panel(page, "compare")
    page.check("#thumb-good")
    page.fill("#thumb-note", HOSTILE)
    page.click("#thumb-save")
    expect(page.locator("#panel-said")).to_have_text("Kept.")
    site.engine.say = {"colour": "Second."}
    page.select_option("#compare-preset", "wild")
    page.select_option("#compare-persona", "Editor")
    page.click("#compare-answer")
    sides = page.locator("#pair section")
    expect(sides).to_have_count(2)
    expect(page.locator("#pair .about")).to_have_count(0)  # blind
    first_is_a = "First" in sides.first.inner_text()
    page.click("#pair-rate")
    expect(page.locator("#panel-said.error")).to_have_text("Choose one of the steps first.")
    page.check(f"#helpfulness-{-4 if first_is_a else 4}", force=True)
    page.check("#safety-1", force=True)
    page.click("#pair-rate")
    expect(page.locator("#pair .about")).to_have_count(2)
    told = site.engine.prompts[-1].messages
    assert told is not None and told[0]["content"].startswith("You are an editor.")
    page.click("#compare-results")
    rows = page.locator("#dialog tbody tr")
    expect(rows).to_have_count(4)
    expect(rows.nth(0)).to_contain_text("100 % (21–100)")
    expect(page.locator("svg.intervals")).to_have_count(1)  # all safety ratings are ties
    with page.expect_download() as pairs:
        page.click("#opinions-pairs")
    (row,) = [json.loads(line) for line in Path(pairs.value.path()).read_text().splitlines()]
    assert (row["prompt"], row["history"]) == ("Which colour?", [])
    assert row["chosen"] == f"First, {HOSTILE}"
    assert (row["rejected"], row["margin"]) == ("Second.", 3)
    with page.expect_download() as examples:
        page.click("#opinions-examples")
    (row,) = [json.loads(line) for line in Path(examples.value.path()).read_text().splitlines()]
    assert row["messages"][-1] == {"role": "assistant", "content": f"First, {HOSTILE}"}
    close(page)
    expect(page.locator("#window .versions")).to_contain_text("2 / 2")
    open_panel(page, "compare")
    page.uncheck("#blind")
    page.click("#compare-pair")
    expect(page.locator("#pair .about")).to_have_count(2)


@pytest.fixture
def real(browser: Browser, tmp_path: Path) -> Iterator[tuple[Page, Site]]:
    """A page over a real engine with a tiny random model."""
    site = Site(tmp_path / "data")
    with tiny_engine(tmp_path / "tiny-chat") as engine:
        site.services.engine.replace(lambda: engine)
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        watch = Watch(page, site.url)
        page.goto(site.url)
        page.wait_for_selector("#window .empty")
        yield page, site
        executed = page.evaluate("[violations, executed]")
        page.close()
        site.close()
    assert (watch.errors, watch.foreign, executed) == ([], [], [[], 0])


def test_numbers_replay_tokens_and_a_branch(real: tuple[Page, Site]) -> None:
    page, site = real
    store = site.services.store
    key = store.create_conversation(
        1, choices={"preset": "own", "values": {"max_new_tokens": 24, "temperature": 0}}
    ).key  # greedy: what random weights sample may end in half a character
    page.goto(f"{site.url}?c={key}")
    expect(page.locator("#head .chip").first).to_have_text("My own values")
    page.fill("#ask", "hello there")
    counted = page.locator("#meter")
    expect(counted).to_have_text(re.compile(r"^[1-9]\d* of "))
    before = counted.inner_text()
    ask(page, "hello there")
    reply = store.path(1, key)[-1]
    (run,) = reply.generations
    assert before.split()[0] == str(run.num_prompt)  # the draft was counted as it was then read

    open_panel(page, "numbers")
    shown = page.locator("#dialog .facts")
    for fact in (run.model, "fp32", str(run.seed), "max_new_tokens 24", "temperature 0"):
        expect(shown).to_contain_text(fact)
    page.click("#replay-start")
    expect(page.locator("#replay")).to_contain_text(f"Same: all {run.num_new} tokens came again.")
    close(page)

    open_panel(page, "tokens")
    tokens = page.locator(".toks .tok")
    expect(tokens).to_have_count(run.num_new)
    place = next(n for n in range(4, run.num_new) if _offers(page, n))
    offered = page.locator(".odds button").first
    token_id = int(offered.get_attribute("value") or 0)
    offered.click()
    expect(page.locator("#dialog[open]")).to_have_count(0)
    expect(page.locator("#window .versions")).to_contain_text("2 / 2")
    settle(page)
    branch = store.path(1, key)[-1]
    (again,) = branch.generations
    assert list(again.token_ids[:place]) == list(run.token_ids[:place])
    assert again.token_ids[place] == token_id != run.token_ids[place]
    assert again.num_given == place + 1
    assert branch.verdicts[-1].stage == "final"
    assert again.num_prompt - again.num_reused <= 2

    open_panel(page, "numbers")
    expect(page.locator("#dialog .plot svg")).to_have_count(2)
    page.click("#replay-start")
    expect(page.locator("#replay")).to_contain_text("Same: all")


def test_two_models_answer_the_same_prompt(
    page: Page, site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    make_checkpoint(site.services.settings.data / "models" / "another")
    site.engine.say = {"llama": "An animal."}
    ask(page, "What is a llama?")
    open_panel(page, "compare")
    page.select_option("#compare-model", "another")
    page.click("#compare-answer")
    expect(page.locator("#pair section")).to_have_count(2, timeout=60_000)
    expect(page.locator("#pair .about")).to_have_count(0)
    page.check("#helpfulness-2", force=True)
    page.click("#pair-rate")
    expect(page.locator("#pair .about")).to_have_count(2)
    named = sorted(page.locator("#pair .about").all_inner_texts())
    assert [name.split(" · ")[1] for name in named] == ["Teller", "another"]
    prompt = site.services.store.path(1, key_of(page))[0]
    replies = site.services.store.rated(1)
    assert len(replies) == 1 and replies[0][1].prompt_id == prompt.id


def _offers(page: Page, place: int) -> bool:
    page.locator(".toks .tok").nth(place).click()
    expect(page.locator(".odds")).to_have_attribute(
        "aria-label", f"Token {place + 1}: what could have come"
    )
    return page.locator(".odds button").count() > 0


def test_an_engine_that_knows_no_probabilities_says_so(page: Page) -> None:
    ask(page, "hello")
    open_panel(page, "tokens")
    expect(page.locator("#dialog")).to_contain_text("cannot tell the probabilities")


def test_on_a_phone_the_dialogs_fit(page: Page) -> None:
    ask(page, "hello")
    page.set_viewport_size({"width": 390, "height": 780})
    for kind in ("session", "prompts", "numbers", "compare"):
        open_panel(page, kind)
        fits = page.eval_on_selector("#dialog .sheet-body", "(e) => e.scrollWidth <= e.clientWidth")
        assert fits, kind
        close(page)
