"""The page's HTML: Jinja templates of `assets/templates`, with escaping always on.

Text becomes markup in no other way. `Markup` comes only from `app.render` and from our own icons.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from app.strings import Strings

ASSETS = Path(__file__).resolve().parent.parent.parent / "assets"


class Templates:
    """Renders a template of the page in one language."""

    def __init__(self, strings: Strings, assets: Path = ASSETS) -> None:
        self.strings = strings
        self._environment = Environment(
            loader=FileSystemLoader(assets / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

        @cache
        def icon(name: str) -> Markup:
            return Markup((assets / "icons" / f"{name}.svg").read_text(encoding="utf-8").strip())

        self._environment.globals.update(say=strings.say, icon=icon)

    def render(self, name: str, /, **values: object) -> str:
        """HTML of `assets/templates/<name>.html` filled with `values`, which it escapes."""
        return self._environment.get_template(f"{name}.html").render(values).strip()
