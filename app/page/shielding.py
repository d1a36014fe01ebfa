"""What the guards made of a message, as the transcript shows it: shields, notices, code notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from app.explain import Explanation, explain_status, explain_verdict
from app.judging import block_record
from app.page.templates import Templates
from app.strings import Strings
from safety.code_blocks import code_blocks
from safety.code_check import check_code
from safety.policy import FLOOR
from storage.records import BlockRecord, CodeFinding, MessageRecord, VerdictRecord

Button = tuple[str, int, str]  # act, message id, label

_COLUMNS = ("what", "category", "score", "limit", "done", "time")
_MAX_ROWS = 9
_FIGURE_END = "</figure>"


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads: whether they may ask to see what was stopped, and whom they may call for help."""

    may_override: bool = False
    contacts: str = ""


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
    help: str = ""
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
    """Shields and notices in one language."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates
        self._strings: Strings = templates.strings
        self._say = templates.strings.say

    def notice(
        self, record: MessageRecord, prompt: MessageRecord | None, reader: Reader
    ) -> Notice | None:
        """The card of a reply that was refused, cut or let through with a warning."""
        if record.status == "blocked":
            verdict = decisive(prompt.verdicts if prompt else ())
            told = self._told(verdict, reader) or explain_status("blocked", self._strings)
            buttons = self._buttons(prompt.id, verdict, reader) if prompt else []
            if prompt:
                buttons.insert(0, ("edit-prompt", prompt.id, self._say("page.notice.edit")))
            return self.card("stop", told, verdict, buttons)
        if record.status == "cut":
            verdict = decisive(record.verdicts)
            told = self._told(verdict, reader) or explain_status("cut", self._strings)
            return self.card("stop", told, verdict, self._buttons(record.id, verdict, reader))
        of_prompt = [v for v in (prompt.verdicts if prompt else ()) if v.action == "warn"]
        of_reply = [v for v in record.verdicts if v.action == "warn" and v.stage != "code"]
        if warned := of_reply[-1:] or of_prompt[-1:]:
            told = explain_verdict(warned[0], self._strings, reader.contacts)
            return self.card("warn", told, warned[0], ())
        return None

    def _told(self, verdict: VerdictRecord | None, reader: Reader) -> Explanation | None:
        return explain_verdict(verdict, self._strings, reader.contacts) if verdict else None

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
        return Notice(tone, told.title, told.text, told.action, told.help, meter, buttons)

    def _buttons(
        self, message_id: int, verdict: VerdictRecord | None, reader: Reader
    ) -> list[Button]:
        """Show anyway, where the policy leaves that open, and This is wrong."""
        if verdict is None or verdict.reason:
            return []
        buttons = [("appeal", message_id, self._say("safety.appeal"))]
        floor = FLOOR.get(verdict.category)
        if reader.may_override and not (floor is not None and verdict.score >= floor):
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

    def with_code_notes(self, html: str, text: str, verdicts: Sequence[VerdictRecord]) -> str:
        """`html` of a reply with what the code checks said under each of its blocks.

        What was said when the reply was written, by whatever judged then, stands in `verdicts`;
        a reply from elsewhere has none, and gets the quick check.
        """
        if not (num_figures := html.count(_FIGURE_END)):
            return html
        notes = [self._note(block) for block in _blocks(text, verdicts)]
        if len(notes) != num_figures:  # some code stands in no fence: the notes come at the end
            return html + "".join(notes)
        parts = html.split(_FIGURE_END)
        return "".join(
            part + _FIGURE_END + note for part, note in zip(parts, [*notes, ""], strict=True)
        ).removesuffix(_FIGURE_END)

    def _note(self, block: BlockRecord) -> str:
        state = block.state.replace(" ", "_")
        return self._templates.render(
            "code_note",
            state=state,
            label=self._say(f"safety.code.{state}"),
            findings=[self._finding(finding) for finding in block.findings],
        )

    def _finding(self, finding: CodeFinding) -> tuple[str, str, str]:
        """Where, which, and what it means: in the reader's language if the rule is ours."""
        key = f"safety.weakness.{finding.rule}"
        what = self._say(key) if key in self._strings else finding.what
        return self._say("safety.code.line", line=finding.line), f"CWE-{finding.cwe}", what


def _blocks(text: str, verdicts: Sequence[VerdictRecord]) -> list[BlockRecord]:
    """What is known of each block of `text`, in order."""
    known = {one.digest: one for verdict in verdicts for one in verdict.blocks}
    blocks = list(code_blocks(text))
    if all(block.digest in known for block in blocks):
        return [known[block.digest] for block in blocks]
    return [known.get(one.digest, one) for one in _checked(text)]


@lru_cache(maxsize=256)
def _checked(text: str) -> tuple[BlockRecord, ...]:
    try:
        return tuple(block_record(report) for report in check_code(text))
    except Exception:  # the text is shown all the same, and its code as not checked
        return tuple(BlockRecord(block.digest, "not checked") for block in code_blocks(text))


def decisive(verdicts: Sequence[VerdictRecord]) -> VerdictRecord | None:
    """The last verdict that blocked."""
    blocking = [verdict for verdict in verdicts if verdict.action == "block"]
    return blocking[-1] if blocking else None


def _percent(share: float) -> int:
    return round(100 * min(1.0, max(0.0, share)))
