"""Assets stay small and hold no leftovers: style and script within bounds, each name in use."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from app.strings import FOLDER, SOURCE_LANGUAGE, read_language

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "assets"
MAX_LINES = 1_800  # of CSS and JS together, without blank ones
# Written by Gradio, and by Pygments for code (`k-` and the kind of a token).
FOREIGN = re.compile(r"gradio-container|html-container|k-\w+")


def texts(*patterns: str) -> list[str]:
    return [path.read_text(encoding="utf-8") for p in patterns for path in sorted(ROOT.glob(p))]


def test_style_and_script_stay_small() -> None:
    lines = [line for text in texts("assets/*.css", "assets/*.js") for line in text.splitlines()]
    assert 0 < sum(bool(line.strip()) for line in lines) <= MAX_LINES


def test_every_selector_is_of_something_on_the_page() -> None:
    users = "".join(
        texts(
            "assets/*.js", "assets/templates/*", "assets/pages/*", "assets/icons/*", "app/**/*.py"
        )
    )
    known = set(re.findall(r"[\w-]+", users))
    unused = set()
    for style in texts("assets/*.css"):
        rules = re.sub(r"/\*.*?\*/", "", style, flags=re.S)
        for selector in re.findall(r"([^{};]+)\{", rules):
            for name in re.findall(r"[.#]([a-zA-Z][\w-]*)", selector):
                numbered = name.rstrip("0123456789")  # "heat3" is written as "heat" and a number
                if not FOREIGN.fullmatch(name) and not {name, numbered} & known:
                    unused.add(name)
    assert unused == set()


def said_in_python() -> Iterator[str]:
    """The strings of the app as patterns; what an f-string fills in may be anything."""
    for text in texts("app/**/*.py"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.JoinedStr):
                parts = (p.value if isinstance(p, ast.Constant) else None for p in node.values)
                yield "".join(".+" if part is None else re.escape(str(part)) for part in parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.escape(node.value)


def said_in_templates() -> Iterator[str]:
    for text in texts("assets/templates/*"):
        for begun, joined in re.findall(r'"([\w.]+)"(\s*~)?', text):
            yield re.escape(begun) + (".+" if joined else "")


def test_every_sentence_is_said_somewhere() -> None:
    by_script = {
        f"page.js.{name}" for name in re.findall(r"words\.(\w+)", "".join(texts("assets/*.js")))
    }
    by_page = {
        f"{page}.{name}"
        for page in ("entrance", "signin")
        for name in re.findall(r"\{(\w+)\}", "".join(texts("assets/pages/*")))
    }
    # Of a pattern some words are its own: ".+\\..+" would be every key.
    own_words = re.compile(r"[a-z_]{3,}\\\.|\\\.[a-z_]{3,}")
    patterns = {p for p in (*said_in_python(), *said_in_templates()) if own_words.search(p)}
    said = re.compile("|".join(patterns))
    keys = read_language(FOLDER / SOURCE_LANGUAGE)
    # The details of errors are found by their words (`app/details.py`), not by a key.
    rest = {key for key in keys if not key.startswith("detail.")} - by_script - by_page
    assert sorted(key for key in rest if not said.fullmatch(key)) == []
