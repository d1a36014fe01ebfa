"""The dialog Models: what answers, what else is on this machine, how to get a Llama."""

from __future__ import annotations

from dataclasses import dataclass

from app.details import translated
from app.explain import explain, headline
from app.models import ModelBusy, ModelChoice, model_choices
from app.page.fetch import FetchPanel
from app.page.figures import count, size
from app.page.loading import LoadChoices
from app.page.memory import Memory
from app.page.servers import Servers
from app.page.templates import Templates
from app.room import Room, Spread, room_here
from app.services import Services
from engine.base import EngineInfo
from engine.catalog import BUILT_IN
from storage.records import OWNER_ID, StorageError


@dataclass(frozen=True, slots=True)
class _Choice:
    """One line of the list."""

    name: str
    title: str
    about: str
    used: bool
    usable: bool
    known: bool  # its config can be read, so it can be inspected


class ModelsPanel:
    """Renders the models and changes the one that answers. Reads files: not on the event loop."""

    def __init__(self, services: Services, templates: Templates) -> None:
        self._services = services
        self._templates = templates
        self._strings = templates.strings
        self._say = templates.strings.say
        self._fetch = FetchPanel(services, templates)
        self._servers = Servers(services, templates)
        self._memory = Memory(services, templates)
        self._loads = LoadChoices(services, templates)

    def value(self, user_id: int, *, followed: bool = False) -> dict[str, object]:
        """What the dialog shows now; with `followed`, it also says how a change of model ended."""
        services = self._services
        owner = user_id == OWNER_ID
        loading = services.readiness().engine.state == "loading"
        info = services.engine_info()
        settings = services.settings
        origin = settings.origin("model")
        choices = model_choices(settings) if owner else []
        room = room_here(self._services.settings)
        running = (choice.config for choice in choices if choice.name == services.running.name)
        config = next(running, None)
        html = self._templates.render(
            "panel_models",
            owner=owner,
            info=info,
            facts=self._facts(info) if info else (),
            notes=self._notes(info) if info else (),
            waiting=self._waiting(loading),
            loading=loading,
            choices=[self._choice(choice, room, bool(info)) for choice in choices],
            folder=settings.data / "models",
            again="" if origin == "default" else self._say("panels.models.again", origin=origin),
            fetch=self._fetch.values({choice.name for choice in choices}) if owner else {},
            progress=self._fetch.progress(),
            small=services.running.name == BUILT_IN,
            servers=self._servers.values(runs=bool(info)) if owner else (),
            loads=self._loads.rows(config, room) if owner else (),
            memory=self._memory.bar(room) if owner else None,
            kept=self._memory.kept() if owner and info else "",
            took=self._memory.took(services.running.name, precision=info.precision) if info else "",
        )
        said, tone = self._ending(info) if followed and not loading else ("", "info")
        return {
            "kind": "models",
            "html": html,
            "said": said,
            "tone": tone,
            "loading": loading,
            "fetching": self._fetching,
        }

    def fetch(self, user_id: int, mode: str, text: str) -> dict[str, object]:
        """Start, follow or stop a download, or keep a token. Raises `EngineError`."""
        said, tone = self._fetch.act(mode, text)
        if mode == "follow" and self._fetching:
            html = self._templates.render("models_progress", progress=self._fetch.progress())
            told = {"kind": "models", "into": "fetching", "html": html}
            return {**told, "fetching": True, "quiet": True}
        shown = self.value(user_id)
        if mode in ("follow", "stop") and not shown["fetching"]:  # it ended meanwhile
            said, tone = self._fetch.ending()
        return {**shown, "said": said, "tone": tone}

    @property
    def _fetching(self) -> bool:
        return self._services.downloads.view().state == "running"

    def act(self, user_id: int, mode: str, text: str) -> dict[str, object]:
        """Load or unload a model, or keep, try or remove a server. Raises `EngineError`."""
        if mode in ("keep", "try", "remove"):
            said, tone = self._servers.act(mode, text)
            return {**self.value(user_id), "said": said, "tone": tone}
        try:
            if mode == "unload":
                self._services.running.unload()
                return {**self.value(user_id), "loading": True}  # looks again how it ended
            if mode == "again":
                self._loads.keep(text)
                text = self._services.running.name
            elif text not in self._usable_names():
                return self._refused("panels.models.unknown")
            self._services.running.use(text)
        except ModelBusy:
            return self._refused("panels.models.busy")
        return self.value(user_id, followed=True)

    def _usable_names(self) -> set[str]:
        choices = model_choices(self._services.settings)
        return {*(c.name for c in choices if _usable(c)), *self._servers.addresses()}

    def _refused(self, key: str) -> dict[str, object]:
        return {"kind": "models", "said": self._say(key), "tone": "error"}

    def _title(self, name: str) -> str:
        return self._say("panels.models.built_in") if name == BUILT_IN else name

    def _facts(self, info: EngineInfo) -> list[tuple[str, str]]:
        """What is running."""
        context = self._say("panels.models.tokens", count=f"{info.context_length:,}")
        values = {
            "parameters": count(info.num_parameters),
            "device": info.device,
            "precision": info.precision,
            "context": context,
        }
        if info.quality:
            values["quality"] = translated(info.quality, self._strings) or info.quality
        if info.leaves_to:
            del values["parameters"]  # they are the other machine's
        return [(self._say(f"panels.models.facts.{key}"), value) for key, value in values.items()]

    def _notes(self, info: EngineInfo) -> list[str]:
        base = "" if info.chat else self._say("panels.models.base")
        own = self._services.running.name == BUILT_IN
        basic = self._say("panels.models.basic") if own else ""
        said = (info.spread, info.note, info.unrecorded)
        told = [translated(each, self._strings) or each for each in said]
        return [*filter(None, (basic, base, *told))]

    def _waiting(self, loading: bool) -> str:
        if loading:
            name = self._title(self._services.running.name)
            return self._say("panels.models.loading", name=name)
        error = self._services.readiness().engine.error
        none = self._say("panels.models.none")
        return f"{self._why(error)} {none}" if error else none

    def _why(self, error: Exception) -> str:
        told = explain(error, self._strings)
        return f"{headline(told, self._strings)} {told.detail or told.text}"

    def _ending(self, info: EngineInfo | None) -> tuple[str, str]:
        """How the last change of model ended, and in which tone to say it."""
        error, name = self._services.running.error, self._title(self._services.running.name)
        if error is None:
            return self._say("panels.models.ready", name=name), "info"
        if isinstance(error, StorageError):
            return self._say("panels.models.unsaved", name=name), "error"
        wanted, why = self._title(self._services.running.wanted), self._why(error)
        if info is None:
            return self._say("panels.models.failed", name=wanted, why=why), "error"
        return self._say("panels.models.kept", name=wanted, old=name, why=why), "error"

    def _choice(self, choice: ModelChoice, room: Room | None, runs: bool) -> _Choice:
        about = translated(choice.problem, self._strings) or choice.problem
        if choice.purpose == "guard":
            about = self._say("panels.models.guard")
        elif not about:
            context = self._say("panels.models.tokens", count=f"{choice.context_length:,}")
            sizes = [count(choice.num_parameters), size(choice.stored_bytes), context]
            took = self._memory.took(choice.name)
            about = " · ".join([*sizes, *([took] if took else self._need(choice, room))])
        if choice.base:
            about = f"{self._say('panels.models.adapter', base=choice.base)} · {about}"
        used = runs and choice.name == self._services.running.name
        title = self._title(choice.name)
        return _Choice(choice.name, title, about, used, _usable(choice), choice.config is not None)

    def _need(self, choice: ModelChoice, room: Room | None) -> list[str]:
        """What it takes in memory, in the precision of the settings."""
        if room is None or choice.config is None:
            return []
        precision = self._services.settings.precision
        need = room.need(choice.config, precision)
        sizes = {"size": size(need.num_bytes), "free": size(room.free_bytes)}
        if need.fits:
            return [self._say("panels.fetch.needs", precision=need.precision, **sizes)]
        more = self._say("panels.fetch.needs_more", precision=need.precision, **sizes)
        spread = room.spread(choice.config, precision)
        return [more, self._spread(spread)] if spread else [more]

    def _spread(self, spread: Spread) -> str:
        """Where its layers would lie, and how slow that is."""
        if not spread.brought_bytes:
            return self._say("panels.fetch.spread_gpus", count=spread.num_devices)
        return self._say(
            "panels.fetch.spread_disk" if spread.uses_disk else "panels.fetch.spread_memory",
            here=spread.num_here,
            layers=spread.num_layers,
            size=size(spread.brought_bytes),
            seconds=f"{spread.seconds:.2g}",
        )


def _usable(choice: ModelChoice) -> bool:
    return not choice.problem and choice.purpose != "guard"
