"""What surrounds a conversation: the head, the foot, the first screen, the short messages."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

from app.choices import Choices
from app.details import translated
from app.explain import Explanation, explain, headline
from app.page.panes import items
from app.page.templates import Templates
from app.services import Services
from app.strings import LANGUAGES
from engine.base import EngineInfo
from safety.policy import PRESETS
from storage.records import OWNER_ID, Conversation

NUM_IDEAS = 3


class Shell:
    """Renders the frame of the page in one language. Reads no conversation."""

    def __init__(self, services: Services, templates: Templates) -> None:
        self._services = services
        self._templates = templates
        self._say = templates.strings.say
        self._notes = itertools.count(1)

    def head(
        self, user_id: int, conversation: Conversation | None, *, temporary: bool = False
    ) -> dict[str, object]:
        """Title and chips. Reads the user's policy from the store: not on the event loop."""
        policy = self._services.policy(user_id).name
        own = self._say("page.policy.own")
        name = self._say(f"page.policy.{policy}") if policy in PRESETS else own
        title = (conversation.title if conversation else "") or self._say("page.list.untitled")
        choices = Choices.of(conversation) if conversation else Choices()
        plain = choices.preset == "usual"
        named = self._say("session.chip" if plain else f"session.preset.{choices.preset}")
        session = choices.persona or named
        html = self._templates.render(
            "head",
            title=title,
            key=conversation.key if conversation else "",
            guard=self._say("page.head.guard", name=name),
            open_safety=self._say("panels.open_safety", name=name),
            session=session,
            session_label=self._say("session.open", name=session),
            temporary=temporary,
        )
        return items([("head", html)])

    def foot(self, *, away: bool) -> dict[str, object]:
        """Model, precision and device, or how far they are; where words go; what befell the data.

        Who is `away`, over a link or the network, is told nothing of this machine's files.
        """
        ready = self._services.readiness()
        info = self._services.engine_info()
        lines: list[str] = []
        state, headline = "ready", ""
        if "failed" in (ready.engine.state, ready.guard.state):
            state, headline = "failed", self._say("page.foot.failed")
            for part, words in ((ready.guard, "guard_failed"), (ready.engine, "failed")):
                if part.error is not None:
                    told = explain(part.error, self._templates.strings)
                    headline = self._say(f"page.foot.{words}")
                    lines += [told.title, "" if away else told.detail, told.action]
        elif ready.engine.state == "loading":
            state, headline = "loading", self._say("page.foot.loading")
        elif ready.guard.state == "loading":
            state = "loading"
            lines.append(self._say("page.foot.loading_guard"))
        if info is not None and info.note:
            lines.append(self._told(info.note))
        if not away:
            lines += self._befallen()
        html = self._templates.render(
            "foot",
            state=state,
            info=info,
            device=info.device.partition(" (")[0] if info else "",  # its threads are a detail
            headline=headline,
            lines=[*filter(None, lines)],
            where=self._where("page.foot", away, info),
            languages=LANGUAGES,
            spoken=self._templates.strings.language,
        )
        return items([("foot", html)])

    def _befallen(self) -> list[str]:
        """What happened to the model's files and to the data."""
        lines: list[str] = []
        if changed := self._services.running.changed_files:
            lines.append(self._say("page.foot.changed", files=", ".join(changed[:5])))
        store = self._services.store
        if store.repair is not None:
            told = (self._told(each) for each in store.repair.sentences)
            lines.append(" ".join(told))
        if store.full:
            lines.append(self._say("page.foot.full"))
        return lines

    def _told(self, detail: str) -> str:
        """A sentence of the engine or the store in the reader's language, where it has one."""
        return translated(detail, self._templates.strings) or detail

    def _where(self, part: str, away: bool, info: EngineInfo | None) -> str:
        """Where the reader's words go: nowhere, to the machine of this Corral, or to a server."""
        leaves_to = info.leaves_to if info else ""
        if away:
            told = self._say(f"{part}.away")
            return f"{told} {self._say('page.foot.onward', place=leaves_to)}" if leaves_to else told
        return self._say(f"{part}.remote" if leaves_to else f"{part}.offline", place=leaves_to)

    def empty(self, user_id: int, *, away: bool, temporary: bool = False) -> str:
        """The first screen: what this is, and the way to a real Llama."""
        settings = self._services.settings
        owner_here = user_id == OWNER_ID and not away
        folder: Path | None = settings.data / "models" if owner_here else None
        return self._templates.render(
            "empty",
            ideas=[self._say(f"page.empty.idea_{n}") for n in range(1, NUM_IDEAS + 1)],
            built_in=self._services.running.name == "built-in",
            folder=folder,
            temporary=temporary,
            where=self._where("page.empty", away, self._services.engine_info()),
        )

    def told(self, title: str, *, undo: str = "") -> dict[str, object]:
        """A short message; with `undo`, the key of the conversation that can be restored."""
        return self._note("info", Explanation(title, "", ""), undo)

    def error(self, error: Exception, *, client_key: str = "") -> dict[str, object]:
        """What went wrong and what to do; `client_key` names the sending that failed."""
        told = explain(error, self._templates.strings)
        title = headline(told, self._templates.strings)
        return {**self._note("error", replace(told, title=title)), "failed": client_key}

    def _note(self, tone: str, told: Explanation, undo: str = "") -> dict[str, object]:
        html = self._templates.render(
            "toast", tone=tone, title=told.title, text=told.text, action=told.action, undo=undo
        )
        return items([(f"note{next(self._notes)}", html)])
