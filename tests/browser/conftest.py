"""A real browser on the real page. Skips with the reason where none is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    Playwright,
    Route,
    expect,
    sync_playwright,
)

from launch.browsers import find_browser
from tests.browser.guarded import Guarded, serving
from tests.browser.site import Site

expect.set_options(timeout=30_000)  # patience for a busy machine; nothing here measures time


# Ends with the file: while it lives, no other test of the process can run a loop of its own.
@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    path = find_browser()
    if path is None:
        pytest.skip("no Chrome, Chromium or Edge is installed")
    running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
    yield running
    running.close()


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    running = Site(tmp_path_factory.mktemp("data"))
    yield running
    running.close()


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """A site where nothing has happened. One serves a file; `own_site` asks for one's own."""
    if request.node.get_closest_marker("own_site") is None:
        shared: Site = request.getfixturevalue("shared_site")
        shared.fresh()
        yield shared
        return
    running = Site(tmp_path / "data")
    yield running
    running.close()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with serving(tmp_path_factory.mktemp("data")) as running:
        yield running


class Watch:
    """What a page must never do: errors on its console, requests to elsewhere, broken policies."""

    def __init__(self, page: Page, own: str) -> None:
        self.errors: list[str] = []
        self.foreign: list[str] = []
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith(own) else self._note(r.url))
        page.add_init_script(
            "window.violations = []; window.executed = 0;"
            "window.print = window.alert = window.prompt = () => { window.executed += 1; };"
            "addEventListener('securitypolicyviolation', (e) => violations.push(e.violatedDirective"
            " + ' ' + e.blockedURI));"
        )

    def _note(self, url: str) -> None:
        if not url.startswith(("data:", "blob:")):
            self.foreign.append(url)


@pytest.fixture(scope="module")
def profile(browser: Browser) -> Iterator[BrowserContext]:
    """A browser that remembers Gradio's files from one test of a file to the next."""
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    yield context
    context.close()


@pytest.fixture
def page(profile: BrowserContext, site: Site) -> Iterator[Page]:
    """The page, open and ready; at the end it must have kept to the rules."""
    opened = profile.new_page()
    watch = Watch(opened, site.url)
    opened.goto(site.url)
    opened.wait_for_selector("#window .empty")
    yield opened
    violations, executed = opened.evaluate("localStorage.clear(), [violations, executed]")
    for each in profile.pages:
        each.close()
    assert (watch.errors, watch.foreign, violations, executed) == ([], [], [], 0)
    assert site.door.refused == []


def ask(page: Page, text: str, *, wait: bool = True) -> None:
    """Write a prompt and press Enter; by default, wait until the answer has ended."""
    before = page.locator("#window .turn").count()
    page.fill("#ask", text)
    page.press("#ask", "Enter")
    page.wait_for_function(
        "(before) => document.querySelectorAll('#window .turn').length > before", arg=before
    )
    if wait:
        settle(page)


def settle(page: Page) -> None:
    """Wait until no answer is being written."""
    page.wait_for_function(
        "() => !document.body.matches('.answering, .sending')"
        " && document.querySelector('#window .turn.reply:last-child')"
    )


class Held:
    """Requests of the page that hold some words wait until `release`, as on a slow network."""

    def __init__(self, page: Page, words: str) -> None:
        self._page, self._words = page, words
        self._waiting: list[Route] = []
        page.route("**/queue/join*", self._take)

    def _take(self, route: Route) -> None:
        if self._words in (route.request.post_data or ""):
            self._waiting.append(route)
        else:
            route.continue_()

    def wait(self) -> None:
        """Wait until one is there."""
        while not self._waiting:
            self._page.wait_for_timeout(20)

    def release(self) -> None:
        """Let them go on, and all later ones."""
        self.wait()
        for route in self._waiting:
            route.continue_()
        self._page.unroute("**/queue/join*")


@pytest.fixture
def browser_page_unready(browser: Browser, tmp_path: Path) -> Iterator[tuple[Page, Site]]:
    """A page whose model and guard have not begun to load."""
    running = Site(tmp_path / "data", ready=False)
    opened = browser.new_page(viewport={"width": 1280, "height": 860})
    opened.goto(running.url)
    opened.wait_for_selector("#window .empty")
    yield opened, running
    opened.close()
    running.close()
