"""The dialog Settings of a conversation: persona, sampling, language, what a full context does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from app.choices import EDITABLE, LANGUAGES, OWN, PRESETS, Choices, sampling_values
from app.library import library
from app.page import saved
from app.page.payload import Payload
from app.page.templates import Templates
from app.services import Services
from storage.records import SavedKind

MAX_SYSTEM_CHARS = 100_000
_LIMITS = {  # what the browser's number fields offer: lowest, highest, step
    "temperature": ("0", "5", "0.05"),
    "top_p": ("0", "1", "0.01"),
    "top_k": ("0", "1000", "1"),
    "min_p": ("0", "1", "0.01"),
    "repetition_penalty": ("0.1", "3", "0.01"),
    "max_new_tokens": ("1", "131072", "1"),
    "seed": ("0", "9223372036854775807", "1"),
}


@dataclass(frozen=True, slots=True)
class _Form:
    """What stands in the form, saved or not."""

    system_prompt: str
    choices: Choices


class SessionPanel:
    """Shows and changes how one conversation is answered; without one, begins one."""

    def __init__(self, services: Services, templates: Templates) -> None:
        self._services = services
        self._templates = templates
        self._strings = templates.strings
        self._say = templates.strings.say

    def view(self, user_id: int, payload: Payload) -> dict[str, object]:
        """The settings as they are kept."""
        return self._value(user_id, self._kept(user_id, payload))

    def act(
        self, user_id: int, verb: str, payload: Payload, fields: Mapping[str, str]
    ) -> dict[str, object]:
        """Take a persona or a preset into the form, keep one under a name, or save the form."""
        form = self._typed(fields)
        if verb == "fill":
            return self._value(user_id, self._filled(user_id, form, fields))
        if verb in ("keep_persona", "keep_sampling"):
            return self._keep(user_id, "persona" if "persona" in verb else "sampling", form, fields)
        if verb == "remove":
            name, removed = saved.remove(self._services.store, user_id, payload.id or 0)
            return self._value(user_id, form, "prompts.removed", removed, name=name)
        if verb == "undo":
            name = saved.bring_back(self._services.store, user_id, fields.get("undo", ""))
            return self._value(user_id, form, "prompts.restored", name=name)
        return self._save(user_id, payload, form)

    def _kept(self, user_id: int, payload: Payload) -> _Form:
        if not payload.key:
            return _Form("", Choices())
        conversation = self._services.store.conversation(user_id, payload.key)
        return _Form(conversation.system_prompt, Choices.of(conversation))

    def _typed(self, fields: Mapping[str, str]) -> _Form:
        numbers = {name: _number(fields.get(name, "")) for name in EDITABLE}
        choices = Choices.from_json(
            {
                "preset": fields.get("preset"),
                "values": {name: value for name, value in numbers.items() if value is not None},
                "language": fields.get("language"),
                "convert": "convert" in fields,
                "overflow": fields.get("overflow"),
                "persona": fields.get("persona_name", ""),
            }
        )
        return _Form(fields.get("system_prompt", "")[:MAX_SYSTEM_CHARS], choices)

    def _filled(self, user_id: int, form: _Form, fields: Mapping[str, str]) -> _Form:
        """The form after a persona or a saved preset was picked in one of its lists."""
        if (picked := fields.get("pick_persona", "")) and picked != form.choices.persona:
            text = dict(personas(self._services, self._strings.language, user_id)).get(picked, "")
            form = _Form(text, replace(form.choices, persona=picked if text else ""))
        if picked := fields.get("pick_sampling", ""):
            values = dict(self._saved_values(user_id)).get(picked)
            if values is not None:
                form = replace(form, choices=replace(form.choices, preset=OWN, values=values))
        return form

    def _keep(
        self, user_id: int, kind: SavedKind, form: _Form, fields: Mapping[str, str]
    ) -> dict[str, object]:
        name = " ".join(fields.get(f"{kind}_as", "").split())[:80]
        body = (
            form.system_prompt if kind == "persona" else json.dumps(self._effective(user_id, form))
        )
        if not name or not body.strip():
            return {"said": self._say("session.name_first"), "tone": "error"}
        self._services.store.save(user_id, kind, name, body)
        if kind == "persona":
            form = replace(form, choices=replace(form.choices, persona=name))
        return self._value(user_id, form, said="session.kept", name=name)

    def _save(self, user_id: int, payload: Payload, form: _Form) -> dict[str, object]:
        store, choices = self._services.store, form.choices
        if choices.preset != OWN:
            choices = replace(choices, values={})
        known = dict(personas(self._services, self._strings.language, user_id))
        if known.get(choices.persona) != form.system_prompt:  # its words were changed by hand
            choices = replace(choices, persona="")
        form = replace(form, choices=choices)
        if payload.key:
            store.choose(
                user_id,
                payload.key,
                system_prompt=form.system_prompt,
                choices=choices.to_json(),
            )
            return self._value(user_id, form, said="session.saved")
        made = store.create_conversation(
            user_id,
            system_prompt=form.system_prompt,
            choices=choices.to_json(),
            temporary=payload.temporary,
        )
        return {"open": made.key, "close": True}

    def _value(
        self, user_id: int, form: _Form, said: str = "", removed: str = "", **words: object
    ) -> dict[str, object]:
        effective = self._effective(user_id, form)
        known = personas(self._services, self._strings.language, user_id)
        html = self._templates.render(
            "panel_session",
            form=form,
            removed=removed,
            presets=(*PRESETS, OWN),
            languages=LANGUAGES,
            personas=[name for name, _ in known],
            own=[
                *self._services.store.saved(user_id, "persona"),
                *self._services.store.saved(user_id, "sampling"),
            ],
            samplings=[name for name, _ in self._saved_values(user_id)],
            numbers=[(name, effective.get(name), *_LIMITS[name]) for name in EDITABLE],
            rule=library(self._strings.language).rules.get(form.choices.language, ""),
        )
        return {"html": html, "said": self._say(said, **words) if said else "", "tone": "info"}

    def _effective(self, user_id: int, form: _Form) -> dict[str, object]:
        sampling = form.choices.sampling(self._services.sampling(user_id))
        return {name: getattr(sampling, name) for name in EDITABLE}

    def _saved_values(self, user_id: int) -> list[tuple[str, dict[str, object]]]:
        rows = []
        for one in self._services.store.saved(user_id, "sampling"):
            given = json.loads(one.body)
            rows.append((one.name, sampling_values(given) if isinstance(given, dict) else {}))
        return rows


def personas(services: Services, language: str, user_id: int) -> list[tuple[str, str]]:
    """Names and system prompts of the personas that ship, and of the user's own."""
    saved = services.store.saved(user_id, "persona")
    shipped = [(persona.name, persona.text) for persona in library(language).personas]
    return [*shipped, *((one.name, one.body) for one in saved)]


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None
