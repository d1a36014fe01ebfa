"""axe-core finds nothing on any screen, in both colours, wide and narrow."""

from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import ask
from tests.browser.site import Site

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RICH = """# Title

- [x] done

```python
print(1)
```

| a | b |
|--|--|
| 1 | $5 |

\\(x^2\\)"""


def violations(page: Page) -> list[str]:
    """What axe reports, a line each: the rule, and where."""
    page.evaluate(AXE)
    found = page.evaluate(
        "(tags) => axe.run(document, {runOnly: {type: 'tag', values: tags}})", RULES
    )
    return [
        f"{rule['id']}: {node['html'][:120]}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


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
