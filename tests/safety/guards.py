"""Guards that tests use: a word list, and guards that fail in every way."""

import time

from safety.base import Verdict
from safety.policy import DEFAULT_POLICY, Decision


class WordGuard:
    """P(unsafe) is 1 if one of the words is in the judged text."""

    name = "words"
    version = "1"

    def __init__(self, *words: str, category: str = "violent_crimes") -> None:
        self.words = words
        self.category = category
        self.asked: list[tuple[str, str | None]] = []

    def judge(self, prompt: str, reply: str | None = None) -> Verdict:
        self.asked.append((prompt, reply))
        text = prompt if reply is None else reply
        score = float(any(word in text for word in self.words))
        return Verdict(score, {self.category: score}, self.name, self.version)


class FixedGuard:
    """Always the same verdict, after a while."""

    version = "1"

    def __init__(self, verdict: object, *, name: str = "fixed", seconds: float = 0.0) -> None:
        self.name = name
        self.verdict = verdict
        self.seconds = seconds
        self.num_asked = 0

    def judge(self, prompt: str, reply: str | None = None) -> Verdict:
        self.num_asked += 1
        time.sleep(self.seconds)
        return self.verdict  # type: ignore[return-value]


class RaisingGuard:
    name = "raising"
    version = "1"

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def judge(self, prompt: str, reply: str | None = None) -> Verdict:
        raise self.error


def reply_judge(guard: WordGuard):
    """What a gate asks: the default policy over a guard."""

    def judge(text: str) -> Decision:
        return DEFAULT_POLICY.decide(guard.judge("", text), "reply")

    return judge
