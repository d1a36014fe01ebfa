"""The list at the side: conversations by date, search results, the trash."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, timedelta

from app.page.panes import Item, items
from app.page.payload import Payload
from app.page.templates import Templates
from app.services import Services
from storage.records import Conversation, Hit

PAGE_SIZE = 200  # conversations listed at once
MAX_HITS = 50


class ConversationList:
    """Renders the list in one language. All methods leave the event loop free."""

    def __init__(self, services: Services, templates: Templates) -> None:
        self._services = services
        self._templates = templates
        self._say = templates.strings.say

    async def value(self, user_id: int, payload: Payload) -> dict[str, object]:
        """What the list pane shows for `payload.query` and `payload.mode`.

        `read_at` lets the page pass over a list that was read before the one it shows.
        """
        store = self._services.store
        read_at = time.time()
        if payload.query.strip():
            hits = await asyncio.to_thread(store.search, user_id, payload.query, limit=MAX_HITS)
            rows = self._hits(hits, payload.query)
        elif payload.mode == "trash":
            trashed = await asyncio.to_thread(store.conversations, user_id, shelf="trash")
            rows = self._trash(trashed)
        else:
            limit = max(PAGE_SIZE, payload.last)
            listed = await asyncio.to_thread(store.conversations, user_id, limit=limit + 1)
            rows = self._listed(listed, limit, self._services.jobs.running_keys(user_id))
        return items(rows, query=payload.query, mode=payload.mode, read_at=read_at)

    def title(self, conversation: Conversation | None) -> str:
        """A title to show, also for a conversation that has none."""
        return (conversation.title if conversation else "") or self._say("page.list.untitled")

    def _listed(
        self, listed: Sequence[Conversation], limit: int, running: frozenset[str]
    ) -> list[Item]:
        if not listed:
            return [("none", self._line(self._say("page.list.none"))), self._button("trash-open")]
        rows: list[Item] = []
        for group, members in _by_date(listed[:limit], date.today(), self._say):
            rows.append((f"day-{group}", self._templates.render("day", title=group)))
            for conversation in members:
                html = self._templates.render(
                    "conversation",
                    conversation=conversation,
                    title=self.title(conversation),
                    running=conversation.key in running,
                )
                rows.append((f"c-{conversation.key}", html))
        if len(listed) > limit:
            rows.append(self._button("older"))
        return [*rows, self._button("trash-open")]

    def _trash(self, trashed: Sequence[Conversation]) -> list[Item]:
        title = self._say("page.list.trash_title", days=self._services.settings.trash_days)
        rows = [("day-trash", self._templates.render("day", title=title))]
        for conversation in trashed:
            values = {"conversation": conversation, "title": self.title(conversation)}
            rows.append((f"t-{conversation.key}", self._templates.render("trashed", **values)))
        if not trashed:
            rows.append(("none", self._line(self._say("page.list.trash_none"))))
        return [*rows, self._button("trash-close")]

    def _hits(self, hits: Sequence[Hit], query: str) -> list[Item]:
        if not hits:
            return [("none", self._line(self._say("page.list.no_hits", query=query.strip())))]
        found = self._say("page.list.hits", count=len(hits))
        rows = [("day-hits", self._templates.render("day", title=found))]
        for place, hit in enumerate(hits):
            html = self._templates.render(
                "hit",
                hit=hit,
                title=hit.conversation_title or self._say("page.list.untitled"),
                pieces=list(_pieces(hit.snippet, hit.marks)),
            )
            rows.append((f"h{place}-{hit.conversation_key}-{hit.message_id}", html))
        return rows

    def _line(self, text: str) -> str:
        return self._templates.render("line", text=text)

    def _button(self, act: str) -> Item:
        label = self._say(f"page.list.{act.replace('-', '_')}")
        return (act, self._templates.render("list_button", act=act, label=label))


def _by_date(
    conversations: Sequence[Conversation], today: date, say: Callable[..., str]
) -> Iterator[tuple[str, list[Conversation]]]:
    """Groups in the order of the list: pinned ones, then by the day of the last message."""
    groups: dict[str, list[Conversation]] = {}
    for conversation in conversations:
        day = datetime.fromtimestamp(conversation.updated_at / 1000).date()
        if conversation.pinned:
            name = say("page.list.pinned")
        elif day >= today:
            name = say("page.list.today")
        elif day == today - timedelta(days=1):
            name = say("page.list.yesterday")
        elif day > today - timedelta(days=7):
            name = say("page.list.week")
        elif day > today - timedelta(days=30):
            name = say("page.list.month")
        else:
            name = say(f"page.month.{day.month}", year=day.year)
        groups.setdefault(name, []).append(conversation)
    yield from groups.items()


def _pieces(snippet: str, marks: Sequence[tuple[int, int]]) -> Iterator[tuple[str, bool]]:
    """The snippet cut at its marks: (text, whether it is a hit)."""
    end = 0
    for start, stop in sorted(marks):
        if start < end or stop > len(snippet):
            continue
        if start > end:
            yield snippet[end:start], False
        yield snippet[start:stop], True
        end = stop
    if end < len(snippet):
        yield snippet[end:], False
