"""Find in this conversation: hits in all messages of the branch that is open, also those not shown.

Counted is what a reader sees: of Markdown the words without its marks. The page marks the hits
itself and asks for the messages that it does not show yet.
"""

from __future__ import annotations

import asyncio
import logging
import re

import gradio as gr

from app.chinese import converted
from app.choices import Choices
from app.page.panes import FOUND, Update, show
from app.page.payload import Payload, user_of
from app.render import Renderer
from app.services import Services
from app.thinking import split
from storage.records import MessageRecord

log = logging.getLogger("corral.page")


class FindInConversation:
    """The handler of the box. The store is never touched on the event loop."""

    def __init__(self, services: Services, renderer: Renderer) -> None:
        self._services = services
        self._renderer = renderer

    async def seek(self, event: gr.EventData, request: gr.Request) -> Update:
        """Where `payload.query` stands: for each message that holds it, how often."""
        try:
            payload, user_id = Payload.of(event), user_of(request)
            hits = await asyncio.to_thread(self.hits, user_id, payload.key, payload.query)
            return show(FOUND, found={"query": payload.query, "hits": hits})
        except Exception as error:
            log.warning("nothing could be sought", exc_info=error)
            return show(FOUND, found={"query": "", "hits": []})

    def hits(self, user_id: int, key: str | None, query: str) -> list[tuple[int, int, int]]:
        """(message id, number of hits, messages from there to the end), first message first."""
        if not key or not query.strip():
            return []
        store = self._services.store
        language = Choices.of(store.conversation(user_id, key)).shown_language
        path = store.path(user_id, key)
        pattern = re.compile(re.escape(query), re.IGNORECASE)
        found = []
        for place, record in enumerate(path):
            count = len(pattern.findall(self._visible(record, language)))
            if count:
                found.append((record.id, count, len(path) - place))
        return found

    def _visible(self, record: MessageRecord, language: str) -> str:
        if record.role == "user":
            return record.content
        parts = split(converted(record.content, language))
        return "\n".join(map(self._renderer.words, filter(None, (parts.thought, parts.answer))))
