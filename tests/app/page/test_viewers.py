"""What a page asks for counts in the order it was asked, however it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from app.page.chat import Chat
from app.page.conversations import ConversationList
from app.page.panes import EVERYTHING
from app.page.shell import Shell
from app.page.templates import Templates
from app.page.viewers import MAX_DRAFTS, MAX_PAGES, Viewer, Viewers
from app.render import Renderer
from app.services import Services
from app.strings import Strings
from storage.records import OWNER_ID

Handler = Callable[[gr.EventData, gr.Request], AsyncIterator[Any]]


@pytest.fixture
def chat(services: Services) -> Chat:
    services.load()
    templates = Templates(Strings.load("en"))
    listing = ConversationList(services, templates)
    shell = Shell(services, templates)
    return Chat(
        services, templates, shell=shell, listing=listing, renderer=Renderer(), viewers=Viewers()
    )


def fire(handler: Handler, **data: object) -> list[dict[str, Any]]:
    """What one event of the page painted."""
    scope = {"corral_user": OWNER_ID}
    request = gr.Request(request=SimpleNamespace(scope=scope), session_hash="page")  # type: ignore[arg-type]

    async def run() -> list[Any]:
        return [update async for update in handler(gr.EventData(None, data), request)]

    return [
        {name: value for name, value in zip(EVERYTHING, update, strict=True) if value != gr.skip()}
        for update in asyncio.run(run())
    ]


def test_a_first_view_that_is_overtaken_by_a_prompt_does_not_hide_its_answer(chat: Chat) -> None:
    (painted,) = fire(
        chat.send, number=2, key=None, text="Hi", client_key="a" * 32, language="en"
    )  # fmt: skip
    assert painted["window"]["key"]
    (late,) = fire(chat.view, number=1, key=None, language="en")
    assert "window" not in late
    (next_one,) = fire(chat.view, number=3, key=None, language="en")
    assert next_one["window"]["key"] == ""


def test_a_prompt_that_the_page_has_left_is_still_said_to_be_taken(chat: Chat) -> None:
    fire(chat.view, number=2, key=None, language="en")
    (painted,) = fire(chat.send, number=1, key=None, text="Hi", client_key="b" * 32, language="en")
    assert set(painted) == {"note"}
    assert painted["note"]["accepted"] == "b" * 32


def test_a_follower_goes_on_while_its_conversation_is_in_view() -> None:
    viewers = Viewers()
    asked, follower = Viewer(1, "page", 1), Viewer(1, "page", 2)
    viewers.ask(asked)
    assert viewers.may_paint(asked, "talk")
    viewers.follow(follower)
    assert viewers.still_follows(follower, "talk")
    earlier = Viewer(1, "page", 3)  # more of the same conversation
    viewers.ask(earlier)
    assert viewers.may_paint(earlier, "talk")
    assert viewers.still_follows(follower, "talk")
    viewers.follow(Viewer(1, "page", 4))
    assert not viewers.still_follows(follower, "talk")
    assert viewers.still_follows(Viewer(1, "page", 4), "talk")
    other = Viewer(1, "page", 5)
    viewers.ask(other)
    assert viewers.may_paint(other, None)
    assert not viewers.still_follows(Viewer(1, "page", 4), "talk")


def test_pages_do_not_disturb_each_other_and_old_ones_are_forgotten() -> None:
    viewers = Viewers()
    for number in range(MAX_PAGES + 1):
        viewers.ask(Viewer(1, f"page {number}", 9))
    assert viewers.may_paint(Viewer(1, "page 0", 1), "talk"), "forgotten, so nothing is later"
    assert not viewers.may_paint(Viewer(1, f"page {MAX_PAGES}", 8), "talk")


def test_a_draft_that_was_overtaken_does_not_come_back() -> None:
    viewers = Viewers()
    assert viewers.is_newest(Viewer(1, "page", 2), "talk")
    assert not viewers.is_newest(Viewer(1, "page", 1), "talk")
    assert viewers.is_newest(Viewer(1, "page", 1), None), "of another conversation"
    assert viewers.is_newest(Viewer(1, "other page", 1), "talk")
    assert viewers.is_newest(Viewer(1, "page", 3), "talk")
    for number in range(MAX_DRAFTS):
        assert viewers.is_newest(Viewer(1, "page", number), f"talk {number}")
    assert viewers.is_newest(Viewer(1, "page", 1), "talk"), "forgotten, so nothing is later"
