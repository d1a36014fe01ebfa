"""The handlers of the side panel: search, rename, pin, trash, restore, state of the parts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from threading import Lock

import gradio as gr

from app.page.conversations import ConversationList
from app.page.panes import FOOT, SIDE, Update, show
from app.page.payload import Payload, is_away, user_of
from app.page.shell import Shell
from app.page.templates import Templates
from app.page.viewers import Viewer, Viewers, viewer_of
from app.services import Services

log = logging.getLogger("corral.page")


class Side:
    """Each handler returns one update. Storage is never touched on the event loop."""

    def __init__(
        self,
        services: Services,
        templates: Templates,
        *,
        shell: Shell,
        listing: ConversationList,
        viewers: Viewers,
    ) -> None:
        self._services = services
        self._say = templates.strings.say
        self._shell = shell
        self._listing = listing
        self._viewers = viewers
        self._drafting = Lock()

    async def listing(self, event: gr.EventData, request: gr.Request) -> Update:
        """Search as it is typed, show the trash, or the plain list."""
        return await self._changed(event, request, None)

    async def rename(self, event: gr.EventData, request: gr.Request) -> Update:
        """Give a conversation another title."""
        rename = self._services.store.rename

        def change(user_id: int, payload: Payload) -> None:
            rename(user_id, payload.key or "", " ".join(payload.text.split())[:200])

        return await self._changed(event, request, change)

    async def pin(self, event: gr.EventData, request: gr.Request) -> Update:
        """Keep a conversation on top, or no longer."""
        pin = self._services.store.pin
        return await self._changed(event, request, lambda u, p: pin(u, p.key or "", p.on))

    async def trash(self, event: gr.EventData, request: gr.Request) -> Update:
        """Move a conversation to the trash and offer to undo it."""
        trash = self._services.store.trash
        told = "page.toast.trashed"
        return await self._changed(
            event, request, lambda u, p: trash(u, p.key or ""), told=told, undo=True
        )

    async def restore(self, event: gr.EventData, request: gr.Request) -> Update:
        """Bring a conversation back from the trash."""
        restore = self._services.store.restore
        told = "page.toast.restored"
        return await self._changed(event, request, lambda u, p: restore(u, p.key or ""), told=told)

    async def draft(self, event: gr.EventData, request: gr.Request) -> None:
        """Keep what is written and not sent; of a temporary conversation in memory alone."""
        try:
            payload = Payload.of(event)
            if payload.key or not payload.temporary:
                await asyncio.to_thread(self._keep_draft, viewer_of(payload, request), payload)
        except Exception as error:  # it is still in the box
            log.warning("a draft was not kept", exc_info=error)

    async def pulse(self, event: gr.EventData, request: gr.Request) -> Update:
        """How far the model and the safety check are."""
        Payload.of(event)  # it says in which language
        user_of(request)
        return show(FOOT, foot=self._shell.foot(away=is_away(request)))

    def _keep_draft(self, viewer: Viewer, payload: Payload) -> None:
        store, user_id, key, text = self._services.store, viewer.user_id, payload.key, payload.text
        with self._drafting:  # they overtake each other on their way, and here
            if payload.mode == "add":  # a file that was taken in when its box was out of view
                text = "\n\n".join(filter(None, (store.draft(user_id, key), text)))
            elif not self._viewers.is_newest(viewer, key):
                return
            store.keep_draft(user_id, key, text)

    async def _changed(
        self,
        event: gr.EventData,
        request: gr.Request,
        change: Callable[[int, Payload], object] | None,
        *,
        told: str = "",
        undo: bool = False,
    ) -> Update:
        try:
            payload, user_id = Payload.of(event), user_of(request)
            values: dict[str, object] = {}
            if change is not None:
                await asyncio.to_thread(change, user_id, payload)
            gone = (payload.key or "") if undo else ""
            listed = await self._listing.value(user_id, payload)
            values["listing"] = {**listed, "gone": gone}
            if told:
                values["note"] = self._shell.told(self._say(told), undo=gone)
            return show(SIDE, **values)
        except Exception as error:
            log.warning("the page could not do what was asked", exc_info=error)
            return show(SIDE, note=self._shell.error(error))
