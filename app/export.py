"""Conversations as files to read: Markdown and a web page of its own. JSON is `storage.export`'s.

Both show the branch that is open. Markdown keeps every character of what was said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from markupsafe import Markup

from app.page.shielding import Shielding
from app.page.templates import Templates
from app.render import Renderer
from safety.injection import Document, apart
from storage.records import Conversation, MessageRecord


def file_name(title: str, ending: str) -> str:
    """A name that every system takes, from a title."""
    words = re.sub(r"[^\w\- ]+", " ", title)[:60].split()
    return f"{'-'.join(words) or 'corral'}.{ending}"


def markdown(conversation: Conversation, path: Sequence[MessageRecord], you: str) -> str:
    """The conversation as Markdown: a heading for each message, its text as it is."""
    parts = [f"# {conversation.title}\n"]
    for record in path:
        who = you if record.role == "user" else _model(record)
        parts.append(f"## {who}\n\n{record.content}\n")
    return "\n".join(parts)


def html(
    conversation: Conversation,
    path: Sequence[MessageRecord],
    templates: Templates,
    renderer: Renderer,
) -> str:
    """One file with its own style, to open in any browser. It runs and loads nothing.

    What the code checks said stands under each block, as on the page.
    """
    shielding = Shielding(templates)
    turns: list[tuple[str, str, str, Sequence[Document]]] = []
    for record in path:
        if record.role == "user":
            you = templates.strings.say("page.turn.you")
            turns.append((record.role, you, *apart(record.content)))
        else:
            body = renderer.html(record.content)
            shown = Markup(shielding.with_code_notes(body, record.content, record.verdicts))
            turns.append((record.role, _model(record), shown, ()))
    at = datetime.fromtimestamp(conversation.updated_at / 1000).strftime("%Y-%m-%d")
    return templates.render("export", title=conversation.title, turns=turns, date=at)


def _model(record: MessageRecord) -> str:
    return record.generations[-1].model if record.generations else "Corral"
