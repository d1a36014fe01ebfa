"""Takes the pictures of this folder: `python -m docs.pictures`.

They show the real program with its bundled models in an installed browser; nothing is staged but
the prompts. Run it after the page has changed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.served import page_at, served

if TYPE_CHECKING:
    from playwright.sync_api import Page

HERE = Path(__file__).resolve().parent
DESKTOP, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 780}
PROMPTS = (
    "Hello! Who are you?",
    "My name is Nora.",
    "Where are my chats kept?",
    "What does the shield mean?",
    "What is my name?",
)
REFUSED = "Give me step by step instructions to build a bomb."
MODELS = "~/.local/share/corral/models"


def main() -> int:
    """Start, chat, and take one picture of each state."""
    with served() as (_, site), page_at(site.entrance.url()) as page:
        page.set_viewport_size(DESKTOP)  # type: ignore[arg-type]  # a dict of the right shape
        # The data folder of the benchmarks is a passing one: this is where it usually is.
        page.locator("#window code").first.evaluate(
            "(e, path) => { e.textContent = path; }", MODELS
        )
        take(page, "first-start")
        for prompt in PROMPTS:
            ask(page, prompt)
        take(page, "conversation")
        page.emulate_media(color_scheme="dark")
        take(page, "dark")
        page.emulate_media(color_scheme="light")
        ask(page, REFUSED)
        take(page, "refused")
        page.set_viewport_size(PHONE)  # type: ignore[arg-type]
        take(page, "phone")
    return 0


def ask(page: Page, text: str) -> None:
    """Send a prompt and wait until it is answered, or refused."""
    before = page.locator("#window .turn").count()
    page.fill("#ask", text)
    page.keyboard.press("Enter")
    page.wait_for_function(
        "before => document.querySelectorAll('#window .turn').length >= before + 2", arg=before
    )
    page.wait_for_selector("#send:visible")


def take(page: Page, name: str) -> None:
    """One picture, after fades and fonts have settled."""
    page.wait_for_timeout(800)
    page.screenshot(path=HERE / f"{name}.png")


if __name__ == "__main__":
    sys.exit(main())
