"""The dialog Prompts: the library by use case, one's own prompts, and their variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.library import USE_CASES, filled, library, variables
from app.page import saved
from app.page.payload import Payload
from app.page.templates import Templates
from app.services import Services

MAX_PROMPT_CHARS = 100_000


@dataclass(frozen=True, slots=True)
class _Entry:
    """A prompt in the list. `ref` is "b" and a place in the library, or "s" and a saved id."""

    ref: str
    use_case: str
    name: str
    text: str


class PromptsPanel:
    """Shows the library, fills in variables, keeps own prompts."""

    def __init__(self, services: Services, templates: Templates) -> None:
        self._services = services
        self._templates = templates
        self._say = templates.strings.say

    def view(self, user_id: int, payload: Payload) -> dict[str, object]:
        """The list."""
        return self._list(user_id)

    def act(
        self, user_id: int, verb: str, payload: Payload, fields: Mapping[str, str]
    ) -> dict[str, object]:
        """Open one, put it into the box, or keep and remove one's own."""
        if verb == "list":
            return self._list(user_id)
        if verb == "new":
            return self._opened(_Entry("", "", "", fields.get("text", "")), editing=True)
        if verb == "save":
            return self._save(user_id, fields)
        if verb == "remove":
            name, removed = saved.remove(self._services.store, user_id, payload.id or 0)
            return self._list(user_id, self._say("prompts.removed", name=name), removed)
        if verb == "undo":
            name = saved.bring_back(self._services.store, user_id, fields.get("undo", ""))
            return self._list(user_id, self._say("prompts.restored", name=name))
        entry = self._entry(user_id, fields.get("ref", ""))
        if entry is None:
            return self._list(user_id)
        if verb == "use":
            values = {name.removeprefix("var:"): value for name, value in fields.items()}
            return {"insert": filled(entry.text, values), "close": True}
        return self._opened(entry, editing=verb == "edit")

    def _entries(self, user_id: int) -> list[_Entry]:
        own = [
            _Entry(f"s{one.id}", one.use_case, one.name, one.body)
            for one in self._services.store.saved(user_id, "prompt")
        ]
        shipped = [
            _Entry(f"b{n}", prompt.use_case, prompt.name, prompt.text)
            for n, prompt in enumerate(library(self._templates.strings.language).prompts)
        ]
        return [*own, *shipped]

    def _entry(self, user_id: int, ref: str) -> _Entry | None:
        return next((one for one in self._entries(user_id) if one.ref == ref), None)

    def _list(self, user_id: int, said: str = "", removed: str = "") -> dict[str, object]:
        entries = self._entries(user_id)
        groups = [
            (use_case, [one for one in entries if one.use_case == use_case])
            for use_case in USE_CASES
        ]
        html = self._templates.render("panel_prompts", groups=groups, removed=removed)
        return {"html": html, "said": said, "tone": "info"}

    def _opened(self, entry: _Entry, *, editing: bool) -> dict[str, object]:
        html = self._templates.render(
            "panel_prompt",
            entry=entry,
            editing=editing,
            variables=variables(entry.text),
            use_cases=USE_CASES,
            own=entry.ref.startswith("s"),
            example="{{name}}",
        )
        return {"html": html}

    def _save(self, user_id: int, fields: Mapping[str, str]) -> dict[str, object]:
        name = " ".join(fields.get("name", "").split())[:80]
        text = fields.get("text", "")[:MAX_PROMPT_CHARS]
        use_case = fields.get("use_case", "")
        if not name or not text.strip() or use_case not in USE_CASES:
            return {"said": self._say("prompts.name_first"), "tone": "error"}
        self._services.store.save(user_id, "prompt", name, text, use_case=use_case)
        return self._list(user_id, said=self._say("prompts.saved", name=name))
