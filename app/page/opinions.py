"""The dialog Preferences: who wins how often, and what people preferred as data to train on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from app.page.charts import interval_chart
from app.page.payload import Payload
from app.page.templates import Templates
from app.preferences import (
    Aspect,
    Layout,
    example_lines,
    preference_lines,
    rated_rows,
    standings,
)
from app.services import Services

_ASPECTS: tuple[Aspect, ...] = get_args(Aspect)
_LAYOUTS: tuple[Layout, ...] = get_args(Layout)


class OpinionsPanel:
    """Shows the win rates of one user's own ratings and exports them."""

    def __init__(self, services: Services, templates: Templates) -> None:
        self._services = services
        self._templates = templates
        self._say = templates.strings.say

    def view(self, user_id: int, payload: Payload) -> dict[str, object]:
        """A table and a plot for helpfulness and for safety."""
        store = self._services.store
        tables = []
        for aspect in _ASPECTS:
            rows = rated_rows(store, user_id, aspect)
            found = standings(rows)
            tables.append((aspect, len(rows), found, interval_chart(found)))
        num_liked = len(store.liked(user_id))
        html = self._templates.render(
            "panel_opinions", tables=tables, num_liked=num_liked, layouts=_LAYOUTS, aspects=_ASPECTS
        )
        return {"html": html}

    def act(
        self, user_id: int, verb: str, payload: Payload, fields: Mapping[str, str]
    ) -> dict[str, object]:
        """Give the data as a file."""
        store = self._services.store
        if verb == "examples":
            lines, name = example_lines(store, user_id), "corral-examples.jsonl"
        else:
            layout: Layout = "conversations" if fields.get("layout") == _LAYOUTS[1] else "text"
            aspect: Aspect = "safety" if fields.get("aspect") == "safety" else "helpfulness"
            lines = preference_lines(store, user_id, aspect=aspect, layout=layout)
            name = f"corral-preferences-{aspect}.jsonl"
        text = "".join(lines)
        if not text:
            return {"said": self._say("opinions.nothing"), "tone": "error"}
        said = self._say("opinions.exported", count=text.count("\n"), name=name)
        return {"file": {"name": name, "text": text}, "said": said, "tone": "info"}
