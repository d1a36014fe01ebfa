"""The list at the side: conversations by date, search results, the trash."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, timedelta

from app.page.panes import Item, items
from app.page.payload import Payload
from app.page.templates import Templates
from app.services import Services
from storage.records import Conversation, Hit, Shelf

WINDOW = 120  # conversations listed at once; a screen holds about thirty
ROW_PIXELS = 36  # each row and each heading is so high, as corral.css says
MAX_HITS = 50


class ConversationList:
    """Renders the list in one language. All methods leave the event loop free."""

    def __init__(self, services: Services, templates: Templates) -> None:
        self._services = services
        self._templates = templates
        self._say = templates.strings.say

    async def value(self, user_id: int, payload: Payload) -> dict[str, object]:
        """What the list pane shows for `payload.query`, `mode`, `tag`, from row `first` on.

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
            rows = await asyncio.to_thread(self._window, user_id, payload)
        beside = {"query": payload.query, "mode": payload.mode, "tag": payload.tag}
        return items(rows, **beside, read_at=read_at)

    def title(self, conversation: Conversation | None) -> str:
        """A title to show, also for a conversation that has none."""
        return (conversation.title if conversation else "") or self._say("page.list.untitled")

    def _window(self, user_id: int, payload: Payload) -> list[Item]:
        """The rows around those in view; empty space stands for all others, above and below."""
        store, tag = self._services.store, payload.tag
        shelf: Shelf = "archive" if payload.mode == "archive" else "open"
        dates = store.dates(user_id, shelf=shelf, tag=tag)
        begin = max(0, min(payload.first, len(dates) - WINDOW))
        end = min(begin + WINDOW, len(dates))
        listed = store.conversations(user_id, shelf=shelf, tag=tag, limit=end - begin, offset=begin)
        running = self._services.jobs.running_keys(user_id)
        groups = list(by_date(dates, date.today(), self._say))
        rows = self._above(user_id, payload)
        num_above = begin + sum(start < begin for _, start in groups)
        rows.append(("space-above", self._space(num_above)))
        headings = {start: name for name, start in groups}
        for place, conversation in enumerate(listed, start=begin):
            if place in headings:
                html = self._templates.render("day", title=headings[place])
                rows.append((f"day-{headings[place]}", html))
            html = self._templates.render(
                "conversation",
                conversation=conversation,
                title=self.title(conversation),
                running=conversation.key in running,
            )
            rows.append((f"c-{conversation.key}", html))
        num_below = len(dates) - end + sum(start >= end for _, start in groups)
        if not dates:
            empty = "archive_none" if payload.mode == "archive" else "none"
            rows.append(("none", self._line(self._say(f"page.list.{empty}"))))
        return [*rows, ("space-below", self._space(num_below))]

    def _above(self, user_id: int, payload: Payload) -> list[Item]:
        """What stands over the rows: the way back from the archive, what is not kept, the tags."""
        rows: list[Item] = []
        if payload.mode == "archive":
            rows = self._shelf(self._say("page.list.archive_title"))
        rows += self._temporary(user_id, payload.aside)
        if tags := self._services.store.tags(user_id):
            html = self._templates.render("tags", tags=tags, chosen=payload.tag)
            rows.append(("tags", html))
        return rows

    def _temporary(self, user_id: int, keys: Sequence[str]) -> list[Item]:
        """The conversations that this tab alone holds."""
        store = self._services.store
        rows = []
        for key in keys:
            if store.temporary.holds(user_id, key):
                store.temporary.keep_alive(user_id, key)
                title = self.title(store.conversation(user_id, key))
                rows.append((f"c-{key}", self._templates.render("aside", key=key, title=title)))
        return rows

    def _space(self, num_rows: int) -> str:
        return self._templates.render("space", height=num_rows * ROW_PIXELS)

    def _trash(self, trashed: Sequence[Conversation]) -> list[Item]:
        title = self._say("page.list.trash_title", days=self._services.settings.trash_days)
        rows = self._shelf(title)
        for conversation in trashed:
            values = {"conversation": conversation, "title": self.title(conversation)}
            rows.append((f"t-{conversation.key}", self._templates.render("trashed", **values)))
        if not trashed:
            rows.append(("none", self._line(self._say("page.list.trash_none"))))
        return rows

    def _shelf(self, title: str) -> list[Item]:
        """What stands over another list than the usual one: the way back, and its name."""
        return [self._button("shelf-close"), ("shelf", self._templates.render("day", title=title))]

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


def by_date(
    dates: Sequence[tuple[bool, int]], today: date, say: Callable[..., str]
) -> Iterator[tuple[str, int]]:
    """(name, place of the first) of each group, for (pinned, ms) in the order of the list.

    Steps from group to group, so that it costs as little for ten thousand as for ten.
    """
    place = 0
    if dates and dates[0][0]:
        yield say("page.list.pinned"), 0
        place = bisect_left(dates, True, key=lambda row: not row[0])
    while place < len(dates):
        name, since = _group(date.fromtimestamp(dates[place][1] / 1000), today, say)
        yield name, place
        begin = datetime(since.year, since.month, since.day).timestamp() * 1000
        place = bisect_right(dates, -begin, lo=place + 1, key=lambda row: -row[1])


def _group(day: date, today: date, say: Callable[..., str]) -> tuple[str, date]:
    """The name of the group that a day is in, and the first day of that group."""
    if day >= today:
        return say("page.list.today"), today
    if day == today - timedelta(days=1):
        return say("page.list.yesterday"), day
    for name, days in (("week", 6), ("month", 29)):
        if day >= (since := today - timedelta(days=days)):
            return say(f"page.list.{name}"), since
    return say(f"page.month.{day.month}", year=day.year), day.replace(day=1)


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
