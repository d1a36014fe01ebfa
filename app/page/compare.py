"""The dialog Compare: two answers to one prompt side by side, blind if wanted, and their rating."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace

from markupsafe import Markup

from app.chinese import converted
from app.choices import PRESETS, Choices
from app.models import model_choices
from app.page.payload import Payload, PayloadInvalid
from app.page.session import personas
from app.page.templates import Templates
from app.preferences import contestant
from app.render import Renderer
from app.requests import Again
from app.services import Services
from storage.records import OWNER_ID, Comparison, Feedback, MessageRecord

MAX_NOTE_CHARS = 2_000
# As on the page from left to right: the first answer significantly better … the second one.
DEGREES = (-4, -3, -2, -1, 1, 2, 3, 4)


class ComparePanel:
    """Makes a second answer, shows two, keeps which one is preferred."""

    def __init__(self, services: Services, templates: Templates, renderer: Renderer) -> None:
        self._services = services
        self._templates = templates
        self._strings = templates.strings
        self._say = templates.strings.say
        self._renderer = renderer

    def view(self, user_id: int, payload: Payload) -> dict[str, object]:
        """What an answer may be compared with; with `on`, the new one as soon as it is there."""
        if payload.on:
            return self._awaited(user_id, payload)
        store, key = self._services.store, payload.key or ""
        reply = store.message(user_id, key, payload.id or 0)
        versions = [store.message(user_id, key, i) for i in reply.sibling_ids if i != reply.id]
        owner = user_id == OWNER_ID
        choices = model_choices(self._services.settings) if owner else []
        known = personas(self._services, self._strings.language, user_id)
        html = self._templates.render(
            "panel_compare",
            reply=reply,
            others=[
                (one.id, one.version, contestant(one))
                for one in versions
                if one.role == "assistant" and one.content
            ],
            presets=PRESETS,
            personas=[name for name, _ in known],
            models=[choice.name for choice in choices if not choice.problem],
            model=self._services.running.name,
            feedback=reply.feedback or Feedback(),
        )
        return {"html": html}

    def act(
        self, user_id: int, verb: str, payload: Payload, fields: Mapping[str, str]
    ) -> dict[str, object]:
        """Make another answer, put two side by side, or keep a thumb or a rating."""
        if verb == "thumb":
            return self._thumb(user_id, payload, fields)
        if verb == "rate":
            return self._rate(user_id, payload, fields)
        if verb == "answer":
            return self._answer(user_id, payload, fields)
        other = fields.get("other", "")
        if not (other.isascii() and other.isdecimal() and len(other) < 19):
            raise PayloadInvalid("other")
        blind = "blind" in fields
        return self._pair(user_id, payload.key or "", payload.id or 0, int(other), blind)

    def _answer(
        self, user_id: int, payload: Payload, fields: Mapping[str, str]
    ) -> dict[str, object]:
        """Begin a second answer with another preset or model, and wait for it."""
        store, key = self._services.store, payload.key or ""
        reply = store.message(user_id, key, payload.id or 0)
        conversation = store.conversation(user_id, key)
        choices = Choices.of(conversation)
        if (preset := fields.get("preset", "")) in PRESETS:
            choices = replace(choices, preset=preset)
        model = fields.get("model", "")
        if model and model != self._services.running.name and user_id == OWNER_ID:
            self._services.running.use(model)  # prompts wait until it is loaded
        known = dict(personas(self._services, self._strings.language, user_id))
        asked = Again(
            key,
            reply.parent_id or 0,
            choices=choices.to_json(),
            system_prompt=known.get(fields.get("persona", "")),
        )
        job = self._services.jobs.start(user_id, asked)
        return self._waiting(reply.id, job.reply_id, "blind" in fields)

    def _waiting(self, reply_id: int, other: int, blind: bool) -> dict[str, object]:
        html = self._templates.render("line", text=self._say("compare.waiting"))
        poll = {"mode": "compare", "id": reply_id, "parent": other, "on": True}
        return {"into": "pair", "html": html, "poll": {**poll, "text": "blind" if blind else ""}}

    def _awaited(self, user_id: int, payload: Payload) -> dict[str, object]:
        key, other, blind = payload.key or "", payload.parent or 0, payload.text == "blind"
        job = self._services.jobs.running(user_id, key)
        if job is not None and job.reply_id == other:
            return self._waiting(payload.id or 0, other, blind)
        return self._pair(user_id, key, payload.id or 0, other, blind)

    def _pair(
        self, user_id: int, key: str, reply_id: int, other: int, blind: bool
    ) -> dict[str, object]:
        pair = sorted((reply_id, other))
        if blind and secrets.randbelow(2):
            pair.reverse()
        first_id, second_id = pair
        compare = self._services.store.compare
        made = compare(user_id, key, first_id=first_id, second_id=second_id, blind=blind)
        return self._shown(user_id, key, made)

    def _shown(
        self, user_id: int, key: str, comparison: Comparison, said: str = ""
    ) -> dict[str, object]:
        message = self._services.store.message
        language = Choices.of(self._services.store.conversation(user_id, key)).shown_language
        rated = comparison.helpfulness is not None or comparison.safety is not None
        html = self._templates.render(
            "compare_pair",
            comparison=comparison,
            named=rated or not comparison.blind,
            sides=[
                (letter, contestant(one), self._body(one, language), one.version)
                for letter, one in zip(
                    "AB",
                    (
                        message(user_id, key, comparison.first_id),
                        message(user_id, key, comparison.second_id),
                    ),
                    strict=True,
                )
            ],
            degrees=DEGREES,
            aspects=[
                ("helpfulness", comparison.helpfulness),
                ("safety", comparison.safety),
            ],
        )
        return {"into": "pair", "html": html, "said": said, "tone": "info"}

    def _body(self, reply: MessageRecord, language: str) -> Markup:
        """An answer as the transcript shows it; what the guard held back is not in it."""
        if not reply.content:
            return Markup(self._templates.render("line", text=self._say("compare.empty")))
        return Markup(self._renderer.html(converted(reply.content, language)))

    def _rate(self, user_id: int, payload: Payload, fields: Mapping[str, str]) -> dict[str, object]:
        degrees = {name: _degree(fields.get(name, "")) for name in ("helpfulness", "safety")}
        if not any(degrees.values()):
            return {"said": self._say("compare.choose_first"), "tone": "error"}
        rated = self._services.store.rate(
            user_id,
            payload.id or 0,
            **degrees,
            note=fields.get("note", "")[:MAX_NOTE_CHARS],
        )
        return self._shown(user_id, payload.key or "", rated, self._say("compare.rated"))

    def _thumb(
        self, user_id: int, payload: Payload, fields: Mapping[str, str]
    ) -> dict[str, object]:
        """A thumb (or none any more) and a note on the answer itself."""
        thumb = {"1": 1, "-1": -1}.get(fields.get("thumb", ""), 0)
        given = Feedback(thumb, fields.get("note", "")[:MAX_NOTE_CHARS].strip())
        key, reply_id = payload.key or "", payload.id or 0
        self._services.store.set_feedback(user_id, key, reply_id, given)
        said = self._say("compare.noted" if given != Feedback() else "compare.unnoted")
        return {"said": said, "tone": "info"}


def _degree(text: str) -> int | None:
    return int(text) if text in map(str, DEGREES) else None
