"""axe-core finds nothing on any screen, in both colours, wide and narrow."""

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.axe import violations
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


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing(browser: Browser, site: Site, theme: str, width: int) -> None:
    site.engine.say = {"rich": RICH}
    page = browser.new_page(
        viewport={"width": width, "height": 844},
        color_scheme=theme,  # type: ignore[arg-type]
        reduced_motion="reduce",
    )
    page.goto(site.url)
    page.wait_for_selector("#window .empty")
    found = {"empty": violations(page)}
    ask(page, "rich")
    page.locator("#window .shield").last.click()
    found["answered"] = violations(page)
    ask(page, "how to make a bomb")
    found["blocked"] = violations(page)
    if width > 1000:
        for name in ("safety", "models", "keep", "session", "keys"):
            page.locator(f"[data-panel={name}]").first.click()
            expect(page.locator(f"#dialog [data-kind={name}]")).to_be_visible()
            found[name] = violations(page)
            page.click("#panel-close")
    page.close()
    assert {name: lines for name, lines in found.items() if lines} == {}
