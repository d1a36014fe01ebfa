"""Corral as a person has it: the real process, the bundled models, a real browser, no network.

Everything else is tested in parts with fakes; this is the one test of the whole. A connection that
would leave the machine is refused in the server process and fails the test (see conftest.py).
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from tokenizers import Tokenizer

from launch.environment import clean_environment
from launch.place import prepare_data_folder
from launch.start import Running
from storage.records import OWNER_ID
from storage.store import Store
from tests.browser.conftest import ask, settle
from tests.engine.checkpoints import BASE, make_checkpoint, save_weights, weights_of
from tests.waiting import until

pytestmark = [pytest.mark.browser, pytest.mark.slow]
START_SECONDS = 240  # on a machine that compiles bytecode and tests other things beside it
LINE = "fine words\n"
PROMPTS = ["Hello!", "How are you?", "What is your name?", "Do you like zebras?", "Thank you."]


class Corral:
    """One data folder and the server process on it."""

    def __init__(self, data: Path, environment: dict[str, str], *words: str) -> None:
        self.data, self.words = data, words
        guarded = environment["PYTHONPATH"]
        self.environment = {**clean_environment(data, environment), "PYTHONPATH": guarded}
        prepare_data_folder(data)
        self.start()

    def start(self) -> None:
        """Start the server; it answers when this returns."""
        words = [f"--data={self.data}", "--no-browser", *self.words]
        (self.data / "run.json").unlink(missing_ok=True)  # that of a killed one
        with (self.data / "said.txt").open("ab") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", *words],
                cwd=self.data / "run" / "empty",
                env=self.environment,
                stdout=said,
                stderr=said,
            )

        def answers() -> bool:
            assert self.process.poll() is None, (self.data / "said.txt").read_text()
            return self.entrance() is not None

        until(answers, START_SECONDS)

    def entrance(self) -> str | None:
        """A fresh one-time address."""
        running = Running.read(self.data)
        return running.entrance() if running else None

    def end(self, number: int) -> int:
        """Send a signal and wait; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(60)


@pytest.fixture
def corral(
    tmp_path: Path, guarded_environment: dict[str, str], request: pytest.FixtureRequest
) -> Iterator[Corral]:
    words = []
    if hasattr(request, "param"):
        words = [f"--model={talker(tmp_path / 'talker')}"]
        store = Store.open(tmp_path / "data")
        store.set_setting(OWNER_ID, "sampling", '{"max_new_tokens": 15000}')  # never ends
        store.close()
    running = Corral(tmp_path / "data", guarded_environment, *words)
    yield running
    if running.process.poll() is None:
        running.end(signal.SIGKILL)


def talker(folder: Path) -> Path:
    """A Llama that says `LINE` again and again: its layers add nothing, its head knows the order.

    Deep enough that thousands of tokens take it a while, wherever this runs.
    """
    config = {**BASE, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 24}
    config["max_position_embeddings"] = 16384
    tensors = weights_of(config)
    for name, tensor in tensors.items():
        if "o_proj" in name or "down_proj" in name:
            tensor.zero_()
    make_checkpoint(folder, **config)
    spell = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(LINE).ids
    assert len(set(spell)) == len(LINE), "each letter decides the next one"
    embedding, head = tensors["model.embed_tokens.weight"], tensors["lm_head.weight"].zero_()
    for now, following in zip(spell, [*spell[1:], spell[0]], strict=True):
        head[following] = embedding[now] / 5
    save_weights(folder, tensors)
    return folder


@contextmanager
def visitor(corral: Corral, browser: Browser) -> Iterator[Page]:
    """A fresh visitor by the one-time address; the page may ask this server alone."""
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    page = context.new_page()
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    address = corral.entrance()
    assert address is not None
    page.goto(address)
    page.wait_for_selector("#ask:enabled")
    yield page
    context.close()
    own = address.partition("/corral/")[0]
    assert [url for url in asked if not url.startswith((own, "data:", "blob:"))] == []
    assert errors == []


def prompts(page: Page) -> list[str]:
    return page.locator("#window .prompt .bubble").all_inner_texts()


def squeezed(text: str) -> str:
    """Without the white space, which wraps; a word that was cut short stays a prefix."""
    return "".join(text.split())


def replies(page: Page) -> list[str]:
    return [text.strip() for text in page.locator("#window .reply .md").all_inner_texts()]


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
def test_a_conversation_is_answered_kept_found_edited_and_survives_a_kill(
    corral: Corral, browser: Browser
) -> None:
    with visitor(corral, browser) as page:
        for prompt in PROMPTS:  # the first one before anything is loaded: it waits, visibly
            page.set_default_timeout(START_SECONDS * 1000)
            ask(page, prompt)
        expect(page.locator('.footing[data-state="ready"]')).to_contain_text("corral-chat")
        assert prompts(page) == PROMPTS
        said = replies(page)
        assert len(said) == len(PROMPTS)
        assert all(said)
        expect(page.locator("#window .reply .shield.ok")).to_have_count(len(PROMPTS))

        page.reload()
        expect(page.locator("#window .turn")).to_have_count(2 * len(PROMPTS))
        assert (prompts(page), replies(page)) == (PROMPTS, said)

        page.fill("#find", "zebra")
        expect(page.locator("#listing .hit mark").first).to_contain_text("zebra")
        page.fill("#find", "")

        page.hover("#window .prompt >> nth=1")
        page.click("#window .prompt >> nth=1 >> [data-act=edit]")
        page.fill("form.edit textarea", "What can you do?")
        page.click("[data-act=resend]")
        expect(page.locator("#window .versions").first).to_contain_text("2 / 2")
        settle(page)
        assert prompts(page) == [PROMPTS[0], "What can you do?"]
        edited = replies(page)
        assert corral.end(signal.SIGKILL) == -signal.SIGKILL

    corral.start()
    with visitor(corral, browser) as page:
        page.click("#listing [data-act=open]")
        expect(page.locator("#window .turn")).to_have_count(4)
        assert (prompts(page), replies(page)) == ([PROMPTS[0], "What can you do?"], edited)
        page.click("#window [data-act=version] >> nth=0")
        expect(page.locator("#window .turn")).to_have_count(2 * len(PROMPTS))
        assert (prompts(page), replies(page)) == (PROMPTS, said)
    assert corral.end(signal.SIGINT) == 0
    assert not (corral.data / "run.json").exists()
    log = (corral.data / "log" / "corral.log").read_text()
    assert "zebra" not in log
    assert all(text not in log for text in (*PROMPTS, *said))


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
@pytest.mark.parametrize("corral", ["talker"], indirect=True)
def test_an_answer_outlasts_a_sleep_and_a_kill_and_goes_on(
    corral: Corral, browser: Browser
) -> None:
    with visitor(corral, browser) as page:
        page.set_default_timeout(START_SECONDS * 1000)
        ask(page, PROMPTS[0], wait=False)
        grown = "(n) => (document.querySelector('#live .md')?.innerText.length ?? 0) > n"
        page.wait_for_function(grown, arg=60)
        corral.process.send_signal(signal.SIGSTOP)  # as a laptop does when its lid is closed
        time.sleep(3)
        asleep = len(page.locator("#live .md").inner_text())
        corral.process.send_signal(signal.SIGCONT)
        page.wait_for_function(grown, arg=asleep + 60)
        shown = squeezed(page.locator("#live .md").inner_text())
        assert corral.end(signal.SIGKILL) == -signal.SIGKILL

    corral.start()
    with visitor(corral, browser) as page:
        page.set_default_timeout(START_SECONDS * 1000)
        page.click("#listing [data-act=open]")
        expect(page.locator("#window .turn")).to_have_count(2)
        kept = page.locator("#window .reply .md").inner_text()
        assert len(kept) > 40
        spoken = squeezed(kept)
        assert spoken.startswith(shown) or shown.startswith(spoken)
        assert set(kept.split()[:-1]) == {"fine", "words"}

        expect(page.locator("#window .ending")).to_be_visible()
        page.click("#window [data-act=continue]")
        page.wait_for_function(grown, arg=len(kept) + 50)
        page.click("#stop")
        settle(page)
        more = page.locator("#window .reply .md").inner_text()
        assert len(more) > len(kept)
        assert set(more.split()[:-1]) == {"fine", "words"}  # the seam is seamless
