"""The dialog Tokens: an answer token by token, what else could have come, going on from there."""

from __future__ import annotations

from collections.abc import Mapping

from app.page.payload import Payload
from app.page.templates import Templates
from app.services import Services
from app.token_view import NotRetraceable, TokenViews
from engine.base import Engine
from storage.records import MessageRecord

MAX_TOKENS = 4_000  # shown; a longer answer is shown from its beginning


class TokensPanel:
    """Shows the tokens of one answer and begins branches."""

    def __init__(self, services: Services, templates: Templates) -> None:
        self._services = services
        self._templates = templates
        self._say = templates.strings.say
        self._views = TokenViews()

    def view(self, user_id: int, payload: Payload) -> dict[str, object]:
        """All tokens, coloured by how likely they were."""
        try:
            engine, path, reply = self._subject(user_id, payload)
            tokens = self._views.tokens(engine, path, reply)
        except NotRetraceable as error:
            return {"html": self._sheet(payload.id or 0, why=self._say(f"tokens.{error.code}"))}
        return {"html": self._sheet(reply.id, tokens=tokens[:MAX_TOKENS])}

    def act(
        self, user_id: int, verb: str, payload: Payload, fields: Mapping[str, str]
    ) -> dict[str, object]:
        """Show what could stand in the place `parent`, or go on with the token that was chosen."""
        place = payload.parent or 0
        try:
            engine, path, reply = self._subject(user_id, payload)
            if verb == "branch":
                request = self._views.branch(
                    engine,
                    path,
                    reply,
                    key=payload.key or "",
                    place=place,
                    token_id=_whole(fields.get("token", "")),
                )
                self._services.jobs.start(user_id, request)
                return {"close": True}
            offered = self._views.alternatives(engine, path, reply, place)
        except NotRetraceable as error:
            return {"said": self._say(f"tokens.{error.code}"), "tone": "error"}
        html = self._templates.render(
            "tokens_offered", reply_id=reply.id, place=place, offered=offered
        )
        return {"into": "offered", "html": html}

    def _subject(
        self, user_id: int, payload: Payload
    ) -> tuple[Engine, list[MessageRecord], MessageRecord]:
        engine = self._services.engine.peek()
        if engine is None:
            raise NotRetraceable("engine")
        store, key = self._services.store, payload.key or ""
        reply = store.message(user_id, key, payload.id or 0)
        return engine, store.path(user_id, key, leaf_id=reply.parent_id), reply

    def _sheet(self, reply_id: int, *, tokens: object = (), why: str = "") -> str:
        return self._templates.render("panel_tokens", reply_id=reply_id, tokens=tokens, why=why)


def _whole(text: str) -> int:
    """A token id from a form; one that no token has where it is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 12 else -1
