"""The context meter under the box: what the conversation and the draft take, before it is sent."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import gradio as gr

from app.choices import Choices, instructions
from app.context import ConversationFull, fit, reserved, with_draft
from app.page.payload import Payload, user_of
from app.page.templates import Templates
from app.services import Services
from engine.base import Engine
from engine.errors import ContextFull
from storage.records import Conversation, MessageRecord

_ON_LOAD = (
    "(window.corral = window.corral || []).push({serves: 'meter', props, watch, trigger,"
    " events: ['measure']})"
)

log = logging.getLogger("corral.page")


def meter_pane() -> gr.HTML:
    """The component that takes drafts and gives what they take."""
    return gr.HTML(html_template="", js_on_load=_ON_LOAD, elem_id="measure", visible="hidden")


class Meter:
    """Counts with the tokenizer of the model that would answer."""

    def __init__(self, services: Services, templates: Templates) -> None:
        self._services = services
        self._say = templates.strings.say

    def connect(self, pane: gr.HTML, **options: Any) -> None:
        """Let `pane` ask."""
        pane.measure(self.measure, outputs=[pane], **options)

    async def measure(self, event: gr.EventData, request: gr.Request) -> dict[str, object]:
        """What would be read if the draft were sent now; nothing while the model loads."""
        try:
            payload, user_id = Payload.of(event), user_of(request)
            draft, attached = payload.text, payload.attached
            return await asyncio.to_thread(self.value, user_id, payload.key, draft, attached)
        except Exception as error:
            log.warning("a draft could not be measured", exc_info=error)
            return {"line": "", "share": 0, "tone": ""}

    def value(
        self, user_id: int, key: str | None, text: str, attached: int = 0
    ) -> dict[str, object]:
        """The meter's line, its share of the context in percent, and a tone. Reads the store.

        `attached`: tokens of the files beside the draft, which were counted when they were taken.
        """
        engine = self._services.engine.peek()
        if engine is None:
            return {"line": "", "share": 0, "tone": ""}
        conversation: Conversation | None = None
        path: list[MessageRecord] = []
        if key:
            conversation = self._services.store.conversation(user_id, key)
            path = self._services.store.path(user_id, key)
        return self._measured(engine, user_id, conversation, with_draft(path, text), attached)

    def _measured(
        self,
        engine: Engine,
        user_id: int,
        conversation: Conversation | None,
        path: list[MessageRecord],
        attached: int,
    ) -> dict[str, object]:
        choices = Choices.of(conversation) if conversation else Choices()
        told = conversation.system_prompt if conversation else ""
        info = engine.info()
        words: dict[str, object] = {"all": f"{info.context_length:,}"}
        sampling = choices.sampling(self._services.sampling(user_id))
        try:
            fitted = fit(
                path,
                system_prompt=instructions(told, choices, self._services.library),
                count_tokens=engine.count_tokens,
                context_length=info.context_length - attached,
                num_reserved=reserved(sampling.max_new_tokens, info.context_length),
                fingerprint=info.fingerprint,
                overflow=choices.overflow,
            )
        except ConversationFull:
            return {"line": self._say("meter.stopped"), "share": 100, "tone": "stop"}
        except ContextFull as error:
            words["used"] = f"{error.num_prompt + attached:,}"
            return {"line": self._say("meter.too_long", **words), "share": 100, "tone": "stop"}
        num_tokens = fitted.num_tokens + attached
        words["used"] = f"{num_tokens:,}"
        share = round(100 * num_tokens / info.context_length)
        if fitted.num_left_out:
            line = self._say("meter.dropped", count=fitted.num_left_out, **words)
            return {"line": line, "share": share, "tone": "warn"}
        return {"line": self._say("meter.counted", **words), "share": share, "tone": ""}
