"""axe-core finds nothing on any screen, in each language and both colours, wide and narrow."""

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.axe import violations
from tests.browser.chips import ORDERS, pick
from tests.browser.conftest import ask
from tests.browser.site import Site

RICH = """# Title

- [x] done

```python
print(1)
```

| a | b |
|--|--|
| 1 | $5 |

\\(x^2\\)"""
DIALOGS = ("safety", "models", "keep", "session", "prompts", "keys")


@pytest.mark.parametrize(
    ("language", "theme", "width"),
    [
        ("en", "light", 1280),
        ("zh-Hans", "dark", 1280),
        ("zh-Hant", "light", 390),
        ("en", "dark", 390),
    ],
)
def test_axe_finds_nothing(
    browser: Browser, site: Site, language: str, theme: str, width: int
) -> None:
    site.engine.say = {"rich": RICH}
    page = browser.new_page(
        viewport={"width": width, "height": 844},
        color_scheme=theme,  # type: ignore[arg-type]
        reduced_motion="reduce",
        locale={"en": "en-GB", "zh-Hans": "zh-CN", "zh-Hant": "zh-TW"}[language],
    )
    page.goto(site.url)
    page.wait_for_selector("#window .empty")
    expect(page.locator("html")).to_have_attribute("lang", language)
    found = {"empty": violations(page)}
    page.click("[data-act=temporary]")
    expect(page.locator("[data-temporary=true]")).to_have_count(1)
    found["temporary"] = violations(page)
    page.click("[data-act=temporary]")
    expect(page.locator("[data-temporary=false]")).to_have_count(1)

    pick(page, ("notes.md", "# Notes"), ("orders.txt", ORDERS))
    page.locator("#files summary").last.click()
    found["attachments"] = violations(page)
    ask(page, "rich")
    page.locator("#window .file summary").first.click()
    page.locator("#window .shield").last.click()
    found["answered"] = violations(page)
    page.locator("#window [popovertarget]").last.click()
    found["menu"] = violations(page)
    page.keyboard.press("Escape")
    page.hover("#window .prompt")
    page.click("#window .prompt [data-act=edit]")
    found["editing"] = violations(page)
    page.click("#window [data-act=cancel-edit]")
    page.keyboard.press("Control+f")
    page.fill("#seek-text", "rich")
    expect(page.locator("#seek-count")).not_to_be_empty()
    found["find"] = violations(page)
    page.keyboard.press("Escape")
    ask(page, "something forbidden")
    expect(page.locator("#window .notice.stop")).to_be_visible()
    found["blocked"] = violations(page)
    for name in ("compare", "tokens", "numbers"):
        page.locator("#window [popovertarget]").first.click()
        found |= opened(page, name, f"#turn-menu [data-panel={name}]")
    if width < 700:
        page.click("#head [data-act=drawer]")
        expect(page.locator("#side")).to_be_visible()
        found["list"] = violations(page)
    for name in DIALOGS:
        control = page.locator(f"[data-panel={name}]:visible")
        if not control.count():  # behind the drawer, or in it
            page.locator("#head [data-act=drawer]").dispatch_event("click")
        found |= opened(page, name, f"[data-panel={name}]:visible")
    page.close()
    assert {name: lines for name, lines in found.items() if lines} == {}


def opened(page: Page, name: str, control: str) -> dict[str, list[str]]:
    """What axe finds in a dialog; it is closed again."""
    page.locator(control).first.dispatch_event("click")
    expect(page.locator(f"#dialog[open] [data-kind={name}]")).to_be_visible()
    found = violations(page)
    page.click("#panel-close")
    expect(page.locator("#dialog[open]")).to_have_count(0)
    return {name: found}
