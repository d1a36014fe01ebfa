"""Who looks at the page, and what each open page has asked for last."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import gradio as gr

from app.page.payload import Payload, is_away, user_of

MAX_PAGES = 2_000
MAX_DRAFTS = 50  # of a page, whose order is known


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks, on which open page and from where, and the page's own number of the request."""

    user_id: int
    page: str
    number: int
    away: bool = True  # over a link or the network


def viewer_of(payload: Payload, request: gr.Request) -> Viewer:
    """Whose request this is. Raises `PermissionError` where the gateway has not said."""
    page, away = request.session_hash or "", is_away(request)
    return Viewer(user_of(request), page, payload.number, away)


@dataclass(slots=True)
class _Page:
    asked: int = 0  # the number of the latest request for another view
    key: str | None = None  # of the conversation that was painted last; empty: none
    following: int = 0  # the number of the latest request to follow an answer
    drafts: dict[str, int] = field(default_factory=dict)  # key → number of its latest draft


class Viewers:
    """Which requests of an open page still count; an older one stops painting.

    The page numbers its requests, for they overtake each other on their way: a prompt that is sent
    while the page opens may be taken before the request for what the page shows at first.
    """

    def __init__(self) -> None:
        self._pages: OrderedDict[str, _Page] = OrderedDict()

    def ask(self, viewer: Viewer) -> None:
        """Another view is asked for."""
        page = self._page(viewer.page)
        page.asked = max(page.asked, viewer.number)

    def may_paint(self, viewer: Viewer, key: str | None) -> bool:
        """Whether a view that was asked for is still wanted; its conversation is then in view."""
        page = self._page(viewer.page)
        if viewer.number < page.asked:
            return False
        page.key = key or ""
        return True

    def follow(self, viewer: Viewer) -> None:
        """An answer is to be followed, by this request alone."""
        page = self._page(viewer.page)
        page.following = max(page.following, viewer.number)

    def still_follows(self, viewer: Viewer, key: str) -> bool:
        """Whether the conversation is still in view, and no later request follows it."""
        page = self._page(viewer.page)
        return page.following == viewer.number and page.key in (None, key)

    def is_newest(self, viewer: Viewer, key: str | None) -> bool:
        """Whether the page has sent no later draft of this conversation; it is noted."""
        drafts = self._page(viewer.page).drafts
        newest = max(viewer.number, drafts.pop(key or "", 0))
        drafts[key or ""] = newest
        if len(drafts) > MAX_DRAFTS:
            del drafts[next(iter(drafts))]
        return viewer.number == newest

    def _page(self, name: str) -> _Page:
        page = self._pages.setdefault(name, _Page())
        self._pages.move_to_end(name)
        if len(self._pages) > MAX_PAGES:
            self._pages.popitem(last=False)
        return page
