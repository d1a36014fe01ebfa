"""The dialog Models against a local model hub: three clicks from the built-in model to another."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from playwright.sync_api import Page, expect

from app.room import Room
from tests.browser.conftest import ask
from tests.browser.site import Site
from tests.engine.checkpoints import make_checkpoint
from tests.engine.hub_server import HubState, serve_to_children
from tests.engine.openai_server import ServerState
from tests.engine.openai_server import serve as serve_openai

pytestmark = [pytest.mark.browser, pytest.mark.own_site]

OPEN, GATED = "smollm2-360m-instruct", "llama-3.2-1b-instruct"


@pytest.fixture
def hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, guarded_environment: dict[str, str]
) -> Iterator[HubState]:
    """A hub with one tiny model, on a machine of 2.2 GB, so that the suggestions are known."""
    folder = make_checkpoint(tmp_path / "source")
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    state = HubState(
        repo="HuggingFaceTB/SmolLM2-360M-Instruct", files=files, large={"model.safetensors"}
    )
    room = Room("cpu", 2_200_000_000, 2)
    monkeypatch.setattr("app.room.Room.of_machine", lambda _device, _offload: room)
    with serve_to_children(state, monkeypatch, guarded_environment):
        yield state


@pytest.fixture
def site(hub: HubState, site: Site) -> Site:
    return site


def test_three_clicks_lead_from_the_built_in_model_to_another(
    page: Page, site: Site, hub: HubState
) -> None:
    expect(page.locator(".model-hint")).to_be_visible()
    page.click(".model-hint [data-panel=models]")  # the first
    offers = page.locator("#dialog .offer")
    expect(offers).to_have_count(2)
    expect(offers.nth(0)).to_contain_text(OPEN)
    expect(offers.nth(1)).to_contain_text(GATED)
    assert hub.requests == []  # looking at it goes nowhere
    hub.hold = Event()
    page.get_by_role("button", name="Download 723.6 MB").click()  # the second
    fetching = page.locator("#fetching .fetching")
    expect(fetching).to_contain_text(re.compile(r"of 0\.\d MB"))
    expect(page.locator("#panel-said")).to_contain_text("You can close this window")
    page.keyboard.press("Escape")  # it goes on without the dialog
    page.click(".footing [data-panel=models]")
    expect(fetching.get_by_role("button", name="Stop")).to_be_visible()
    hub.hold.set()
    page.get_by_role("button", name="Use it").click()  # the third
    expect(page.locator("#panel-said")).to_have_text(f"{OPEN} answers from now on.", timeout=60_000)
    page.keyboard.press("Escape")
    expect(page.locator(".footing b")).to_have_text(OPEN)
    ask(page, "hello")
    expect(page.locator("#window .reply")).to_have_count(1)
    assert site.engine.closed


def test_a_stopped_download_goes_on_and_can_be_removed(page: Page, hub: HubState) -> None:
    hub.hold = Event()
    page.click(".model-hint [data-panel=models]")
    page.click("#offer-1")
    expect(page.locator("#fetching .fetching")).to_contain_text(re.compile(r"of 0\.\d MB"))
    page.click("#fetch-stop")
    expect(page.locator("#panel-said")).to_contain_text("can go on")
    expect(page.locator("#fetching .fetching")).to_have_count(0)
    hub.hold.set()
    page.get_by_role("button", name=f"Go on with the download of {OPEN}").click()
    expect(page.get_by_role("button", name="Use it")).to_be_visible()
    hub.hold = Event()
    page.click("#get")
    page.fill("#repository", "<img src=x onerror=print(1)>")
    page.press("#repository", "Enter")
    expect(page.locator("#panel-said.error")).to_contain_text("owner/name")
    expect(page.locator("#repository")).to_have_value("<img src=x onerror=print(1)>")


def test_a_gated_model_explains_itself_and_takes_a_token(
    page: Page, site: Site, hub: HubState
) -> None:
    hub.repo, hub.gated, hub.token = "meta-llama/Llama-3.2-1B-Instruct", True, "hf_secret"
    page.click(".model-hint [data-panel=models]")
    page.click("#offer-2")
    steps = page.locator("#fetching .steps li")
    expect(steps).to_have_count(3)
    expect(steps.nth(0)).to_contain_text("accept the licence: huggingface.co/meta-llama/Llama-3.2")
    link = steps.nth(1).get_by_role("link")
    expect(link).to_have_attribute("href", "https://huggingface.co/settings/tokens")
    page.fill("#token", "hf_secret")
    page.press("#token", "Enter")  # keeps it, and the download begins by itself
    expect(page.get_by_role("button", name="Use it")).to_have_count(1)
    assert "hf_secret" not in page.content()
    page.click("#token-forget")
    expect(page.locator("#token-forget")).to_have_count(0)
    assert site.services.credentials.get("model-hub") == ""


def test_one_of_several_quantizations_is_chosen(page: Page, hub: HubState) -> None:
    hub.files = {"Tiny-Q4_K_M.gguf": b"GGUF" * 10, "Tiny-Q8_0.gguf": b"GGUF" * 20}
    page.click(".model-hint [data-panel=models]")
    page.click("#get")
    page.fill("#repository", hub.repo)
    page.press("#repository", "Enter")
    choices = page.locator("#fetching .quantizations .btn")
    expect(choices).to_have_count(2)
    expect(page.locator("#panel-said")).to_contain_text("Choose a quantization")
    choices.nth(1).click()
    use = page.get_by_role("button", name="Use it").first
    expect(use).to_have_attribute("data-text", "huggingfacetb/smollm2-360m-instruct/tiny-q8_0")


FAULTS = {
    "damaged": ("The download arrived damaged", {"etags": {"model.safetensors": "0" * 64}}),
    "pickles": ("The model was refused for safety", {"files": {"pytorch_model.bin": b"x"}}),
    "absent": ("The hub shows no such model", {"repo": "another/Model"}),
    "no config": ("The model's files are not there", {"files": {"model.safetensors": b"x"}}),
}


def test_each_fault_of_a_download_has_its_sentence(page: Page, hub: HubState) -> None:
    page.click(".model-hint [data-panel=models]")
    before = vars(hub).copy()
    again = "#offer-1"
    for title, changes in FAULTS.values():
        vars(hub).update(before | changes)
        page.click(again)
        card = page.locator("#fetching [data-state=failed]")
        expect(card).to_contain_text(title)
        again = "#fetch-again"
    vars(hub).update(before)
    page.click(again)
    expect(page.get_by_role("button", name="Use it").first).to_be_visible()


HOSTILE = "<img src=x onerror=print(1)> ${print(1)} `+print(1)+` <|eot_id|>"


def test_a_model_is_inspected_and_hostile_text_stays_text(page: Page) -> None:
    page.click(".model-hint [data-panel=models]")
    page.get_by_role("button", name="Inspect Built-in").click()
    sheet = page.locator("[data-kind=inspect]")
    expect(sheet).to_contain_text("Key-value heads")
    expect(sheet.locator("svg.plot path.line")).to_have_count(1)
    expect(sheet.locator(".slices").first).to_contain_text("Attention")
    page.fill("#typed", HOSTILE)
    page.click("#play")
    expect(page.locator(".cut")).to_be_visible(timeout=60_000)
    assert "".join(page.locator(".cut i").all_text_contents()) == HOSTILE
    assert page.locator(".cut img").count() == 0
    expect(page.locator("#typed")).to_have_value(HOSTILE)
    page.click("#inspect-back")
    expect(page.locator("[data-kind=models]")).to_be_visible()


def test_a_server_is_kept_used_and_removed(page: Page, site: Site) -> None:
    with serve_openai(ServerState(words=["Far", " away."])) as address:
        page.click(".model-hint [data-panel=models]")
        page.click("#servers")
        page.fill("#server", "ftp://nowhere")
        page.press("#server", "Enter")
        expect(page.locator("#panel-said.error")).to_contain_text("is not the address of a server")
        page.fill("#server", address)
        page.fill("#server-key", "private-key")
        page.click("#server-keep")
        expect(page.locator("#panel-said")).to_contain_text("is kept")
        assert "private-key" not in page.content()
        page.get_by_role("button", name=f"Test {address}").click()
        expect(page.locator("#panel-said")).to_contain_text("answers. It serves: tiny")
        page.get_by_role("button", name=f"Use {address}").click()
        expect(page.locator("#panel-said")).to_have_text(
            f"{address} answers from now on.", timeout=60_000
        )
        page.keyboard.press("Escape")
        ask(page, "hello")
        expect(page.locator("#window .reply .md")).to_have_text("Far away.")
        page.click(".footing [data-panel=models]")
        page.click("#unload")
        expect(page.locator("[data-kind=models]")).to_contain_text("No model is loaded")
        page.get_by_role("button", name=f"Remove {address}").click()
        expect(page.locator("#panel-said")).to_contain_text("is removed")
    assert site.services.credentials.get(address) == ""
