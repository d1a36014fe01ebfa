"""Which guard judges, how it is loaded and changed, and what policy holds for whom.

A change never leaves Corral without a guard: the old one judges until the new one has passed its
known texts, and stays if that fails.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.parts import Part
from app.settings import Settings
from engine.base import Engine
from engine.errors import EngineClosed
from safety.base import Guard, GuardError, PolicyInvalid
from safety.categories import OwnCategory
from safety.choice import BUILT_IN, load_chosen
from safety.gate import MODES, Mode
from safety.policy import DEFAULT_POLICY, PRESETS, Policy
from storage.records import OWNER_ID, SafetyEvent
from storage.store import Store

MAX_OWN = 8  # categories of an owner's own

log = logging.getLogger("corral.guarding")


class Guarding:
    """The chosen guard and the policies. Safe to call from several threads."""

    def __init__(
        self,
        settings: Settings,
        *,
        engine: Callable[[], Engine | None],
        load: Callable[[Guarding], Guard],
    ) -> None:
        """`engine` gives the one that answers now; `load` calls `load_chosen` of this object."""
        self.chosen = settings.guard
        self.error: Exception | None = None  # why the last change did not happen
        self.memory_bytes = 0  # of the weights of a guard that reads as a language model
        self.load_seconds = 0.0
        self._settings = settings
        self._engine = engine
        self._reader: Any = None
        self._store: Store | None = None
        self._load: Callable[[], Guard] = lambda: load(self)
        self.part: Part[Guard] = Part("guard", self._load)

    def start(self, store: Store) -> None:
        """Know the store; the guard that was chosen on the page counts if none was named."""
        self._store = store
        if self._settings.origin("guard") == "default":
            self.chosen = store.setting(OWNER_ID, "guard") or self.chosen

    def use(self, chosen: str) -> None:
        """Begin to load another guard. Returns at once; prompts wait meanwhile."""
        before, self.chosen, self.error = self.chosen, chosen, None

        load = self._load

        def change() -> Guard:
            try:
                guard = load()
            except Exception as error:
                log.warning("the chosen guard could not be loaded", exc_info=error)
                self.chosen, self.error = before, error
                return load()
            if self._store is not None:
                self._store.set_setting(OWNER_ID, "guard", chosen)
            return guard

        self.part.replace(change)

    def again(self) -> None:
        """Load the chosen guard once more: its own categories changed."""
        self.use(self.chosen)

    def load_chosen(self) -> Guard:
        """The chosen guard, tried on known texts. Blocks. Raises `GuardError`."""
        started = time.perf_counter()
        old, self._reader, self.memory_bytes = self._reader, None, 0
        guard = load_chosen(
            self.chosen,
            read=self._read,
            run=self.aside,
            combine=self._settings.guard_combine,  # type: ignore[arg-type]  # one of its words
            own=self.own_categories(),
            key=self._key(),
        )
        if old is not None:
            old.close()
        self.load_seconds = time.perf_counter() - started
        return guard

    def load_other(self, chosen: str) -> Guard:
        """A guard to measure beside the one that judges. Blocks. Raises `GuardError`."""
        if chosen == self.chosen:
            raise GuardError("This is the guard that judges already.")
        return load_chosen(
            chosen, read=self._open, run=self.aside, own=self.own_categories(), key=self._key()
        )

    def _open(self, folder: Path) -> Any:
        from engine.reading import ReadingModel

        settings = self._settings
        return ReadingModel(
            folder, device=settings.device, precision=settings.precision, run=self.aside
        )

    def _read(self, folder: Path) -> Any:
        """A language model for a guard that asks one, on the engine's own thread."""
        self._reader = self._open(folder)
        self.memory_bytes = self._reader.num_bytes
        return self._reader

    def _key(self) -> str:
        path = self._settings.guard_key_file
        if not path:
            return ""
        try:
            return Path(path).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise GuardError(f"The key of the guard cannot be read from {path}.") from error

    def aside(self, job: Callable[[], Any], /) -> Any:
        """Run `job` on the thread that computes, so that there is never a second team of threads.

        While there is no such thread, because the engine loads or computes elsewhere, it runs here.
        """
        engine = self._engine()
        aside = getattr(engine, "aside", None)
        if aside is None:
            return job()
        try:
            return aside(job)
        except EngineClosed:
            return job()

    def own_categories(self) -> list[OwnCategory]:
        """The categories that the owner described, for guards that read their policy."""
        saved = self._store.setting(OWNER_ID, "own_categories") if self._store else None
        try:
            return [OwnCategory(**fields) for fields in json.loads(saved or "[]")][:MAX_OWN]
        except (PolicyInvalid, TypeError, ValueError):
            log.warning("the owner's own categories cannot be read")
            return []

    def policy(self, user_id: int) -> Policy:
        """The policy that holds for a user: a guest's is never looser than the owner allows.

        The owner chooses a policy for guests; without a choice it is the ready-made one.
        """
        own = self._saved("policy", DEFAULT_POLICY)
        if user_id == OWNER_ID:
            return own
        return self._saved("guest_policy", PRESETS["guest"]).loosest_with(own)

    def guest_policy(self) -> Policy:
        """What the owner chose for guests, before it is held against the owner's own."""
        return self._saved("guest_policy", PRESETS["guest"])

    def _saved(self, name: str, default: Policy) -> Policy:
        saved = self._store.setting(OWNER_ID, name) if self._store else None
        if saved is None:
            return default
        if saved in PRESETS:
            return PRESETS[saved]  # type: ignore[index]  # the membership was just checked
        try:
            return Policy.from_json(json.loads(saved))
        except (PolicyInvalid, json.JSONDecodeError):
            log.warning("the saved %s cannot be read; the default holds", name)
            return default

    def appeal(self, user_id: int, key: str, message_id: int) -> None:
        """Note in the safety log that the guard was wrong about a message.

        Raises `NotFound`; nothing happens where nothing was stopped, or twice for one message.
        """
        assert self._store is not None
        verdicts = self._store.message(user_id, key, message_id).verdicts
        known = self._store.safety_events(user_id=user_id, outcome="appealed", limit=10_000)
        blocking = [verdict for verdict in verdicts if verdict.action == "block"]
        if not blocking or any(event.message_id == message_id for event in known):
            return
        wrong = blocking[-1]
        self._store.record_safety(
            SafetyEvent(
                message_id=message_id,
                stage=wrong.stage,
                guard=wrong.guard,
                guard_version=wrong.guard_version,
                policy_version=wrong.policy_version,
                action=wrong.action,
                outcome="appealed",
                score=wrong.score,
                category=wrong.category,
                threshold=wrong.threshold,
                scores=wrong.scores,
                upto_char=wrong.upto_char,
                user_id=user_id,
            )
        )

    @property
    def keep_days(self) -> int:
        """For how many days what was held back is kept; 0 drops it at once."""
        saved = self._store.setting(OWNER_ID, "keep_withheld_days") if self._store else None
        return int(saved) if saved and saved.isdecimal() else 0

    @property
    def contacts(self) -> str:
        """Whom to call in a crisis, in the owner's words: plain text, a line each."""
        return (self._store.setting(OWNER_ID, "help_contacts") or "") if self._store else ""

    @property
    def gate_mode(self) -> Mode:
        """How much of an answer is judged before any of it is shown, as the owner chose."""
        saved = self._store.setting(OWNER_ID, "gate_mode") if self._store else None
        return next((mode for mode in MODES if mode == saved), "strict")

    @property
    def leaves_machine(self) -> bool:
        """Whether what is judged is sent to another machine."""
        return self.chosen != BUILT_IN and self.chosen.startswith(("http://", "https://"))
