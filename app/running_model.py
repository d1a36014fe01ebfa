"""The model that answers: how it is loaded, changed, measured and unloaded.

A change never loses the old model: it answers on until the new one is ready where there is room for
both, and is loaded again if the new one cannot be.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event, Lock, Thread

from app import measured
from app.manifest import changed_files
from app.measured import LEAST_BYTES, Peak, Taken, predicted_load
from app.models import (
    ModelBusy,
    ModelUnloaded,
    config_of,
    find_model,
    fits_beside,
    take_over,
)
from app.parts import Part
from app.settings import Settings
from engine.base import Engine, Switching
from engine.catalog import BUILT_IN
from engine.errors import EngineError
from storage.records import OWNER_ID, StorageError
from storage.store import Store

log = logging.getLogger("corral.model")


class RunningModel:
    """The chosen model and the choices of how it is loaded. Safe to call from several threads."""

    def __init__(
        self,
        settings: Settings,
        *,
        load: Callable[[Settings], Engine],
        is_quiet: Callable[[], bool],
        closing: Event,
    ) -> None:
        """`load` makes an engine; `is_quiet`: nothing else takes memory, so a load is measured."""
        self.name = settings.model  # of the one that answers, or is being loaded
        self.wanted = settings.model  # the name that was chosen last
        self.error: Exception | None = None  # why the last change did not happen
        self.changed_files: list[str] = []  # of the model, since it was last loaded
        self._settings = settings
        self._load = load
        self._is_quiet = is_quiet
        self._closing = closing
        self._choosing = Lock()
        self._outgoing: Engine | None = None  # answers until the next one is loaded
        self.part: Part[Engine] = Part("engine", lambda: self._loaded(self.settings_for()))

    def start(self, store: Store) -> None:
        """Know the store; the model that was chosen on the page counts if none was named."""
        self._store = store
        if self._settings.origin("model") == "default":
            self.name = store.setting(OWNER_ID, "model") or self._settings.model

    def use(self, name: str) -> None:
        """Begin to load another model in place of the one that answers. Returns at once.

        Prompts wait meanwhile. An answer that is being written ends with `EngineClosed` when its
        engine closes; what was written is kept. The choice holds for later starts that name no
        model. If it cannot be loaded, the old one goes on and `error` says why. Raises
        `CheckpointMissing` or `ModelBusy`; nothing changes then.
        """
        wanted = self.settings_for(name)
        path = find_model(wanted)
        with self._choosing:
            if self.part.view().state == "loading":
                raise ModelBusy(name)
            before, self._outgoing = self.settings_for(), self.part.peek()
            self.name, self.wanted, self.error = name, name, None
            self.part.replace(partial(self._change, before, wanted, path))

    def unload(self) -> None:
        """Give back the memory of the model that answers. Nothing answers until one is chosen.

        Returns at once. Raises `ModelBusy` while one is being loaded.
        """
        with self._choosing:
            if self.part.view().state == "loading":
                raise ModelBusy(self.name)
            engine = self.part.peek()

            def nothing() -> Engine:
                if engine is not None:
                    engine.close()
                raise ModelUnloaded("No model is loaded.")

            self.part.replace(nothing)

    def close(self) -> None:
        """Free the device. May be repeated."""
        for engine in (self.part.peek(), self._outgoing):
            if engine is not None:
                engine.close()

    def settings_for(self, name: str = "") -> Settings:
        """How a model (default: the one that answers) is loaded.

        What was chosen on the page counts where the start chose nothing itself.
        """
        model = name or self.name
        chosen: dict[str, object] = {"model": model}
        if model != self._settings.model:
            chosen |= {"adapter": "", "draft": ""}  # they belong to the model named beside them
        for choice in ("precision", "context"):
            kept = self._store.setting(OWNER_ID, choice)
            if kept and self._settings.origin(choice) == "default":
                chosen[choice] = int(kept) if choice == "context" else kept
        return replace(self._settings, **chosen)  # type: ignore[arg-type]  # checked when they were kept

    def _change(self, before: Settings, wanted: Settings, path: Path | None) -> Engine:
        """The load that `use` begins. Blocks. Raises if no model is left to answer."""
        switch = self._switch(before, wanted, path)
        try:
            engine, error = take_over(
                self._outgoing,
                load_new=lambda: self._loaded(wanted, switch),
                load_old=lambda: self._loaded(before),
                fits=lambda: path is None or bool(switch) or fits_beside(path, wanted.device),
            )
        except Exception as failure:
            log.warning("no model could be loaded", exc_info=failure)
            self.error = failure
            raise
        if error is not None:
            log.warning("the chosen model could not be loaded", exc_info=error)
            self.name, self.error = before.model, error
        elif not self._closing.is_set():
            try:
                self._store.set_setting(OWNER_ID, "model", wanted.model)
            except StorageError as failure:  # it answers now; the next start takes the old one
                self.error = failure
        self._outgoing = None
        if self._closing.is_set():
            engine.close()
        return engine

    def _switch(
        self, before: Settings, wanted: Settings, path: Path | None
    ) -> Callable[[], Engine] | None:
        """How to come to what is wanted without loading it: an adapter over the model, or back."""
        engine = self._outgoing
        alike = replace(before, model=wanted.model) == wanted and not wanted.adapter
        if engine is None or path is None or not alike or before.model == wanted.model:
            return None
        if isinstance(engine, Switching) and engine.holds(path):
            return partial(engine.switched, path)
        return None

    def _loaded(self, settings: Settings, switch: Callable[[], Engine] | None = None) -> Engine:
        """Load an engine, or switch to it; its files are then compared. Raises `EngineError`."""
        engine = switch() if switch else self._measured(settings)
        self.changed_files = []
        if settings.model != BUILT_IN:  # that one changes with Corral itself
            compare = partial(self._compare_files, settings)
            Thread(target=compare, name="manifest", daemon=True).start()
        return engine

    def _measured(self, settings: Settings) -> Engine:
        """Load an engine, and keep what that took of the memory where this can be told.

        The first load of a process brings torch's own memory, and others may take some meanwhile.
        """
        path = find_model(settings)
        if path is None or "torch" not in sys.modules or not self._is_quiet():
            return self._load(settings)
        from engine.device import choose_device, held_bytes

        device = choose_device(settings.device)
        with Peak(partial(held_bytes, device)) as peak:
            engine = self._load(settings)
        try:
            info = engine.info()
            precision = info.precision
            predicted = predicted_load(config_of(path), precision, device.type)
            if predicted and not info.spread and peak.num_bytes >= LEAST_BYTES and self._is_quiet():
                taken = Taken(settings.model, precision, device.type, predicted, peak.num_bytes)
                measured.keep(self._store, taken)
        except (EngineError, StorageError) as error:  # it answers; only its record is missing
            log.info("the load was not measured: %s", type(error).__name__)
        return engine

    def _compare_files(self, settings: Settings) -> None:
        try:
            path = find_model(settings)
            if path is not None:  # a server elsewhere has no files
                self.changed_files = changed_files(self._store, path)
        except (EngineError, OSError, StorageError) as error:
            log.info("the files of the model were not compared: %s", type(error).__name__)
