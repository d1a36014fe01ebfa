"""The dialog on one message: fork from it, remove its branch, reword an answer, several at once."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from app.explain import explain_verdict, headline
from app.job import Job
from app.judging import recorded
from app.page.payload import Payload, PayloadInvalid
from app.page.templates import Templates
from app.render import Renderer
from app.requests import MAX_ALTERNATIVES, Again
from app.services import Services
from storage.records import MessageRecord

MAX_BEGINNING_CHARS = 2_000


class BranchesPanel:
    """What can be done with the tree at one message. Blocks."""

    def __init__(self, services: Services, templates: Templates, renderer: Renderer) -> None:
        self._services = services
        self._templates = templates
        self._say = templates.strings.say
        self._renderer = renderer

    def view(self, user_id: int, payload: Payload) -> dict[str, object]:
        """The choices at a message; with `on`, alternatives as far as they are written."""
        record = self._services.store.message(user_id, payload.key or "", payload.id or 0)
        if payload.on:
            return self._side_by_side(user_id, payload.key or "", record)
        prompt_id = record.id if record.role == "user" else record.parent_id
        html = self._templates.render(
            "panel_branches", record=record, prompt_id=prompt_id, most=MAX_ALTERNATIVES
        )
        return {"html": html}

    def act(
        self, user_id: int, verb: str, payload: Payload, fields: Mapping[str, str]
    ) -> dict[str, object]:
        """Change the tree, or begin new answers."""
        store, key, message_id = self._services.store, payload.key or "", payload.id or 0
        if verb == "fork":
            title = self._say("keep.fork_title", title=store.conversation(user_id, key).title)
            made = store.copy(user_id, key, upto_id=message_id, title=title)
            return {"close": True, "open": made.key}
        if verb == "remove":
            store.remove_branch(user_id, key, message_id)
            html = self._templates.render("branch_removed", message_id=message_id)
            return {"html": html, "said": "", "tone": "info"}
        if verb == "restore":
            store.restore_branch(user_id, key, message_id)
            return {"close": True, "open": key}
        if verb == "reword":
            return self._reword(user_id, key, message_id, fields.get("text", ""))
        if verb == "alternatives":
            return self._begin(user_id, key, message_id, fields)
        if verb == "choose":
            store.select_version(user_id, key, message_id)
            return {"close": True, "open": key}
        raise PayloadInvalid("verb")

    def _reword(self, user_id: int, key: str, reply_id: int, text: str) -> dict[str, object]:
        """Another version of an answer in the person's words, judged like any other."""
        store = self._services.store
        reply = store.message(user_id, key, reply_id)
        if not text.strip() or text == reply.content:
            return {"close": True}
        guard = self._services.guard.peek()
        if guard is None:
            return {"said": self._say("errors.refused.not_ready.text"), "tone": "error"}
        prompt = store.message(user_id, key, reply.parent_id or 0)
        policy = self._services.policy(user_id)
        decision = policy.decide(guard.judge(prompt.content, text), "reply")
        verdict = recorded("final", decision, policy.version, len(text))
        if decision.blocks:
            told = explain_verdict(verdict, self._templates.strings)
            said = f"{headline(told, self._templates.strings)} {told.text}"
            return {"said": said, "tone": "error"}
        turn = store.begin_branch(user_id, key, reply_id=reply_id, num_chars=0)
        store.append(turn.reply.id, text)
        store.finish_reply(turn.reply.id, status="done", generation=None, verdicts=[verdict])
        return {"close": True, "open": key}

    def _begin(
        self, user_id: int, key: str, prompt_id: int, fields: Mapping[str, str]
    ) -> dict[str, object]:
        asked = fields.get("count", "1")
        count = min(int(asked), MAX_ALTERNATIVES) if asked.isdecimal() and len(asked) < 3 else 1
        beginning = fields.get("beginning", "")[:MAX_BEGINNING_CHARS]
        again = Again(key, prompt_id, beginning=beginning, count=max(1, count))
        job = self._services.jobs.start(user_id, again)
        if count < 2:
            return {"close": True, "open": key}
        record = self._services.store.message(user_id, key, job.reply_id)
        return self._side_by_side(user_id, key, record)

    def _side_by_side(self, user_id: int, key: str, record: MessageRecord) -> dict[str, object]:
        """All versions of an answer beside each other; asks again while some are written."""
        job = self._services.jobs.running(user_id, key)
        written = {one.reply_id: one for one in (*job.beside, job)} if isinstance(job, Job) else {}
        message = self._services.store.message
        versions = [message(user_id, key, one) for one in record.sibling_ids]
        sides = [(one.id, one.version, self._body(one, written.get(one.id))) for one in versions]
        html = self._templates.render(
            "alternatives", sides=sides[-MAX_ALTERNATIVES:], writing=bool(written)
        )
        value: dict[str, object] = {"into": "alternatives", "html": html}
        if written:
            value["poll"] = {"mode": "branches", "id": record.id, "on": True}
        return value

    def _body(self, record: MessageRecord, job: Job | None) -> Markup:
        return Markup(self._renderer.html(job.view().text if job else record.content))
