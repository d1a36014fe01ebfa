"""Opening, sending and following: the handlers around one conversation.

History is never an input. A handler gets ids and a text, takes the user from the request, starts
or finds the job in `services.jobs`, and follows it; closing the page ends the following only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import gradio as gr

from app.job import Job
from app.page.conversations import ConversationList
from app.page.live import LiveAnswer
from app.page.panes import EVERYTHING, LIVE, Update, items, show
from app.page.payload import Payload, user_of
from app.page.shell import Shell
from app.page.templates import Templates
from app.page.viewers import Viewer, Viewers, viewer_of
from app.page.window import ConversationView
from app.render import Renderer
from app.requests import Again, Continue, Send
from app.services import Services
from storage.records import NotFound

log = logging.getLogger("corral.page")

Act = Callable[[Viewer, Payload], AsyncIterator[Update]]


class Chat:
    """The handlers of one conversation. Each yields updates for all panes."""

    def __init__(
        self,
        services: Services,
        templates: Templates,
        *,
        shell: Shell,
        listing: ConversationList,
        renderer: Renderer,
        viewers: Viewers,
    ) -> None:
        self._services = services
        self._strings = templates.strings
        self._shell = shell
        self._listing = listing
        self._renderer = renderer
        self._conversation = ConversationView(services, templates, shell=shell, renderer=renderer)
        self._viewers = viewers

    async def view(self, event: gr.EventData, request: gr.Request) -> AsyncIterator[Update]:
        """Show a conversation (or the first screen), and follow it if it is being answered."""
        async for update in self._told(event, request, self._view):
            yield update

    async def version(self, event: gr.EventData, request: gr.Request) -> AsyncIterator[Update]:
        """Show another version of a message, with what followed it."""
        async for update in self._told(event, request, self._version):
            yield update

    async def send(self, event: gr.EventData, request: gr.Request) -> AsyncIterator[Update]:
        """Take a prompt, answer it, follow the answer."""
        async for update in self._told(event, request, self._start(_sent)):
            yield update

    async def again(self, event: gr.EventData, request: gr.Request) -> AsyncIterator[Update]:
        """Answer a prompt once more, beside the answers that are there."""
        async for update in self._told(event, request, self._start(_again)):
            yield update

    async def resume(self, event: gr.EventData, request: gr.Request) -> AsyncIterator[Update]:
        """Write on where an answer broke off."""
        async for update in self._told(event, request, self._start(_continued)):
            yield update

    async def anyway(self, event: gr.EventData, request: gr.Request) -> AsyncIterator[Update]:
        """Answer a prompt, or write an answer on, although the guard stopped it."""
        async for update in self._told(event, request, self._start(_anyway)):
            yield update

    async def appeal(self, event: gr.EventData, request: gr.Request) -> AsyncIterator[Update]:
        """Note that the guard was wrong about a message."""
        async for update in self._told(event, request, self._appeal):
            yield update

    async def stop(self, event: gr.EventData, request: gr.Request) -> None:
        """End the answer that is being written. What was shown stays."""
        self._services.jobs.stop(user_of(request), Payload.of(event).key or "")

    # -- inside --

    async def _told(
        self, event: gr.EventData, request: gr.Request, act: Act
    ) -> AsyncIterator[Update]:
        """Do what was asked; an error becomes a message on the page, never Gradio's."""
        client_key = ""
        try:
            payload = Payload.of(event)
            client_key = payload.client_key
            viewer = viewer_of(payload, request)
            async for update in act(viewer, payload):
                yield update
        except Exception as error:
            log.warning("the page could not do what was asked", exc_info=error)
            yield show(EVERYTHING, note=self._shell.error(error, client_key=client_key))

    def _start(self, asked: Callable[[Payload], Send | Again | Continue]) -> Act:
        async def act(viewer: Viewer, payload: Payload) -> AsyncIterator[Update]:
            self._viewers.ask(viewer)
            start = self._services.jobs.start
            job = await asyncio.to_thread(start, viewer.user_id, asked(payload))
            async for update in self._show(viewer, job.key, payload):
                yield update

        return act

    async def _appeal(self, viewer: Viewer, payload: Payload) -> AsyncIterator[Update]:
        appeal = self._services.guarding.appeal
        await asyncio.to_thread(appeal, viewer.user_id, payload.key or "", payload.id or 0)
        yield show(EVERYTHING, note=self._shell.told(self._strings.say("safety.appealed")))

    async def _version(self, viewer: Viewer, payload: Payload) -> AsyncIterator[Update]:
        self._viewers.ask(viewer)
        key, message_id = payload.key or "", payload.id or 0
        select = self._services.store.select_version
        await asyncio.to_thread(select, viewer.user_id, key, message_id)
        async for update in self._show(viewer, key, replace(payload, id=None)):
            yield update

    async def _view(self, viewer: Viewer, payload: Payload) -> AsyncIterator[Update]:
        self._viewers.ask(viewer)
        if payload.key and payload.id:  # a search result: make the branch that holds it active
            select = self._services.store.select_version
            await asyncio.to_thread(select, viewer.user_id, payload.key, payload.id)
        try:
            async for update in self._show(viewer, payload.key, payload):
                yield update
        except NotFound as error:  # an old address: the first screen, and why
            async for update in self._show(viewer, None, payload):
                yield update
            yield show(EVERYTHING, note=self._shell.error(error))

    async def _show(
        self, viewer: Viewer, key: str | None, payload: Payload
    ) -> AsyncIterator[Update]:
        """Paint a conversation; if it is being answered, the page then asks to follow."""
        user_id = viewer.user_id
        job = self._services.jobs.running(user_id, key) if key else None
        value = self._conversation.value
        away = viewer.away
        values = await asyncio.to_thread(value, user_id, key, payload, job, away=away)
        values |= {
            "listing": await self._listing.value(user_id, payload),
            "foot": self._shell.foot(away=away),
            "live": self._live(job).value(job.view()) if job else {"reply": 0},
        }
        if not self._viewers.may_paint(viewer, key):
            # The page has moved on; it must still hear that its message was taken.
            values = {"note": items([], accepted=payload.client_key)}
        yield show(EVERYTHING, **values)

    async def follow(self, event: gr.EventData, request: gr.Request) -> AsyncIterator[Update]:
        """Paint the growing answer until it has ended or the page shows something else."""
        payload = Payload.of(event)
        viewer, key, reply_id = viewer_of(payload, request), payload.key or "", payload.id or 0
        self._viewers.follow(viewer)
        job = self._services.jobs.running(viewer.user_id, key)
        if job is not None:
            live, reply_id = self._live(job), job.reply_id
            async for view in job.follow(self._services.jobs.rate_hz):
                if not self._viewers.still_follows(viewer, key):
                    return
                if view.phase != "ended":
                    yield show(LIVE, live=live.value(view))
        yield show(LIVE, live={"reply": reply_id, "key": payload.key, "ended": True})

    def _live(self, job: Job) -> LiveAnswer:
        return LiveAnswer(job, self._renderer, self._strings)


def _sent(payload: Payload) -> Send:
    return Send(
        payload.key, payload.parent, payload.text, payload.client_key, temporary=payload.temporary
    )


def _again(payload: Payload) -> Again:
    return Again(payload.key or "", payload.id or 0)


def _anyway(payload: Payload) -> Again | Continue:
    """`on` says that it is a prompt."""
    key, message_id = payload.key or "", payload.id or 0
    return Again(key, message_id, anyway=True) if payload.on else Continue(key, message_id, True)


def _continued(payload: Payload) -> Continue:
    return Continue(payload.key or "", payload.id or 0)
