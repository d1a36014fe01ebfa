"""The guard seam: what the rest of Corral may know about anything that judges text.

safety/ speaks plain strings, a prompt and, where there is one, the reply so far. It imports
neither the engine nor the store; `app/services.py` adapts what a generative guard needs.

    GuardError
    ├── GuardMissing     its files are not there
    ├── GuardBroken      its files cannot be read, or it fails its own known-bad probes at load
    └── PolicyInvalid    a policy names an unknown category or an impossible threshold

A guard that fails while judging does not raise: it returns `Verdict.failure(...)`, and policies
treat that as a block (fail closed).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

Side = Literal["prompt", "reply"]


class GuardError(Exception):
    """Base of everything safety/ raises on purpose."""


class GuardMissing(GuardError):
    """The guard's files are not there."""


class GuardBroken(GuardError):
    """The guard's files cannot be read, or it misses its known-bad probes."""


class PolicyInvalid(GuardError, ValueError):
    """A policy names an unknown category or an impossible threshold."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one guard thinks of one text: calibrated probabilities, no decision.

    `score` is P(unsafe). `scores` maps a category key of `categories.CATEGORIES` to its own
    probability; a guard without categories leaves it empty. `failed` holds the reason when the
    guard could not judge; such a verdict counts as unsafe.
    """

    score: float
    scores: Mapping[str, float] = field(default_factory=dict)
    guard: str = ""
    version: str = ""
    seconds: float = 0.0
    failed: str = ""

    @classmethod
    def failure(
        cls, reason: str, *, guard: str, version: str = "", seconds: float = 0.0
    ) -> Verdict:
        """The verdict of a guard that could not judge: certain to be blocked, and says why."""
        return cls(1.0, {}, guard, version, seconds, failed=reason or "unknown reason")


class Guard(Protocol):
    """A judge of text. Safe to call from several threads."""

    name: str
    version: str

    def judge(self, prompt: str, reply: str | None = None) -> Verdict:
        """Judge `prompt`, or, when there is one, the `reply` so far that answers it. Blocks."""
        ...


class Scored(Protocol):
    """A text that a language model has read, open for more."""

    def append(self, text: str, *, special: bool = False) -> None:
        """Read on. Special tokens are parsed only if `special`: never for a user's text."""
        ...

    def logprobs(self, candidates: Sequence[str]) -> Sequence[float]:
        """Natural-log probabilities of the first token of each candidate as the next token."""
        ...

    def mark(self) -> int:
        """A position to come back to."""
        ...

    def crop(self, mark: int) -> None:
        """Forget everything after `mark`."""
        ...

    def close(self) -> None:
        """Free the KV cache slot."""
        ...


class NextToken(Protocol):
    """What a generative guard needs of a language model; `app/services.py` adapts the engine."""

    def open(self, text: str) -> Scored:
        """Read `text`, in which special tokens are parsed: it is ours, never the user's."""
        ...
