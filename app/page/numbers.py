"""The dialog Numbers: what an answer was made with and what it cost, its replay, the session."""

from __future__ import annotations

import time
from collections.abc import Sequence

from app.page.charts import session_chart
from app.page.figures import size
from app.page.payload import Payload
from app.page.templates import Templates
from app.replay import Replay, Replays
from app.services import Services
from storage.records import OWNER_ID, Generation, MessageRecord


class NumbersPanel:
    """Shows the record of one answer. Only the owner may have it computed again."""

    def __init__(self, services: Services, templates: Templates) -> None:
        self._services = services
        self._templates = templates
        self._say = templates.strings.say
        self._replays = Replays()

    def view(self, user_id: int, payload: Payload) -> dict[str, object]:
        """The record of `payload.id`; with `on`, only what its replay found."""
        if payload.on:
            return self._replayed(payload)
        reply = self._services.store.message(user_id, payload.key or "", payload.id or 0)
        started = int(self._services.started_at * 1000)
        runs = self._services.store.recent_runs(user_id, since=started)
        html = self._templates.render(
            "panel_numbers",
            reply=reply,
            runs=[self._facts(run) for run in reply.generations],
            prompts=[run.system_prompt for run in reply.generations][-1:],
            owner=user_id == OWNER_ID,
            can_replay=_can_replay(reply),
            replay=self._sentence(self._replays.of(reply.id)),
            chart=session_chart(runs),
            num_runs=len(runs),
        )
        return {"html": html}

    def act(self, user_id: int, verb: str, payload: Payload, fields: object) -> dict[str, object]:
        """Compute the answer again."""
        if user_id != OWNER_ID:
            return {"said": self._say("panels.owner_only"), "tone": "error"}
        store, key = self._services.store, payload.key or ""
        reply = store.message(user_id, key, payload.id or 0)
        engine = self._services.engine.peek()
        if engine is None or not _can_replay(reply) or self._services.jobs.running(user_id, key):
            return {"said": self._say("numbers.not_now"), "tone": "error"}
        path = store.path(user_id, key, leaf_id=reply.parent_id)
        # An answer that somebody waits for goes first: the engine shares its steps among rows.
        if not self._replays.start(engine, path, reply, cancel=self._services.closing):
            return {"said": self._say("numbers.busy"), "tone": "error"}
        return self._replayed(payload)

    def _replayed(self, payload: Payload) -> dict[str, object]:
        found = self._replays.of(payload.id or 0)
        html = self._templates.render("line", text=self._sentence(found))
        value: dict[str, object] = {"into": "replay", "html": html}
        if found is not None and found.state == "running":
            value["poll"] = {"mode": "numbers", "id": payload.id, "on": True}
        return value

    def _sentence(self, found: Replay | None) -> str:
        if found is None:
            return ""
        words: dict[str, object] = {"same": f"{found.num_same:,}", "all": f"{found.num_all:,}"}
        if found.state != "differs":
            return self._say(f"numbers.replay.{found.state}", **words)
        words["place"] = f"{found.num_same + 1:,}"
        parts = [self._say("numbers.replay.differs", **words)]
        if found.now:
            parts.append(self._say("numbers.replay.now", text=found.now))
        if found.margin is not None:
            parts.append(self._say("numbers.replay.margin", margin=f"{found.margin:.3f}"))
        if found.prompt_changed:
            parts.append(self._say("numbers.replay.prompt_changed"))
        return " ".join(parts)

    def _facts(self, run: Generation) -> Sequence[tuple[str, str]]:
        say = self._say
        sampling = {
            name: value
            for name, value in run.sampling.items()
            if name not in ("seed", "num_logprobs")
        }
        shown = ", ".join(
            f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in sampling.items()
            if value not in (None, "", {}, [], ())
        )
        return [
            (say("numbers.model"), f"{run.model} · {run.fingerprint[:12]}"),
            (say("numbers.precision"), run.precision),
            (say("numbers.device"), run.device),
            (say("numbers.seed"), str(run.seed)),
            (say("numbers.sampling"), shown),
            (say("numbers.prompt"), f"{run.num_prompt:,}"),
            (say("numbers.reused"), f"{run.num_reused:,}"),
            (say("numbers.new"), f"{run.num_new:,}"),
            (say("numbers.given"), f"{run.num_given:,}" if run.num_given else ""),
            (say("numbers.left_out"), f"{run.num_left_out:,}" if run.num_left_out else ""),
            (say("numbers.queue"), f"{run.queue_seconds:.2f} s"),
            (say("numbers.first"), f"{run.first_token_seconds:.2f} s"),
            (say("numbers.total"), f"{run.total_seconds:.2f} s"),
            (say("numbers.rate"), f"{run.tokens_per_second:.1f}"),
            (say("numbers.memory"), size(run.memory_bytes) if run.memory_bytes else ""),
            (say("numbers.ended"), run.error_code or run.finish_reason),
            (say("numbers.at"), time.strftime("%Y-%m-%d %H:%M", time.localtime(run.at / 1000))),
        ]


def _can_replay(reply: MessageRecord) -> bool:
    return reply.status in ("done", "stopped") and bool(reply.generations)
