"""The pages without Gradio: entrance, sign-in, invitation. None holds a secret."""

from __future__ import annotations

import html
from collections.abc import Mapping

from app.static_files import ASSETS, StaticFiles
from app.strings import Strings

_PAGES = ASSETS / "pages"


def bare_page(
    name: str, words: Mapping[str, str], strings: Strings, files: StaticFiles, *, script: str
) -> bytes:
    """`assets/pages/NAME.html` in the frame of all, its gaps filled in the language of the page."""
    filled = (_PAGES / "frame.html").read_text(encoding="utf-8")
    filled = filled.replace("{main}", (_PAGES / f"{name}.html").read_text(encoding="utf-8").strip())
    every = {
        "language": strings.language,
        "icon": files.url("icons/corral.svg"),
        "style": files.url("entrance.css"),
        "script": files.url(script),
        "failed": strings.say("entrance.failed"),
        "script_needed": strings.say("entrance.script_needed"),
    }
    for key, value in {**words, **every}.items():
        filled = filled.replace("{" + key + "}", html.escape(value))
    return filled.encode()
