"""Settings in, objects out: the one place that names concrete engines, guards and stores.

Everything heavy is imported inside the loads, which run on threads of their own after the page is
up: torch alone takes seconds.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

from app.choices import Choices, instructions
from app.credentials import Credentials
from app.downloads import Downloads
from app.guarding import Guarding
from app.jobs import Jobs
from app.library import Library
from app.manifest import changed_files
from app.models import ModelBusy, ModelUnloaded, fits_beside, take_over
from app.parts import Part, PartView
from app.settings import Settings
from app.turn import Means, Step, Task, cache_scope, take_turn
from app.upkeep import start_upkeep
from engine.base import Engine, EngineError, EngineInfo, Sampling
from engine.catalog import BUILT_IN
from engine.kept_files import KEPT_FOLDER, MEMORY_ONLY, remove_kept
from safety.base import Guard
from safety.policy import Policy
from storage.records import OWNER_ID, Conversation, StorageError, Turn
from storage.store import Store

if TYPE_CHECKING:
    from app.doors import Doors

log = logging.getLogger("corral.services")


@dataclass(frozen=True, slots=True)
class Readiness:
    """How far the two parts are that every turn needs."""

    engine: PartView
    guard: PartView

    @property
    def ready(self) -> bool:
        """Whether a prompt would be answered at once."""
        return self.engine.state == self.guard.state == "ready"


class Services:
    """The running program, without its server: store, jobs, engine and guard.

    `start` opens the store and takes turns (which wait for their parts); `load` begins to load
    engine and guard, once the page is up. Both return at once. `close` ends everything.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.closing = Event()
        self.started_at = time.time()
        self.library = Library.load()
        self.model = settings.model  # the name of the one that answers, or is being loaded
        self.model_wanted = settings.model  # the name that was chosen last
        self.model_error: Exception | None = None  # why the last change of model did not happen
        self.changed_files: list[str] = []  # of the model, since it was last loaded
        self.doors: Doors | None = None  # set by the server, which has them
        self.credentials = Credentials(settings.data)
        self.downloads = Downloads(settings.data / "models", self.credentials)
        self._choosing = Lock()
        self._outgoing: Engine | None = None  # answers until the next one is loaded
        self.engine: Part[Engine] = Part(
            "engine", lambda: self._loaded(self._settings_for(self.model))
        )
        self.guarding = Guarding(
            settings, engine=lambda: self.engine.peek(), load=lambda guarding: load_guard(guarding)
        )
        self.guard: Part[Guard] = self.guarding.part

    def start(self) -> None:
        """Open the store. Raises `StorageError`; nothing runs then."""
        self.store = Store.open(self.settings.data)
        if self.store.repair is not None:
            log.error("the database was damaged: %s", self.store.repair.report())
        if self.settings.origin("model") == "default":
            self.model = self.store.setting(OWNER_ID, "model") or self.settings.model
        self.guarding.start(self.store)
        means = Means(self.store, self.engine, self.guard, self.closing)

        def run(task: Task, cancel: Event) -> Iterator[Step]:
            return take_turn(task, means, cancel=cancel)

        self.jobs = Jobs(self.store, task_for=self.task_for, run=run, closing=self.closing)

    def load(self) -> None:
        """Begin to load the guard and the engine, and to look after the data."""
        self.guard.start()
        self.engine.start()
        self._upkeep = start_upkeep(
            self.store,
            purge_trash=self.purge_trash,
            keep_days=lambda: self.guarding.keep_days,
            end_guests=self.end_guests,
            closing=self.closing,
        )

    def task_for(self, conversation: Conversation, turn: Turn) -> Task:
        """A prompt with the choices that hold for its user and its conversation."""
        user_id, choices = conversation.user_id, Choices.of(conversation)
        return Task(
            conversation,
            turn,
            self.policy(user_id),
            choices.sampling(self.sampling(user_id)),
            instructions=instructions(conversation.system_prompt, choices, self.library),
            overflow=choices.overflow,
            keeps_withheld=self.guarding.keep_days > 0,
            memory_only=self.store.people.is_guest(user_id),
        )

    def policy(self, user_id: int) -> Policy:
        """The content policy that holds for a user."""
        return self.guarding.policy(user_id)

    def sampling(self, user_id: int) -> Sampling:
        """How replies are drawn for this user; as the model's makers do if nothing is saved."""
        saved = self.store.setting(user_id, "sampling")
        if saved is None:
            return usual_sampling(self._settings_for(self.model))
        try:
            return Sampling(**json.loads(saved))
        except (EngineError, TypeError, json.JSONDecodeError):
            log.warning("the saved sampling of user %d is unreadable; the usual one holds", user_id)
            return usual_sampling(self._settings_for(self.model))

    def use_model(self, name: str) -> None:
        """Begin to load another model in place of the one that answers. Returns at once.

        Prompts wait meanwhile. An answer that is being written ends with `EngineClosed` when its
        engine closes; what was written is kept. The choice holds for later starts that name no
        model. If it cannot be loaded, the old one goes on and `model_error` says why. Raises
        `CheckpointMissing` or `ModelBusy`; nothing changes then.
        """
        wanted = self._settings_for(name)
        path = find_model(wanted)
        with self._choosing:
            if self.engine.view().state == "loading":
                raise ModelBusy(name)
            before, self._outgoing = self.model, self.engine.peek()
            self.model, self.model_wanted, self.model_error = name, name, None
            change = partial(self._change_model, self._settings_for(before), wanted, path)
            self.engine.replace(change)

    def unload_model(self) -> None:
        """Give back the memory of the model that answers. Nothing answers until one is chosen.

        Blocks until it is closed. Raises `ModelBusy` while one is being loaded.
        """
        with self._choosing:
            if self.engine.view().state == "loading":
                raise ModelBusy(self.model)
            engine = self.engine.peek()

            def nothing() -> Engine:
                if engine is not None:
                    engine.close()
                raise ModelUnloaded("No model is loaded.")

            self.engine.replace(nothing)

    def _change_model(self, before: Settings, wanted: Settings, path: Path | None) -> Engine:
        """The load that `use_model` begins. Blocks. Raises if no model is left to answer."""
        try:
            engine, error = take_over(
                self._outgoing,
                load_new=lambda: self._loaded(wanted),
                load_old=lambda: self._loaded(before),
                fits=lambda: path is None or fits_beside(path, self.settings.device),
            )
        except Exception as failure:
            log.warning("no model could be loaded", exc_info=failure)
            self.model_error = failure
            raise
        if error is not None:
            log.warning("the chosen model could not be loaded", exc_info=error)
            self.model, self.model_error = before.model, error
        elif not self.closing.is_set():
            try:
                self.store.set_setting(OWNER_ID, "model", wanted.model)
            except StorageError as failure:  # it answers now; the next start takes the old one
                self.model_error = failure
        self._outgoing = None
        if self.closing.is_set():
            engine.close()
        return engine

    def _loaded(self, settings: Settings) -> Engine:
        """Load an engine; its files are then compared. Raises `EngineError`."""
        engine = load_engine(settings)
        self.changed_files = []
        if settings.model != BUILT_IN:  # that one changes with Corral itself
            compare = partial(self._compare_files, settings.model)
            Thread(target=compare, name="manifest", daemon=True).start()
        return engine

    def _compare_files(self, model: str) -> None:
        from engine.catalog import resolve

        try:
            folder = resolve(model, models=self.settings.data / "models")
            self.changed_files = changed_files(self.store, folder)
        except (EngineError, OSError, StorageError) as error:  # a server elsewhere has no files
            log.info("the files of the model were not compared: %s", type(error).__name__)

    def _settings_for(self, model: str) -> Settings:
        """The settings with what was chosen on the page, where the start chose nothing itself."""
        chosen: dict[str, object] = {"model": model}
        if model != self.settings.model:
            chosen["adapter"] = ""  # it belongs to the model that was named beside it
        for name in ("precision", "context"):
            kept = self.store.setting(OWNER_ID, name)
            if kept and self.settings.origin(name) == "default":
                chosen[name] = int(kept) if name == "context" else kept
        return replace(self.settings, **chosen)  # type: ignore[arg-type]  # checked when they were kept

    def readiness(self) -> Readiness:
        """How far engine and guard are. Does not block."""
        return Readiness(self.engine.view(), self.guard.view())

    def engine_info(self) -> EngineInfo | None:
        """What is running, or None while it loads."""
        engine = self.engine.peek()
        return engine.info() if engine else None

    def end_guests(self) -> None:
        """Remove the guests whose session has ended, and every word of theirs. Blocks."""
        idle = self.settings.session_idle_hours * 3_600_000
        for user_id in self.store.people.guests_gone(idle_milliseconds=idle):
            for key in self.jobs.running_keys(user_id):
                self.jobs.stop(user_id, key)
            self.store.remove_person(user_id)
            self.forget(f"user-{user_id}")

    def purge(self, user_id: int, key: str) -> Sequence[Path]:
        """Remove a conversation for good, its keys and values too; the backups that still hold it.

        Blocks. Raises `StorageError`.
        """
        self.jobs.stop(user_id, key)
        backups = self.store.purge(user_id, key)
        self.forget(cache_scope(user_id, key))
        return backups

    def purge_trash(self) -> None:
        """Remove for good what has lain in the trash for long, its keys and values too. Blocks."""
        for user_id, key in self.store.purge_trash(older_than_days=self.settings.trash_days):
            self.forget(cache_scope(user_id, key))

    def forget(self, scope: str) -> None:
        """Remove keys and values of a conversation or a user, whichever model they are of."""
        engine = self.engine.peek()
        if engine is not None:
            engine.forget(scope)
            engine.forget(MEMORY_ONLY + scope)
        remove_kept(self.settings.data / KEPT_FOLDER, scope)

    def close(self) -> None:
        """End running turns (what they wrote is kept), free the device, close the store.

        Safe to call twice: the server does so before it says goodbye to its pages.
        """
        self.downloads.close()
        self.jobs.close()
        for engine in (self.engine.peek(), self._outgoing):
            if engine is not None:
                engine.close()
        self.store.close()


def find_model(settings: Settings) -> Path | None:
    """Where the model lies that `settings` name; None for one on another server.

    Raises `CheckpointMissing`, also for what is no address.
    """
    from engine.catalog import resolve
    from engine.endpoint import Address, is_address

    if is_address(settings.model):
        Address.parse(settings.model)
        return None
    return resolve(settings.model, models=settings.data / "models")


def load_engine(settings: Settings) -> Engine:
    """Load the model that `settings` name. Takes seconds. Raises `EngineError`."""
    path = find_model(settings)
    if path is None:
        from engine.endpoint import Address
        from engine.remote import RemoteEngine

        address = Address.parse(settings.model)
        key = Credentials(settings.data).get(address.base_url)
        return RemoteEngine(address, key=key, max_context=settings.context or None)
    from engine.local import LocalEngine

    return LocalEngine(
        path,
        adapter=Path(settings.adapter) if settings.adapter else None,
        allow_pickle=settings.allow_pickle,
        extension=settings.extension,
        device=settings.device,
        precision=settings.precision,
        threads=settings.threads or None,
        cache_bytes=settings.cache_megabytes << 20 or None,
        disk_folder=settings.data / KEPT_FOLDER,
        disk_bytes=settings.cache_disk_megabytes << 20,
        max_context=settings.context or None,
    )


def usual_sampling(settings: Settings) -> Sampling:
    """The sampling that the model's own files ask for, or the default. Reads two small files."""
    from engine.usual import usual_sampling as read

    try:
        path = find_model(settings)
        return read(path) if path else Sampling()
    except EngineError:
        return Sampling()  # the load itself says what is wrong with the model


def load_guard(guarding: Guarding) -> Guard:
    """Load the chosen guard, which is tried on texts beyond doubt first.

    Raises `GuardError`; no prompt is answered then.
    """
    return guarding.load_chosen()
