"""Several guards as one, which fails closed.

Each judgement of each guard runs on a thread of its own under a time limit, so that a guard which
hangs, raises or answers nonsense ends in a failed verdict that says why; a policy blocks that.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Literal

from safety.base import Guard, Verdict
from safety.categories import is_category

Combine = Literal["any", "weighted", "cascade"]

_MAX_STUCK = 2  # judgements of one guard that may hang before it is not asked any more


class Panel:
    """Guards that judge together: itself a `Guard`.

    `combine` says how:

    - `any`: every guard is asked; the highest score counts, in total and per category;
    - `weighted`: as above, but P(unsafe) is the mean, weighted by `weights` (by guard name);
    - `cascade`: guards are asked in order, and the next one only while the last score lies
      between `unsure` limits; the last one asked decides.

    Blocks for at most `timeout_seconds` per guard.
    """

    def __init__(
        self,
        guards: Sequence[Guard],
        *,
        combine: Combine = "any",
        weights: Mapping[str, float] | None = None,
        unsure: tuple[float, float] = (0.1, 0.9),
        timeout_seconds: float = 10.0,
    ) -> None:
        if not guards:
            raise ValueError("A panel needs at least one guard.")
        self.guards = tuple(guards)
        self.name = "+".join(guard.name for guard in guards)
        self.version = "+".join(guard.version for guard in guards)
        self._combine = combine
        self._weights = dict(weights or {})
        self._unsure = unsure
        self._timeout_seconds = timeout_seconds
        self._stuck: dict[int, list[threading.Thread]] = {i: [] for i in range(len(guards))}

    def judge(self, prompt: str, reply: str | None = None) -> Verdict:
        """The combined verdict; failed if any guard that was asked failed."""
        verdicts: list[Verdict] = []
        for index in range(len(self.guards)):
            verdict = self._ask(index, prompt, reply)
            verdicts.append(verdict)
            low, high = self._unsure
            if self._combine == "cascade" and not (verdict.failed or low < verdict.score < high):
                break
        return self._joined(verdicts)

    def _ask(self, index: int, prompt: str, reply: str | None) -> Verdict:
        guard = self.guards[index]
        started = time.perf_counter()
        answers: list[Verdict] = []

        def failure(reason: str) -> Verdict:
            seconds = time.perf_counter() - started
            return Verdict.failure(reason, guard=guard.name, version=guard.version, seconds=seconds)

        def answer() -> None:
            try:
                answers.append(_checked(guard.judge(prompt, reply), guard))
            except BaseException as error:
                answers.append(failure(f"{guard.name} stopped with {_named(error)}."))

        stuck = self._stuck[index]
        stuck[:] = [thread for thread in stuck if thread.is_alive()]
        if len(stuck) >= _MAX_STUCK:
            return failure(f"{guard.name} hangs since an earlier text; restart Corral.")
        thread = threading.Thread(target=answer, name=f"judge-{guard.name}", daemon=True)
        thread.start()
        thread.join(self._timeout_seconds)
        if not answers:
            stuck.append(thread)
            return failure(f"{guard.name} took longer than {self._timeout_seconds:g} s.")
        return answers[0]

    def _joined(self, verdicts: Sequence[Verdict]) -> Verdict:
        guard = "+".join(v.guard for v in verdicts)
        version = "+".join(v.version for v in verdicts)
        seconds = sum(v.seconds for v in verdicts)
        if failed := " ".join(v.failed for v in verdicts if v.failed):
            return Verdict.failure(failed, guard=guard, version=version, seconds=seconds)
        if self._combine == "cascade":
            last = verdicts[-1]
            return Verdict(last.score, last.scores, guard, version, seconds)
        scores: dict[str, float] = {}
        for verdict in verdicts:
            for key, score in verdict.scores.items():
                scores[key] = max(score, scores.get(key, 0.0))
        return Verdict(self._total(verdicts), scores, guard, version, seconds)

    def _total(self, verdicts: Sequence[Verdict]) -> float:
        if self._combine == "any":
            return max(v.score for v in verdicts)
        weights = [self._weights.get(v.guard, 1.0) for v in verdicts]
        return sum(w * v.score for w, v in zip(weights, verdicts, strict=True)) / sum(weights)


def _named(error: BaseException) -> str:
    """An error in a few words, without any of the judged text that its message may quote."""
    return type(error).__name__


def _checked(verdict: object, guard: Guard) -> Verdict:
    """`verdict` if it is one with probabilities in it, else the failure that says what is wrong."""

    def failure(reason: str) -> Verdict:
        return Verdict.failure(reason, guard=guard.name, version=guard.version)

    if not isinstance(verdict, Verdict):
        return failure(f"{guard.name} gave no verdict.")
    if verdict.failed:
        return verdict
    if unknown := [key for key in verdict.scores if not is_category(key)]:
        return failure(f"{guard.name} named an unknown category: {str(unknown[0])[:40]}.")
    for value in (verdict.score, *verdict.scores.values()):
        if not isinstance(value, (int, float)) or not math.isfinite(value) or not 0 <= value <= 1:
            return failure(f"{guard.name} gave a score that is no probability.")
    return verdict
