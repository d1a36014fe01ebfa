"""Settings in, objects out: the one place that names concrete engines, guards and stores.

Everything heavy is imported inside the loads, which run on threads of their own after the page is
up: torch alone takes seconds.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

from app.choices import Choices, instructions
from app.credentials import Credentials
from app.downloads import Downloads
from app.guarding import Guarding
from app.jobs import Jobs
from app.library import Library
from app.models import find_model
from app.parts import Part, PartView
from app.probing import Probing
from app.room import offloading
from app.running_model import RunningModel
from app.settings import Settings
from app.task import Means, Step, Task, cache_scope
from app.turn import take_turn
from app.upkeep import start_upkeep
from engine.base import Engine, EngineInfo, Sampling
from engine.errors import EngineError
from engine.home import MEASURED
from engine.kept_files import KEPT_FOLDER, MEMORY_ONLY, remove_kept
from safety.base import Guard
from safety.code_shield import CodeShield
from safety.policy import Policy
from storage.records import Conversation, Turn
from storage.store import Store

if TYPE_CHECKING:
    from app.doors import Doors

END_SECONDS = 10.0  # a turn that is stopped ends within one decode step
ALONE_SECONDS = 1800.0  # a page that shows a temporary conversation says so every few minutes

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
        self.doors: Doors | None = None  # set by the server, which has them
        self._upkeep: Thread | None = None
        self.credentials = Credentials(settings.data)
        self.downloads = Downloads(settings.data / "models", self.credentials)
        self.running = RunningModel(
            settings,
            load=lambda chosen: load_engine(chosen),
            is_quiet=lambda: self.guard.view().state != "loading",
            closing=self.closing,
        )
        self.guarding = Guarding(
            settings, engine=lambda: self.engine.peek(), load=lambda guarding: load_guard(guarding)
        )
        self.guard: Part[Guard] = self.guarding.part
        self.probing = Probing(self.guarding.load_other, self.closing)
        folder = settings.code_shield
        self.code_shield = CodeShield(Path(folder).expanduser()) if folder else None

    def start(self) -> None:
        """Open the store. Raises `StorageError`; nothing runs then."""
        self.store = Store.open(self.settings.data)
        if self.store.repair is not None:
            log.error("the database was damaged: %s", self.store.repair.report())
        self.running.start(self.store)
        self.guarding.start(self.store)
        look = self.code_shield.check if self.code_shield else None
        means = Means(self.store, self.engine, self.guard, self.closing, look)

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
            end_temporary=self.end_left_alone,
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
            gate_mode=self.guarding.gate_mode,
            keeps_withheld=self.guarding.keep_days > 0,
            memory_only=self.store.people.is_guest(user_id)
            or self.store.temporary.holds(user_id, conversation.key),
        )

    def policy(self, user_id: int) -> Policy:
        """The content policy that holds for a user."""
        return self.guarding.policy(user_id)

    def sampling(self, user_id: int) -> Sampling:
        """How replies are drawn for this user; as the model's makers do if nothing is saved."""
        saved = self.store.setting(user_id, "sampling")
        if saved is None:
            return usual_sampling(self.running.settings_for())
        try:
            return Sampling(**json.loads(saved))
        except (EngineError, TypeError, json.JSONDecodeError):
            log.warning("the saved sampling of user %d is unreadable; the usual one holds", user_id)
            return usual_sampling(self.running.settings_for())

    @property
    def engine(self) -> Part[Engine]:
        """What turns messages into text, once it is loaded."""
        return self.running.part

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
            self.remove_person(user_id)

    def remove_person(self, user_id: int) -> None:
        """Remove an account with everything it wrote. Blocks. Raises `StorageError`."""
        self.stop_turns(user_id)
        self.store.remove_person(user_id)
        self.forget(f"user-{user_id}")

    def stop_turns(self, user_id: int) -> None:
        """End what runs and waits of a user; back when it has ended. Blocks."""
        for key in self.jobs.running_keys(user_id):
            self.jobs.stop(user_id, key)
        self._wait_until(lambda: not self.jobs.running_keys(user_id))

    def _wait_until(self, ended: Callable[[], bool]) -> None:
        """Else an answer that is being written would leave its keys and values behind."""
        deadline = time.monotonic() + END_SECONDS
        while not ended() and time.monotonic() < deadline:
            time.sleep(0.02)

    def end_temporary(self, user_id: int, key: str) -> None:
        """Forget a temporary conversation: its text, and its keys and values. Blocks."""
        if not self.store.temporary.holds(user_id, key):
            return
        self.jobs.stop(user_id, key)
        self._wait_until(lambda: self.jobs.running(user_id, key) is None)
        self.store.temporary.end(user_id, key)
        self.forget(cache_scope(user_id, key))

    def end_left_alone(self) -> None:
        """Forget the temporary conversations whose tabs have gone without a word. Blocks."""
        for user_id, key in self.store.temporary.left_alone(ALONE_SECONDS):
            self.end_temporary(user_id, key)

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
        if self._upkeep is not None:
            self._upkeep.join(END_SECONDS)  # a backup that is being made is finished
        self.running.close()
        if self.code_shield is not None:
            self.code_shield.close()
        self.store.close()


def load_engine(settings: Settings) -> Engine:
    """Load the model that `settings` name. Takes seconds. Raises `EngineError`."""
    path = find_model(settings)
    if path is None:
        from engine.endpoint import Address
        from engine.remote import RemoteEngine

        address = Address.parse(settings.model)
        key = Credentials(settings.data).get(address.base_url)
        return RemoteEngine(address, key=key, max_context=settings.context or None)
    from engine.catalog import resolve
    from engine.local import LocalEngine
    from engine.options import Options

    options = Options(
        adapter=Path(settings.adapter) if settings.adapter else None,
        allow_pickle=settings.allow_pickle,
        extension=settings.extension,
        draft=resolve(settings.draft, models=settings.data / "models") if settings.draft else None,
        deterministic=settings.deterministic,
        device=settings.device,
        precision=settings.precision,
        kept="int8" if settings.cache_precision == "int8" else "auto",
        measured=settings.data / MEASURED,
        offloading=offloading(settings),
        threads=settings.threads or None,
        cache_bytes=settings.cache_megabytes << 20 or None,
        memory_bytes=settings.cache_memory_megabytes << 20 or None,
        disk_folder=settings.data / KEPT_FOLDER,
        disk_bytes=settings.cache_disk_megabytes << 20,
        max_context=settings.context or None,
    )
    return LocalEngine(path, options)


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
