"""Opening, sending and following: the handlers around one conversation.

History is never an input. A handler gets ids and a text, takes the user from the request, starts
or finds the job in `services.jobs`, and follows it; closing the page ends the following only.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

import gradio as gr

from app.chinese import converted
from app.choices import Choices
from app.jobs import Again, Continue, Job, JobView, Send
from app.page.conversations import ConversationList
from app.page.panes import EVERYTHING, LIVE, Update, items, show
from app.page.payload import Payload, user_of
from app.page.shell import Shell
from app.page.templates import Templates
from app.page.transcript import Transcript
from app.render import LiveRendering, Renderer
from app.services import Services
from storage.records import OWNER_ID, Conversation, MessageRecord

WINDOW = 40  # messages shown at first, and how many "Earlier messages" adds
MAX_VIEWERS = 2_000

log = logging.getLogger("corral.page")


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks, on which open page, and the number of what was asked there."""

    user_id: int
    page: str
    ticket: int


Act = Callable[[Viewer, Payload], AsyncIterator[Update]]


class Viewers:
    """Which request of each open page is the latest; an older one stops painting."""

    def __init__(self) -> None:
        self._latest: OrderedDict[str, int] = OrderedDict()
        self._count = 0

    def begin(self, page: str) -> int:
        self._count += 1
        self._latest[page] = self._count
        self._latest.move_to_end(page)
        if len(self._latest) > MAX_VIEWERS:
            self._latest.popitem(last=False)
        return self._count

    def is_latest(self, page: str, ticket: int) -> bool:
        return self._latest.get(page, ticket) == ticket


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
    ) -> None:
        self._services = services
        self._say = templates.strings.say
        self._shell = shell
        self._listing = listing
        self._renderer = renderer
        self._transcript = Transcript(templates, renderer)
        self._viewers = Viewers()

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
            page = request.session_hash or ""
            viewer = Viewer(user_of(request), page, self._viewers.begin(page))
            async for update in act(viewer, payload):
                yield update
        except Exception as error:
            log.warning("the page could not do what was asked", exc_info=error)
            yield show(EVERYTHING, note=self._shell.error(error, client_key=client_key))

    def _start(self, asked: Callable[[Payload], Send | Again | Continue]) -> Act:
        async def act(viewer: Viewer, payload: Payload) -> AsyncIterator[Update]:
            start = self._services.jobs.start
            job = await asyncio.to_thread(start, viewer.user_id, asked(payload))
            async for update in self._show(viewer, job.key, payload):
                yield update

        return act

    async def _appeal(self, viewer: Viewer, payload: Payload) -> AsyncIterator[Update]:
        appeal = self._services.guarding.appeal
        await asyncio.to_thread(appeal, viewer.user_id, payload.key or "", payload.id or 0)
        yield show(EVERYTHING, note=self._shell.told(self._say("safety.appealed")))

    async def _version(self, viewer: Viewer, payload: Payload) -> AsyncIterator[Update]:
        key, message_id = payload.key or "", payload.id or 0
        select = self._services.store.select_version
        await asyncio.to_thread(select, viewer.user_id, key, message_id)
        async for update in self._show(viewer, key, replace(payload, id=None)):
            yield update

    async def _view(self, viewer: Viewer, payload: Payload) -> AsyncIterator[Update]:
        if payload.key and payload.id:  # a search result: make the branch that holds it active
            select = self._services.store.select_version
            await asyncio.to_thread(select, viewer.user_id, payload.key, payload.id)
        async for update in self._show(viewer, payload.key, payload):
            yield update

    async def _show(
        self, viewer: Viewer, key: str | None, payload: Payload
    ) -> AsyncIterator[Update]:
        """Paint a conversation; if it is being answered, the page then asks to follow."""
        user_id = viewer.user_id
        job = self._services.jobs.running(user_id, key) if key else None
        live = LiveRendering(self._renderer)
        values = await asyncio.to_thread(self._conversation, user_id, key, payload, job)
        values |= {
            "listing": await self._listing.value(user_id, payload),
            "foot": self._shell.foot(),
            "live": self._live(job, live, job.view()) if job else {"reply": 0},
        }
        if not self._viewers.is_latest(viewer.page, viewer.ticket):
            # The page has moved on; it must still hear that its message was taken.
            values = {"note": items([], accepted=payload.client_key)}
        yield show(EVERYTHING, **values)

    async def follow(self, event: gr.EventData, request: gr.Request) -> AsyncIterator[Update]:
        """Paint the growing answer until it has ended or the page shows something else."""
        payload, user_id = Payload.of(event), user_of(request)
        page = request.session_hash or ""
        ticket = self._viewers.begin(page)
        job = self._services.jobs.running(user_id, payload.key or "")
        reply_id = payload.id or 0
        if job is not None:
            live, reply_id = LiveRendering(self._renderer), job.reply_id
            async for view in job.follow(self._services.jobs.rate_hz):
                if not self._viewers.is_latest(page, ticket):
                    return
                if view.phase != "ended":
                    yield show(LIVE, live=self._live(job, live, view))
        yield show(LIVE, live={"reply": reply_id, "key": payload.key, "ended": True})

    def _conversation(
        self, user_id: int, key: str | None, payload: Payload, job: Job | None
    ) -> dict[str, object]:
        """Window and head of a conversation; without a key, the first screen. Reads the store."""
        if not key:
            window = items([("empty", self._shell.empty(user_id))], key="", leaf=None)
            return {"head": self._shell.head(user_id, None), "window": window}
        store = self._services.store
        conversation: Conversation = store.conversation(user_id, key)
        num_shown = max(payload.last, WINDOW)
        whole = payload.id is not None  # the message to show may lie far above
        path = store.path(user_id, key, last=None if whole else num_shown + 1)
        if whole:
            place = next((n for n, m in enumerate(path) if m.id == payload.id), len(path))
            num_shown = max(num_shown, len(path) - place + 1)
        rows = self._rows(conversation, path, num_shown, job)
        window = items(
            rows,
            key=key,
            leaf=path[-1].id if path else None,
            last=num_shown,
            focus=payload.id if whole else 0,
            read_at=time.time(),  # so that the same search result can be revealed twice
            accepted=payload.client_key,
        )
        return {"head": self._shell.head(user_id, conversation), "window": window}

    def _rows(
        self,
        conversation: Conversation,
        path: list[MessageRecord],
        num_shown: int,
        job: Job | None,
    ) -> list[tuple[str, str]]:
        settled = [m for m in path if job is None or m.id != job.reply_id]
        window = settled[-num_shown:]
        shown = self._transcript.items(
            window,
            language=Choices.of(conversation).shown_language,
            num_unread=self._num_unread(conversation, path, window),
            may_override=self._may_override(conversation.user_id),
        )
        if len(path) > num_shown:
            shown.insert(0, ("earlier", self._transcript.earlier()))
        return shown

    def _num_unread(
        self,
        conversation: Conversation,
        path: Sequence[MessageRecord],
        window: Sequence[MessageRecord],
    ) -> int:
        """How many messages of `window` were left out of what the latest answer was made from."""
        runs = [message.generations[-1] for message in path if message.generations]
        if not runs or not runs[-1].num_left_out or not window:
            return 0
        user_id, key = conversation.user_id, conversation.key
        before = self._services.store.path_length(user_id, key) - len(path)
        before += next(n for n, message in enumerate(path) if message.id == window[0].id)
        return max(0, runs[-1].num_left_out - before)

    def _may_override(self, user_id: int) -> bool:
        return user_id == OWNER_ID and self._services.policy(user_id).may_override

    def _live(self, job: Job, live: LiveRendering, view: JobView) -> dict[str, object]:
        """The growing answer: finished blocks, the open one, and a line on what is going on."""
        language = Choices.of(job.task.conversation).shown_language
        live.update(converted(view.text, language))
        return {
            "reply": job.reply_id,
            "key": job.key,
            "blocks": list(live.blocks),
            "tail": live.tail if view.text else "",
            "writing": view.phase == "writing",
            "line": self._line(view),
        }

    def _line(self, view: JobView) -> str:
        if view.place_in_queue and view.phase == "waiting" and not view.waiting_for:
            return self._say("page.live.waiting.queue")
        if view.phase == "waiting":
            name = f"page.live.waiting.{view.waiting_for}"
            known = view.waiting_for in ("guard", "engine")
            return self._say(name if known else "page.live.waiting")
        if view.phase == "judging":
            return self._say("page.live.judging")
        if view.phase == "reading":
            if not view.num_prompt:
                return self._say("page.live.reading")
            done, whole = f"{view.num_prefilled:,}", f"{view.num_prompt:,}"
            return self._say("page.live.reading_tokens", done=done, all=whole)
        if not view.text:
            return self._say("page.live.held")
        rate = view.tokens_per_second
        return self._say("page.live.rate", rate=f"{rate:.1f}") if rate else ""


def _sent(payload: Payload) -> Send:
    return Send(payload.key, payload.parent, payload.text, payload.client_key)


def _again(payload: Payload) -> Again:
    return Again(payload.key or "", payload.id or 0)


def _anyway(payload: Payload) -> Again | Continue:
    """`on` says that it is a prompt."""
    key, message_id = payload.key or "", payload.id or 0
    return Again(key, message_id, anyway=True) if payload.on else Continue(key, message_id, True)


def _continued(payload: Payload) -> Continue:
    return Continue(payload.key or "", payload.id or 0)
