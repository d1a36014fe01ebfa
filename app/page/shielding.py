"""What the guards made of a message, as the transcript shows it: shields, notices, code notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from app.explain import Explanation, explain_status, explain_verdict
from app.page.templates import Templates
from app.strings import Strings
from safety.code_check import BlockReport, Look, check_code, looked_again
from safety.policy import FLOOR
from storage.records import MessageRecord, VerdictRecord

Button = tuple[str, int, str]  # act, message id, label

_COLUMNS = ("what", "category", "score", "limit", "done", "time")
_MAX_ROWS = 9
_FIGURE_END = "</figure>"


@dataclass(frozen=True, slots=True)
class Meter:
    """A score against its limit, both in percent of the bar."""

    score: int
    limit: int
    label: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A card that Corral itself puts into the transcript."""

    tone: str  # "stop", "warn" or "error"
    title: str
    text: str
    action: str = ""
    meter: Meter | None = None
    buttons: Sequence[Button] = ()


@dataclass(frozen=True, slots=True)
class Shield:
    """What the guards made of one message: a word, and the table behind it."""

    state: str  # "ok", "warn" or "stop"
    icon: str
    label: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    foot: str = ""


class Shielding:
    """Shields and notices in one language. `may_override`: the reader may ask to see it anyway."""

    def __init__(self, templates: Templates, look: Look | None = None) -> None:
        self._templates = templates
        self._look = look
        self._strings: Strings = templates.strings
        self._say = templates.strings.say

    def notice(
        self, record: MessageRecord, prompt: MessageRecord | None, *, may_override: bool
    ) -> Notice | None:
        """The card of a reply that was refused, cut or let through with a warning."""
        if record.status == "blocked":
            verdict = decisive(prompt.verdicts if prompt else ())
            told = explain_verdict(verdict, self._strings) if verdict else None
            told = told or explain_status("blocked", self._strings)
            buttons = self._buttons(prompt.id, verdict, may_override) if prompt else []
            if prompt:
                buttons.insert(0, ("edit-prompt", prompt.id, self._say("page.notice.edit")))
            return self.card("stop", told, verdict, buttons)
        if record.status == "cut":
            verdict = decisive(record.verdicts)
            told = explain_verdict(verdict, self._strings) if verdict else None
            told = told or explain_status("cut", self._strings)
            return self.card("stop", told, verdict, self._buttons(record.id, verdict, may_override))
        of_prompt = [v for v in (prompt.verdicts if prompt else ()) if v.action == "warn"]
        of_reply = [v for v in record.verdicts if v.action == "warn" and v.stage != "code"]
        if warned := of_reply[-1:] or of_prompt[-1:]:
            return self.card("warn", explain_verdict(warned[0], self._strings), warned[0], ())
        return None

    def card(
        self,
        tone: str,
        told: Explanation,
        verdict: VerdictRecord | None = None,
        buttons: Sequence[Button] = (),
    ) -> Notice:
        """A card with the score of `verdict` as a bar."""
        meter = None
        if verdict and not verdict.reason and verdict.threshold:
            score, limit = f"{verdict.score:.2f}", f"{verdict.threshold:.2f}"
            label = self._say("page.notice.meter", score=score, limit=limit)
            meter = Meter(_percent(verdict.score), _percent(verdict.threshold), label)
        return Notice(tone, told.title, told.text, told.action, meter, buttons)

    def _buttons(
        self, message_id: int, verdict: VerdictRecord | None, may_override: bool
    ) -> list[Button]:
        """Show anyway, where the policy leaves that open, and This is wrong."""
        if verdict is None or verdict.reason:
            return []
        buttons = [("appeal", message_id, self._say("safety.appeal"))]
        floor = FLOOR.get(verdict.category)
        if may_override and not (floor is not None and verdict.score >= floor):
            buttons.insert(0, ("anyway", message_id, self._say("safety.anyway")))
        return buttons

    def of_reply(self, record: MessageRecord, of_prompt: Sequence[VerdictRecord]) -> Shield | None:
        """The word is about what is shown of this message; the table names the prompt's too."""
        if not record.verdicts and not record.content and record.status != "blocked":
            return None  # nothing was shown, so there was nothing to check
        stopped = record.status in ("blocked", "cut")
        return self._shield(record.verdicts, [*of_prompt, *record.verdicts], stopped=stopped)

    def of_prompt(self, record: MessageRecord) -> Shield | None:
        """The shield of a prompt, once it was judged."""
        if not record.verdicts:
            return None
        return self._shield(record.verdicts, record.verdicts, stopped=record.status == "blocked")

    def _shield(
        self, own: Sequence[VerdictRecord], listed: Sequence[VerdictRecord], *, stopped: bool
    ) -> Shield:
        actions = {verdict.action for verdict in own}
        if stopped or (own and own[-1].action == "block"):
            word, state, icon = "blocked", "stop", "shield-alert"
        elif "warn" in actions:
            word, state, icon = "warned", "warn", "shield-alert"
        elif "unchecked" in actions or not actions:
            word, state, icon = "unchecked", "warn", "shield-off"
        else:
            word, state, icon = "checked", "ok", "shield"
        heads = [self._say(f"page.shield.{name}") for name in _COLUMNS]
        rows = [self._row(verdict) for verdict in listed[-_MAX_ROWS:]]
        foot = ""
        if listed:
            last = [v for v in listed if v.stage != "code"][-1:] or [listed[-1]]
            foot = self._say(
                "safety.judged_by",
                guard=last[0].guard,
                version=last[0].guard_version,
                policy=last[0].policy_version,
            )
        return Shield(state, icon, self._say(f"page.shield.{word}"), heads, rows, foot)

    def _row(self, verdict: VerdictRecord) -> tuple[str, ...]:
        name = f"guard.category.{verdict.category}.name"
        none = self._say("page.shield.none")
        return (
            self._say(f"page.shield.stage.{verdict.stage}"),
            self._say(name) if name in self._strings else verdict.category or none,
            f"{verdict.score:.2f}",
            f"{verdict.threshold:.2f}" if verdict.threshold else none,
            self._say(f"page.shield.action.{verdict.action}"),
            self._say("safety.milliseconds", count=f"{1000 * verdict.seconds:.0f}"),
        )

    def with_code_notes(self, html: str, text: str) -> str:
        """`html` of a reply with what the code check says under each of its blocks."""
        reports = _reports(text, self._look) if _FIGURE_END in html else ()
        if not reports:
            return html
        notes = [self._note(report) for report in reports]
        parts = html.split(_FIGURE_END)
        if len(parts) - 1 != len(notes):  # some code stands in no fence: the notes come at the end
            return html + "".join(notes)
        return "".join(
            part + _FIGURE_END + note for part, note in zip(parts, [*notes, ""], strict=True)
        ).removesuffix(_FIGURE_END)

    def _note(self, report: BlockReport) -> str:
        findings = [
            (
                self._say("safety.code.line", line=finding.line),
                f"CWE-{finding.cwe}",
                finding.what,
            )
            for finding in report.findings
        ]
        state = report.state.replace(" ", "_")
        return self._templates.render(
            "code_note",
            state=state,
            label=self._say(f"safety.code.{state}"),
            findings=findings,
        )


def _reports(text: str, look: Look | None) -> Sequence[BlockReport]:
    try:
        own = _checked(text)
        return own if look is None else looked_again(own, look)
    except Exception:  # the turn has noted that the checker failed; the text is shown all the same
        return ()


@lru_cache(maxsize=256)
def _checked(text: str) -> tuple[BlockReport, ...]:
    return tuple(check_code(text))


def decisive(verdicts: Sequence[VerdictRecord]) -> VerdictRecord | None:
    """The last verdict that blocked."""
    blocking = [verdict for verdict in verdicts if verdict.action == "block"]
    return blocking[-1] if blocking else None


def _percent(share: float) -> int:
    return round(100 * min(1.0, max(0.0, share)))
