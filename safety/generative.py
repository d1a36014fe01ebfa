"""What generative guards share: one text at a time, and a model that fails is a failure."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping

from safety.base import Verdict


class GenerativeGuard(ABC):
    """A guard that asks a language model. Safe to call from several threads; one asks at a time."""

    def __init__(self, name: str, version: str) -> None:
        self.name = name
        self.version = version
        self._lock = threading.Lock()

    def judge(self, prompt: str, reply: str | None = None) -> Verdict:
        """Judge the prompt, or the reply so far that answers it. A failing model is a failure."""
        started = time.perf_counter()
        with self._lock:
            try:
                score, scores = self._judge(prompt, reply)
            except Exception as error:  # fail closed, and start afresh next time
                self._close_all()
                reason = f"{self.name} stopped with {type(error).__name__}."
                return Verdict.failure(reason, guard=self.name, version=self.version)
        seconds = time.perf_counter() - started
        return Verdict(score, scores, self.name, self.version, seconds)

    def close(self) -> None:
        """Free what is kept in the model's cache."""
        with self._lock:
            self._close_all()

    @abstractmethod
    def _judge(self, prompt: str, reply: str | None) -> tuple[float, Mapping[str, float]]:
        """P(unsafe), and its shares by category. May raise anything."""

    @abstractmethod
    def _close_all(self) -> None:
        """Let go of every conversation that the model has read."""
