"""What a turn gets, works with, and says of itself: values, without a step of its own.

`Task` is one prompt with the choices that hold for it, `Means` what answers it, `Step` what has
happened so far.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Event
from typing import Literal

from app.context import Overflow
from app.parts import Part
from engine.base import Engine, Sampling
from engine.kept_files import MEMORY_ONLY
from safety.base import Guard
from safety.code_check import Look
from safety.gate import Mode
from safety.policy import Policy
from storage.records import Conversation, Status, Turn
from storage.store import Store

Phase = Literal["waiting", "judging", "reading", "writing", "ended"]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened to a turn. Counts are totals so far; `text` is newly released."""

    phase: Phase
    text: str = ""
    waiting_for: str = ""  # name of the part that is still loading
    num_prefilled: int = 0
    num_prompt: int = 0
    num_new: int = 0
    num_held: int = 0  # generated characters that are not judged yet
    status: Status = "streaming"
    error_code: str = ""


@dataclass(frozen=True, slots=True)
class Means:
    """What a turn works with. `closing` is set while the server shuts down.

    `look` is a second look at code, beside the code check.
    """

    store: Store
    engine: Part[Engine]
    guard: Part[Guard]
    closing: Event
    look: Look | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """Where a branch leaves another version: the ids up to the token that was chosen instead.

    `text` is what that last token adds. It was never shown, so it passes the gate like a new one.
    """

    ids: Sequence[int]
    text: str


@dataclass(frozen=True, slots=True)
class Task:
    """One prompt to answer, with the choices that hold for it.

    `instructions` stand in for the conversation's system prompt where given.
    """

    conversation: Conversation
    turn: Turn
    policy: Policy
    sampling: Sampling
    gate_mode: Mode = "strict"
    instructions: str | None = None
    overflow: Overflow = "drop"
    begun: Begun | None = None
    override: bool = False  # somebody asked to see what the guard had stopped: warn instead
    keeps_withheld: bool = False
    memory_only: bool = False  # a guest's: nothing computed from it is written to the disk

    @property
    def judged_by(self) -> Policy:
        """The policy that holds for this turn."""
        return self.policy.overridden() if self.override else self.policy


def cache_scope(user_id: int, key: str, *, memory_only: bool = False) -> str:
    """Whose keys and values these are: shared within the user, forgotten with the conversation."""
    return f"{MEMORY_ONLY if memory_only else ''}user-{user_id}/{key}"


def call_scope(user_id: int) -> str:
    """A call's of the API: shared by the replies to its prompt, and forgotten when it ends.

    It is nobody's conversation, so nothing of it is written to the disk, and no chat's is used.
    """
    return f"{MEMORY_ONLY}api-{user_id}/{secrets.token_hex(8)}"
