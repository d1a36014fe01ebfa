"""Messages as HTML: bubbles, replies, notices, the shield and the line of numbers.

Stateless: a record in, markup out. Sentences come from the strings, markup from the templates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from app.chinese import converted
from app.explain import Explanation, explain, explain_status, explain_verdict
from app.page.panes import Item
from app.page.templates import Templates
from app.render import Renderer
from storage.records import Generation, MessageRecord, Status, VerdictRecord

_COLUMNS = ("what", "category", "score", "limit", "done")
LONG_PROMPT_CHARS = 3_000  # folded on the page; copying and editing still have all of it


@dataclass(frozen=True, slots=True)
class Meter:
    """A score against its limit, both in percent of the bar."""

    score: int
    limit: int
    label: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A card that Corral itself puts into the transcript. `buttons`: (act, message id, label)."""

    tone: str  # "stop", "warn" or "error"
    title: str
    text: str
    action: str = ""
    meter: Meter | None = None
    buttons: Sequence[tuple[str, int, str]] = ()


@dataclass(frozen=True, slots=True)
class Shield:
    """What the guards made of one message: a word, and the table behind it."""

    state: str  # "ok", "warn" or "stop"
    icon: str
    label: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


class Transcript:
    """Renders messages in one language."""

    def __init__(self, templates: Templates, renderer: Renderer) -> None:
        self._templates = templates
        self._say = templates.strings.say
        self._strings = templates.strings
        self._renderer = renderer

    def items(
        self, path: Sequence[MessageRecord], *, language: str = "", num_unread: int = 0
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
                rows.append((f"m{record.id}", self._reply(record, prompt, language)))
        return rows

    def earlier(self) -> str:
        """The button above a window that does not begin at the beginning."""
        return self._templates.render("earlier")

    def _prompt(self, record: MessageRecord) -> str:
        return self._templates.render(
            "prompt",
            record=record,
            long=len(record.content) > LONG_PROMPT_CHARS,
            num_chars=f"{len(record.content):,}",
            **_neighbours(record),
        )

    def _reply(
        self, record: MessageRecord, prompt: MessageRecord | None, language: str = ""
    ) -> str:
        text = converted(record.content, language)
        generation = record.generations[-1] if record.generations else None
        broken = record.status in ("stopped", "interrupted", "streaming")
        by_length = (
            record.status == "done"
            and generation is not None
            and generation.finish_reason == "length"
        )
        return self._templates.render(
            "reply",
            record=record,
            html=Markup(self._renderer.html(text)) if text else "",
            text=text,
            notice=self._notice(record, prompt),
            ending=self._ending(record, by_length),
            shield=self._shield(record, prompt.verdicts if prompt else ()),
            can_continue=bool(record.content) and (broken or by_length),
            numbers=self._numbers(generation) if generation and record.content else "",
            **_neighbours(record),
        )

    def _ending(self, record: MessageRecord, by_length: bool) -> str:
        if record.status in ("stopped", "interrupted", "streaming"):
            # Without a job, "streaming" can only be what an earlier run left behind.
            status: Status = "stopped" if record.status == "stopped" else "interrupted"
            told = explain_status(status, self._strings)
            return " ".join(filter(None, (told.title + ".", told.text)))
        if by_length:
            return self._say("page.turn.length")
        silent = record.status == "done" and not record.content
        return self._say("page.turn.empty") if silent else ""

    def _notice(self, record: MessageRecord, prompt: MessageRecord | None) -> Notice | None:
        if record.status == "blocked":
            verdict = _decisive(prompt.verdicts if prompt else ())
            told = explain_verdict(verdict, self._strings) if verdict else None
            told = told or explain_status("blocked", self._strings)
            edit = self._say("page.notice.edit")
            buttons = [("edit-prompt", prompt.id, edit)] if prompt else []
            return self._card("stop", told, verdict, buttons)
        if record.status == "cut":
            verdict = _decisive(record.verdicts)
            told = explain_verdict(verdict, self._strings) if verdict else None
            return self._card("stop", told or explain_status("cut", self._strings), verdict, ())
        if record.status == "error":
            told = explain(record.error_code or "unexpected", self._strings)
            again = self._say("page.notice.again")
            buttons = [("again", record.parent_id, again)] if record.parent_id else []
            return self._card("error", told, None, buttons)
        warned = [verdict for verdict in record.verdicts if verdict.action == "warn"]
        if warned:
            told = explain_verdict(warned[-1], self._strings)
            return self._card("warn", told, warned[-1], ())
        return None

    def _card(
        self,
        tone: str,
        told: Explanation,
        verdict: VerdictRecord | None,
        buttons: Sequence[tuple[str, int, str]],
    ) -> Notice:
        meter = None
        if verdict and not verdict.reason and verdict.threshold:
            score, limit = f"{verdict.score:.2f}", f"{verdict.threshold:.2f}"
            label = self._say("page.notice.meter", score=score, limit=limit)
            meter = Meter(_percent(verdict.score), _percent(verdict.threshold), label)
        return Notice(tone, told.title, told.text, told.action, meter, buttons)

    def _shield(self, record: MessageRecord, of_prompt: Sequence[VerdictRecord]) -> Shield | None:
        """The word is about what is shown of this message; the table names the prompt's too."""
        if not record.verdicts and not record.content and record.status != "blocked":
            return None  # nothing was shown, so there was nothing to check
        actions = {verdict.action for verdict in record.verdicts}
        if record.status in ("blocked", "cut") or "block" in actions:
            word, state, icon = "blocked", "stop", "shield-alert"
        elif "warn" in actions:
            word, state, icon = "warned", "warn", "shield-alert"
        elif "unchecked" in actions or not actions:
            word, state, icon = "unchecked", "warn", "shield-off"
        else:
            word, state, icon = "checked", "ok", "shield"
        heads = [self._say(f"page.shield.{name}") for name in _COLUMNS]
        rows = [self._verdict_row(verdict) for verdict in [*of_prompt, *record.verdicts][-9:]]
        return Shield(state, icon, self._say(f"page.shield.{word}"), heads, rows)

    def _verdict_row(self, verdict: VerdictRecord) -> tuple[str, ...]:
        name = f"guard.category.{verdict.category}.name"
        none = self._say("page.shield.none")
        return (
            self._say(f"page.shield.stage.{verdict.stage}"),
            self._say(name) if name in self._strings else verdict.category or none,
            f"{verdict.score:.2f}",
            f"{verdict.threshold:.2f}" if verdict.threshold else none,
            self._say(f"page.shield.action.{verdict.action}"),
        )

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


def _decisive(verdicts: Sequence[VerdictRecord]) -> VerdictRecord | None:
    blocking = [verdict for verdict in verdicts if verdict.action == "block"]
    return blocking[-1] if blocking else None


def _percent(share: float) -> int:
    return round(100 * min(1.0, max(0.0, share)))
