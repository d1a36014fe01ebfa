"""The gateway with a real browser: in, out, and what pages of other addresses get."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from app.strings import Strings
from tests.browser.guarded import Guarded
from tests.local_http import Handler, serving
from tests.waiting import until

pytestmark = pytest.mark.browser
STRINGS = Strings.load("en")


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(30_000)
    yield page
    context.close()


def composer(page: Page) -> None:
    """Wait until the page of Corral itself is there."""
    expect(page.locator("textarea").first).to_be_visible(timeout=30_000)


def test_a_key_opens_the_page_once_and_a_reload_stays_in(guarded: Guarded, page: Page) -> None:
    key = guarded.key()
    page.goto(key)
    page.wait_for_url(f"{guarded.url}/")
    composer(page)
    (cookie,) = page.context.cookies()
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"
    assert page.evaluate("document.cookie") == ""
    page.reload()
    composer(page)
    assert key.partition("#")[2] not in page.evaluate("location.href + document.referrer")
    page.goto(key)
    expect(page.get_by_text(STRINGS.say("entrance.used"))).to_be_visible()
    assert "#" not in page.url


def test_without_a_key_the_page_says_how_to_get_in(guarded: Guarded, page: Page) -> None:
    answer = page.goto(f"{guarded.url}/")
    assert answer is not None and answer.status == 401
    expect(page.get_by_role("heading", name=STRINGS.say("entrance.heading"))).to_be_visible()
    expect(page.get_by_text(STRINGS.say("entrance.command"))).to_be_visible()
    assert page.evaluate("getComputedStyle(document.querySelector('main')).maxWidth") != "none"
    page.goto(f"{guarded.url}/corral/enter")
    expect(page.get_by_role("heading", name=STRINGS.say("entrance.heading"))).to_be_visible()
    page.goto(f"{guarded.url}/corral/enter#wrong-key")
    expect(page.get_by_text(STRINGS.say("entrance.used"))).to_be_visible()


ATTACKS = """
const to = "TARGET";
const form = document.createElement("form");
form.method = "post"; form.enctype = "text/plain"; form.target = "sink";
form.action = to + "/gradio_api/queue/join";
const field = document.createElement("input");
field.name = '{"session_hash": "evilhash1", "fn_index": 0, "data": [], "x": "'; field.value = '"}';
form.append(field); document.body.append(form);
const quiet = (promise) => promise.catch(() => 0);
window.attack = async () => {
  form.submit();
  const post = { method: "POST", credentials: "include", body: '{"session_hash": "evilhash1"}' };
  for (const path of ["/gradio_api/queue/join", "/gradio_api/component_server", "/corral/enter",
                      "/gradio_api/cancel", "/corral/launch", "/corral/leave"]) {
    await quiet(fetch(to + path, { ...post, mode: "no-cors" }));
    await quiet(fetch(to + path, { ...post, headers: { "Content-Type": "application/json" } }));
  }
  for (const path of ["/config", "/", "/gradio_api/queue/data?session_hash=evilhash1",
                      "/gradio_api/heartbeat/evilhash1", "/theme.css", "/corral/corral.js"]) {
    await quiet(fetch(to + path, { credentials: "include", mode: "no-cors" }));
    await quiet(fetch(to + path, { credentials: "include" }));
    for (const kind of ["img", "script", "iframe", "embed"]) {
      const element = document.createElement(kind);
      element.src = to + path; document.body.append(element);
    }
  }
  new EventSource(to + "/gradio_api/queue/data?session_hash=evilhash1", { withCredentials: true });
  try { new WebSocket(to.replace("http", "ws") + "/gradio_api/queue/join"); } catch {}
};
"""


class Evil(Handler):
    page: bytes

    def do_GET(self) -> None:
        self.answer(200, self.page, {"content-type": "text/html"})


@pytest.fixture
def evil(guarded: Guarded) -> Iterator[int]:
    """Another program's page on this machine; returns its port."""
    script = ATTACKS.replace("TARGET", guarded.url)
    link = f'<a id="link" href="{guarded.url}/">a link</a>'
    body = f'<!doctype html><body>{link}<iframe name="sink"></iframe><script>{script}</script>'

    with serving(Evil, page=body.encode()) as port:
        yield port


# "127.0.0.1" is the same site as ours (cookies go along, SameSite or not), "localhost" another.
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_pages_of_other_addresses_get_nothing(
    name: str, guarded: Guarded, evil: int, page: Page
) -> None:
    page.goto(guarded.key())
    page.wait_for_url(f"{guarded.url}/")
    composer(page)
    page.goto(f"http://{name}:{evil}/")
    page.wait_for_timeout(500)  # what the page of Corral still had under way
    guarded.recorder.answers.clear()
    page.evaluate("attack()")
    until(lambda: len(guarded.recorder.answers) >= 40)
    page.wait_for_timeout(300)  # for those that would come beyond
    answers = list(guarded.recorder.answers)
    assert len(answers) >= 40
    assert {a for a in answers if a[0] < 400} == set()
    assert guarded.services.jobs.running_keys(1) == frozenset()
    assert guarded.services.store.conversations(1) == []


def test_a_link_elsewhere_leads_in_by_one_more_click(
    guarded: Guarded, evil: int, page: Page
) -> None:
    page.goto(guarded.key())
    page.wait_for_url(f"{guarded.url}/")
    page.goto(f"http://localhost:{evil}/")
    page.click("#link")  # another site: a Strict cookie stays behind
    expect(page.get_by_role("heading", name=STRINGS.say("entrance.heading"))).to_be_visible()
    page.get_by_role("link", name=STRINGS.say("entrance.open")).click()
    composer(page)


def test_localhost_leads_to_the_same_page(guarded: Guarded, page: Page) -> None:
    page.goto(guarded.key())
    page.wait_for_url(f"{guarded.url}/")
    page.goto(guarded.url.replace("127.0.0.1", "localhost"))
    page.wait_for_url(f"{guarded.url}/")
    composer(page)


def test_the_data_folder_keeps_no_token(guarded: Guarded, page: Page) -> None:
    key = guarded.key().partition("#")[2]
    page.goto(f"{guarded.url}/corral/enter#{key}")
    page.wait_for_url(f"{guarded.url}/")
    (cookie,) = page.context.cookies()
    folder: Path = guarded.services.settings.data
    kept = b"".join(
        p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "ballast"
    )
    assert cookie["value"].encode() not in kept
    assert key.encode() not in kept
