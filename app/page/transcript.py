"""Messages as HTML: bubbles, replies, notices, the shield and the line of numbers.

Stateless: a record in, markup out. Sentences come from the strings, markup from the templates.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from app.chinese import converted
from app.explain import explain, explain_status, headline
from app.page.attach import Chips
from app.page.panes import Item
from app.page.shielding import Notice, Reader, Shielding
from app.page.templates import Templates
from app.render import Renderer
from app.thinking import Parts, split
from safety.injection import apart
from storage.records import Generation, MessageRecord, Status

LONG_PROMPT_CHARS = 3_000  # folded on the page; copying and editing still have all of it


class Transcript:
    """Renders messages in one language."""

    def __init__(self, templates: Templates, renderer: Renderer) -> None:
        self._templates = templates
        self._say = templates.strings.say
        self._strings = templates.strings
        self._renderer = renderer
        self._shielding = Shielding(templates)
        self._chips = Chips(templates)

    def items(
        self,
        path: Sequence[MessageRecord],
        *,
        reader: Reader,
        language: str = "",
        num_unread: int = 0,
    ) -> list[Item]:
        """One item a message; a reply needs the prompt before it to explain a refusal.

        Answers are shown in the Chinese script of `language`. After the first `num_unread` messages
        a line says that the model did not read them for the latest answer.
        """
        rows: list[Item] = []
        prompt: MessageRecord | None = None
        for place, record in enumerate(path):
            if place and place == num_unread:
                rows.append(("unread", self._templates.render("unread")))
            if record.role == "user":
                prompt = record
                rows.append((f"m{record.id}", self._prompt(record)))
            elif record.role == "assistant":
                rows.append((f"m{record.id}", self._reply(record, prompt, language, reader)))
        return rows

    def earlier(self) -> str:
        """The button above a window that does not begin at the beginning."""
        return self._templates.render("earlier")

    def _prompt(self, record: MessageRecord) -> str:
        own, documents = apart(record.content)
        return self._templates.render(
            "prompt",
            record=record,
            own=own,
            files=self._chips.sent(documents),
            long=len(own) > LONG_PROMPT_CHARS,
            num_chars=f"{len(own):,}",
            shield=self._shielding.of_prompt(record),
            **_neighbours(record),
        )

    def _reply(
        self,
        record: MessageRecord,
        prompt: MessageRecord | None,
        language: str,
        reader: Reader,
    ) -> str:
        parts = split(converted(record.content, language))
        text = parts.answer
        generation = record.generations[-1] if record.generations else None
        broken = record.status in ("stopped", "interrupted", "streaming")
        by_length = (
            record.status == "done"
            and generation is not None
            and generation.finish_reason == "length"
        )
        html = self._renderer.html(text) if text else ""
        html = self._shielding.with_code_notes(html, text, record.verdicts)
        return self._templates.render(
            "reply",
            record=record,
            thought=Markup(self._renderer.html(parts.thought)) if parts.thought else "",
            thought_label=self._thought_label(parts, generation),
            html=Markup(html) if text else "",
            text=text,
            notice=self._notice(record, prompt, reader),
            ending=self._ending(record, by_length),
            shield=self._shielding.of_reply(record, prompt.verdicts if prompt else ()),
            can_continue=bool(record.content) and (broken or by_length),
            numbers=self._numbers(generation) if generation and record.content else "",
            **_neighbours(record),
        )

    def _thought_label(self, parts: Parts, generation: Generation | None) -> str:
        """How long the thought is; and took, taking each character to cost the same."""
        count = f"{len(parts.thought):,}"
        if generation is None or not generation.total_seconds:
            return self._say("page.turn.thought", count=count)
        share = len(parts.thought) / max(1, len(parts.thought) + len(parts.answer))
        writing = generation.total_seconds - generation.first_token_seconds
        seconds = f"{share * writing:.0f}"
        return self._say("page.turn.thought_for", seconds=seconds, count=count)

    def _ending(self, record: MessageRecord, by_length: bool) -> str:
        if record.status in ("stopped", "interrupted", "streaming"):
            # Without a job, "streaming" can only be what an earlier run left behind.
            status: Status = "stopped" if record.status == "stopped" else "interrupted"
            told = explain_status(status, self._strings)
            return " ".join(filter(None, (headline(told, self._strings), told.text)))
        if by_length:
            return self._say("page.turn.length")
        silent = record.status == "done" and not record.content
        return self._say("page.turn.empty") if silent else ""

    def _notice(
        self, record: MessageRecord, prompt: MessageRecord | None, reader: Reader
    ) -> Notice | None:
        if record.status == "error":
            told = explain(record.error_code or "unexpected", self._strings)
            again = self._say("page.notice.again")
            buttons = [("again", record.parent_id, again)] if record.parent_id else []
            return self._shielding.card("error", told, None, buttons)
        return self._shielding.notice(record, prompt, reader)

    def _numbers(self, generation: Generation) -> str:
        parts = []
        if generation.tokens_per_second:
            parts.append(self._say("page.turn.rate", rate=f"{generation.tokens_per_second:.1f}"))
        if generation.first_token_seconds:
            seconds = f"{generation.first_token_seconds:.2f}"
            parts.append(self._say("page.turn.first", seconds=seconds))
        if generation.num_prompt:
            reused, prompt = f"{generation.num_reused:,}", f"{generation.num_prompt:,}"
            parts.append(self._say("page.turn.reused", reused=reused, prompt=prompt))
        if generation.num_left_out:
            parts.append(self._say("page.turn.left_out", count=generation.num_left_out))
        return " · ".join(parts)


def _neighbours(record: MessageRecord) -> dict[str, int | None]:
    """Ids of the versions before and after this one."""
    ids, place = list(record.sibling_ids), record.version - 1
    return {
        "previous": ids[place - 1] if 0 < place < len(ids) else None,
        "next": ids[place + 1] if place + 1 < len(ids) else None,
    }
