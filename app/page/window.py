"""A conversation as the page shows it: its head, and the messages in the window."""

from __future__ import annotations

import time
from collections.abc import Sequence

from app.choices import Choices
from app.job import Job
from app.page.attach import DraftChips
from app.page.panes import items
from app.page.payload import Payload
from app.page.shell import Shell
from app.page.shielding import Reader
from app.page.templates import Templates
from app.page.transcript import Transcript
from app.render import Renderer
from app.services import Services
from storage.records import OWNER_ID, Conversation, MessageRecord

WINDOW = 40  # messages shown at first, and how many "Earlier messages" adds


class ConversationView:
    """Reads a conversation from the store and renders it. All methods block."""

    def __init__(
        self, services: Services, templates: Templates, *, shell: Shell, renderer: Renderer
    ) -> None:
        self._services = services
        self._shell = shell
        self._transcript = Transcript(templates, renderer)
        self._chips = DraftChips(services, templates)

    def value(
        self, user_id: int, key: str | None, payload: Payload, job: Job | None, *, away: bool
    ) -> dict[str, object]:
        """Window and head of a conversation; without a key, the first screen.

        The reply that `job` writes is left out: it is shown by the live pane. `away`: the reader
        is at another machine.
        """
        if not key:
            temporary = payload.temporary
            empty = self._shell.empty(user_id, away=away, temporary=temporary)
            draft = "" if temporary else self._services.store.draft(user_id, None)
            unsent = self._chips.draft(draft)
            asked = payload.key or ""  # a conversation that is there no more, maybe
            window = items([("empty", empty)], key="", leaf=None, asked=asked, **unsent)
            head = self._shell.head(user_id, None, temporary=temporary)
            return {"head": head, "window": window}
        store = self._services.store
        temporary = store.temporary.holds(user_id, key)
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
            asked=payload.key or "",
            leaf=path[-1].id if path else None,
            last=num_shown,
            focus=payload.id if whole else 0,
            read_at=time.time(),  # so that the same search result can be revealed twice
            accepted=payload.client_key,
            temporary=temporary,
            **self._chips.draft(store.draft(user_id, key)),
        )
        head = self._shell.head(user_id, conversation, temporary=temporary)
        return {"head": head, "window": window}

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
            reader=self._reader(conversation.user_id),
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

    def _reader(self, user_id: int) -> Reader:
        may_override = user_id == OWNER_ID and self._services.policy(user_id).may_override
        return Reader(may_override, self._services.guarding.contacts)
