"""The side panel speaks the language of the page that asks, and keeps what is not sent yet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import gradio as gr
import pytest

from app.page.conversations import ConversationList
from app.page.shell import Shell
from app.page.side import Side
from app.page.templates import Templates
from app.page.viewers import Viewers
from app.services import Services
from app.strings import AUTO, LANGUAGES, Strings
from storage.records import OWNER_ID

Handler = Callable[[gr.EventData, gr.Request], Awaitable[object]]


@pytest.fixture
def side(services: Services) -> Side:
    templates = Templates(Strings.load(AUTO))
    shell, listing = Shell(services, templates), ConversationList(services, templates)
    return Side(services, templates, shell=shell, listing=listing, viewers=Viewers())


def fire(handler: Handler, **data: object) -> str:
    """What one event of the page painted, as text."""
    request = gr.Request(
        request=SimpleNamespace(scope={"corral_user": OWNER_ID}),  # type: ignore[arg-type]
        session_hash="page",
    )
    return str(asyncio.run(handler(gr.EventData(None, data), request)))  # type: ignore[arg-type]


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_it_says_is_in_the_language_of_the_page(
    side: Side, services: Services, language: str
) -> None:
    say = Strings.load(language).say
    key = services.store.create_conversation(OWNER_ID, title="x").key
    assert say("page.list.trash_open") in fire(side.pulse, language=language)
    assert say("page.toast.trashed") in fire(side.trash, language=language, key=key)
    assert say("page.toast.restored") in fire(side.restore, language=language, key=key)


def test_a_file_joins_the_draft_that_is_kept_and_overtakes_no_words(
    side: Side, services: Services
) -> None:
    store = services.store
    key = store.create_conversation(OWNER_ID, title="x").key
    fire(side.draft, number=3, key=key, text="words")
    fire(side.draft, number=9, key=key, text="a file", mode="add")
    assert store.draft(OWNER_ID, key) == "words\n\na file"
    fire(side.draft, number=2, key=key, text="older words")
    assert store.draft(OWNER_ID, key) == "words\n\na file"
    fire(side.draft, number=4, key=key, text="newer words")
    assert store.draft(OWNER_ID, key) == "newer words"
    fire(side.draft, number=1, key=None, text="private", mode="add", temporary=True)
    assert store.draft(OWNER_ID, None) == ""
