"""An engine that says what it is told and a guard that knows a few words, for tests of the app."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from threading import Event

from app.api.answering import Asked, Piece, Remembered, answers
from app.job import Job, JobView
from app.jobs import Jobs
from app.parts import Part
from app.task import Means, Step, Task
from app.turn import take_turn
from engine.base import (
    Chunk,
    Engine,
    EngineInfo,
    Message,
    Prompt,
    Sampling,
    Statistics,
    TokenScores,
    ToolStyle,
)
from safety.base import Guard, Verdict
from safety.code_check import Look
from safety.gate import Mode
from safety.policy import DEFAULT_POLICY, Policy
from storage.records import Conversation, Turn
from storage.store import Store
from tests.waiting import until


@dataclass
class TellingEngine:
    """Says the replies it was given, a word a token; remembers what it was asked.

    `fails_after` raises `error` after that many tokens. `step` (an event to wait for before each
    token) lets a test hold the stream.
    """

    replies: list[str] = field(default_factory=lambda: ["Hello there."])
    context_length: int = 4096
    fails_after: int | None = None
    error: Exception = field(default_factory=lambda: RuntimeError("broken"))
    hold: Event | None = None
    prompts: list[Prompt] = field(default_factory=list)
    closed: bool = False
    held_bytes: int = 3 << 20
    forgotten: list[str] = field(default_factory=list)
    tools: ToolStyle = ""
    samplings: list[Sampling] = field(default_factory=list)

    def stream(
        self, prompt: Prompt, sampling: Sampling, *, cancel: Event, scope: str
    ) -> Iterator[Chunk]:
        self.prompts.append(prompt)
        self.samplings.append(sampling)
        reply = self.replies[min(len(self.prompts), len(self.replies)) - 1]
        words = [word + " " for word in reply.split(" ")]
        words[-1] = words[-1][:-1]
        for number, word in enumerate(words):
            while self.hold is not None and not self.hold.is_set() and not cancel.is_set():
                time.sleep(0.002)
            if cancel.is_set():
                yield self._end("cancelled", number)
                return
            if number == self.fails_after:
                raise self.error
            yield Chunk(word, (number,), num_prompt=7)
        yield self._end("stop", len(words))

    def _end(self, reason: str, num_new: int) -> Chunk:
        cost = Statistics(7, 3, num_new, 0.0, 0.01, 0.02, seed=1)
        return Chunk(finish_reason=reason, statistics=cost, num_prompt=7)  # type: ignore[arg-type]

    def score(self, ids_or_text: Sequence[int] | str) -> TokenScores:
        raise NotImplementedError("these tests do not score")

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return sum(len(message["content"].split()) + 4 for message in messages)

    def info(self) -> EngineInfo:
        length = self.context_length
        return EngineInfo("teller", "print", "none", 0, length, "cpu", "fp32", tools=self.tools)

    def forget(self, scope: str) -> None:
        self.forgotten.append(scope)

    def close(self) -> None:
        self.closed = True


@dataclass
class WordGuard:
    """Unsafe is what holds one of `words`; counts what it judged."""

    words: Sequence[str] = ("forbidden",)
    name: str = "words"
    version: str = "1"
    category: str = "violent_crimes"
    judged: list[tuple[str, str | None]] = field(default_factory=list)

    def judge(self, prompt: str, reply: str | None = None) -> Verdict:
        self.judged.append((prompt, reply))
        text = prompt if reply is None else reply
        hit = any(word in text for word in self.words)
        return Verdict(
            0.99 if hit else 0.01,
            {self.category: 0.99 if hit else 0.01},
            self.name,
            self.version,
        )


@dataclass
class FailingGuard:
    """Cannot judge any more after `after` judgements."""

    after: int = 0
    name: str = "failing"
    version: str = "1"
    num_judged: int = 0

    def judge(self, prompt: str, reply: str | None = None) -> Verdict:
        self.num_judged += 1
        if self.num_judged > self.after:
            return Verdict.failure("The guard stopped.", guard=self.name)
        return Verdict(0.0, {}, self.name, self.version)


def api_pieces(
    engine: Engine,
    guard: Guard,
    policy: Policy = DEFAULT_POLICY,
    *,
    look: Look | None = None,
    mode: Mode = "strict",
) -> list[Piece]:
    """What the API answers to "Hi", piece by piece."""
    asked = Asked(Prompt(messages=[{"role": "user", "content": "Hi"}]), Sampling(), ("Hi",))
    told = answers(
        [asked],
        engine,
        guard,
        policy,
        remembered=Remembered(),
        cancel=Event(),
        look=look,
        mode=mode,
    )
    return [piece for _, piece in told]


def ended(job: Job) -> JobView:
    """The last view of a job, once there is one."""
    until(lambda: job.view().phase == "ended")
    return job.view()


def loaded(name: str, value: object) -> Part:  # type: ignore[type-arg]  # engine or guard
    part: Part = Part(name, lambda: value)  # type: ignore[type-arg]
    part.start()
    part.wait(Event())
    return part


class Bench:
    """Store, engine, guard and jobs wired as `app.services` does, with the fakes above."""

    def __init__(
        self,
        store: Store,
        engine: Engine | None = None,
        guard: Guard | None = None,
        *,
        engine_part: Part[Engine] | None = None,
        guard_part: Part[Guard] | None = None,
        gate_mode: Mode = "strict",
        sampling: Callable[[], Sampling] = Sampling,
    ) -> None:
        self.store = store
        self.engine = engine or TellingEngine()
        self.guard = guard or WordGuard()
        self.closing = Event()
        self.means = Means(
            store,
            engine_part or loaded("engine", self.engine),
            guard_part or loaded("guard", self.guard),
            self.closing,
        )
        self.gate_mode = gate_mode
        self.sampling = sampling
        self.task: dict[str, object] = {}  # fields of a task that differ from these
        self.jobs = Jobs(store, task_for=self.task_for, run=self.run, closing=self.closing)

    def task_for(self, conversation: Conversation, turn: Turn) -> Task:
        task = Task(conversation, turn, DEFAULT_POLICY, self.sampling(), self.gate_mode)
        return replace(task, **self.task)  # type: ignore[arg-type]  # fields of a task

    def run(self, task: Task, cancel: Event) -> Iterator[Step]:
        return take_turn(task, self.means, cancel=cancel)

    def ask(self, text: str, *, key: str | None = None, parent_id: int | None = None) -> Turn:
        """Send one prompt, take the whole turn on this thread, and give it as stored."""
        key = key or self.store.create_conversation(1).key
        turn = self.store.begin_turn(
            1, key, parent_id=parent_id, text=text, client_key=f"{key}-{text}-{parent_id}"
        )
        self.steps = list(self.run(self.task_for(self.store.conversation(1, key), turn), Event()))
        self.key = key
        return self.stored(turn)

    def stored(self, turn: Turn) -> Turn:
        return Turn(
            self.store.message(1, self.key, turn.prompt.id),
            self.store.message(1, self.key, turn.reply.id),
        )
