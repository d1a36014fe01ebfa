"""The way of a message: judge → fit → stream → gate → record.

`take_turn` answers one stored prompt. It is a generator: every step it takes is yielded, nothing
is called back, and the caller decides who may watch. Whatever happens, the reply ends in the store
with a status, the text that was shown, what it cost and who judged it.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from threading import Event
from typing import Literal, TypeVar

from app.context import Fitted, Overflow, fit, own_ids, reserved, with_draft
from app.judging import code_decision, judged_prompt, judged_reply
from app.parts import Part, PartCancelled
from engine.base import Chunk, Engine, EngineInfo, Prompt, Sampling, Statistics
from engine.kept_files import MEMORY_ONLY
from safety.base import Guard
from safety.gate import Check, Gate, Mode, Release
from safety.policy import Decision, Policy
from storage.records import Conversation, Generation, Status, Turn
from storage.store import Store

T = TypeVar("T")
Phase = Literal["waiting", "judging", "reading", "writing", "ended"]

log = logging.getLogger("corral.turn")


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
    """What a turn works with. `closing` is set while the server shuts down."""

    store: Store
    engine: Part[Engine]
    guard: Part[Guard]
    closing: Event


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


@dataclass(slots=True)
class _Draft:
    """The reply as it comes into being. `kept` is what an earlier run had already shown."""

    kept: str
    given: Sequence[int] = ()  # of a branch: ids that were not drawn
    system_prompt: str = ""
    ids: list[int] = field(default_factory=list)
    statistics: Statistics | None = None
    finish_reason: str = ""
    num_left_out: int = 0
    checks: Sequence[Check] = ()
    blocked: bool = False
    shown: str = ""
    withheld: str = ""
    memory_bytes: int = 0  # held on the model's device; 0 where the engine cannot say


def take_turn(task: Task, means: Means, *, cancel: Event) -> Iterator[Step]:
    """Answer `task.turn`. Yields steps, the last one with phase "ended". Blocks in between.

    Does not raise for what an engine, a guard or a user may do: such a turn ends with status
    "error" and the code of what happened. Only a store that cannot be written to raises.
    """
    reply = task.turn.reply
    begun = task.begun or Begun((), "")
    draft = _Draft(kept=reply.content, given=begun.ids)
    info: EngineInfo | None = None
    status: Status = "interrupted"
    error_code = ""
    try:
        guard = yield from _awaited(means.guard, cancel)
        ahead = _Ahead(task, means, draft, cancel)
        if (yield from _refused(task, means.store, guard)):
            ahead.close()
            status = "blocked"
        else:
            engine = yield from _awaited(means.engine, cancel)
            info = engine.info()
            yield from _write(task, means.store, ahead.chunks(engine), guard, draft)
            draft.memory_bytes = int(getattr(engine, "held_bytes", 0))
            status = _status(draft, means.closing)
    except PartCancelled:
        status = "interrupted" if means.closing.is_set() else "stopped"
    except Exception as error:
        status, error_code = "error", type(error).__name__
        # Ids only: the log never holds what was said.
        log.warning("turn %d ended by %s", reply.id, error_code, exc_info=error)
    finally:
        # Also when the caller closes this generator: the reply must not stay "streaming".
        override = task.override
        text = draft.kept + draft.shown
        verdicts, events = judged_reply(
            means.store, reply.id, text, draft.checks, task.judged_by, override=override
        )
        means.store.finish_reply(
            reply.id,
            status=status,
            generation=_generation(task, draft, info, error_code),
            verdicts=verdicts,
            events=events,
            withheld=draft.withheld,
            error_code=error_code,
        )
    yield Step("ended", num_new=len(draft.ids), status=status, error_code=error_code)


def cache_scope(user_id: int, key: str, *, memory_only: bool = False) -> str:
    """Whose keys and values these are: shared within the user, forgotten with the conversation."""
    return f"{MEMORY_ONLY if memory_only else ''}user-{user_id}/{key}"


def _refused(task: Task, store: Store, guard: Guard) -> Generator[Step, None, bool]:
    """Judge the prompt and record the verdict; true if the policy refuses it."""
    yield Step("judging")
    prompt = task.turn.prompt
    policy = task.judged_by
    decision = policy.decide(guard.judge(prompt.content), "prompt")
    refused = judged_prompt(
        store, prompt.id, prompt.content, decision, policy, override=task.override
    )
    store.set_status(prompt.id, "blocked" if refused else "done")
    return refused


class _Ahead:
    """The engine's answer to a prompt, asked for at once where the engine is there.

    So the prompt is read while the guard judges it. Nothing of the answer is looked at before the
    guard has let the prompt pass; an engine that only begins when it is looked at begins then.
    """

    def __init__(self, task: Task, means: Means, draft: _Draft, cancel: Event) -> None:
        self._task, self._store, self._draft, self._cancel = task, means.store, draft, cancel
        self._begun: Iterator[Chunk] | None = None
        self._engine = means.engine.peek()
        self._error: Exception | None = None
        if self._engine is not None:
            try:
                self._begun = self._begin(self._engine)
            except Exception as error:  # it is told once the prompt has passed
                self._error = error

    def chunks(self, engine: Engine) -> Iterator[Chunk]:
        """The answer of `engine`. Raises what beginning it raised."""
        if engine is self._engine and self._error is not None:
            raise self._error
        if engine is not self._engine or self._begun is None:
            self.close()  # another engine took over meanwhile
            self._begun = self._begin(engine)
        return self._begun

    def close(self) -> None:
        """Want no answer."""
        if (close := getattr(self._begun, "close", None)) is not None:
            close()

    def _begin(self, engine: Engine) -> Iterator[Chunk]:
        task, draft = self._task, self._draft
        draft.system_prompt = _instructions(task)
        fitted = _fitted(task, self._store, engine)
        draft.num_left_out = fitted.num_left_out
        begun = task.begun.text if task.begun else ""
        return engine.stream(
            Prompt(
                messages=fitted.messages,
                reply_prefix=draft.kept + begun,
                reply_ids=draft.given or own_ids(task.turn.reply, engine.info().fingerprint),
            ),
            task.sampling,
            cancel=self._cancel,
            scope=cache_scope(
                task.conversation.user_id, task.conversation.key, memory_only=task.memory_only
            ),
        )


def _write(
    task: Task, store: Store, chunks: Iterator[Chunk], guard: Guard, draft: _Draft
) -> Iterator[Step]:
    """Write the reply, and let through what the gate lets through."""
    yield Step("reading")
    prompt_text, policy = task.turn.prompt.content, task.judged_by
    begun = task.begun.text if task.begun else ""

    def judge(reply_so_far: str) -> Decision:
        decision = policy.decide(guard.judge(prompt_text, reply_so_far), "reply")
        code = None if decision.blocks else code_decision(reply_so_far, policy)
        return code if code is not None and code.blocks else decision

    gate = Gate(judge, mode=task.gate_mode, already=draft.kept, keeps_withheld=task.keeps_withheld)

    def let_through(releases: Sequence[Release], chunk: Chunk) -> Step:
        text = "".join(release.text for release in releases)
        if text:
            store.append(task.turn.reply.id, text)
            draft.shown += text
        return Step(
            "writing" if draft.ids else "reading",
            text=text,
            num_prefilled=chunk.num_prefilled,
            num_prompt=chunk.num_prompt,
            num_new=len(draft.ids),
            num_held=gate.num_held_chars,
        )

    try:
        if begun:
            yield let_through(gate.push(begun), Chunk())
        for chunk in chunks:
            draft.ids.extend(chunk.ids)
            if chunk.finish_reason:
                draft.finish_reason, draft.statistics = chunk.finish_reason, chunk.statistics
            yield let_through(gate.push(chunk.text, len(chunk.ids)), chunk)
            if gate.closed:
                break
    finally:
        # However the stream ended, what is still held gets its verdict and, if good, is kept.
        closing_step = let_through(gate.finish(), Chunk())
        draft.checks, draft.blocked = tuple(gate.checks), gate.closed
        draft.withheld = gate.withheld
        if (close := getattr(chunks, "close", None)) is not None:
            close()  # frees the row at once when the gate ended the answer
    yield closing_step


def _fitted(task: Task, store: Store, engine: Engine) -> Fitted:
    info, conversation = engine.info(), task.conversation
    path = store.path(conversation.user_id, conversation.key, leaf_id=task.turn.prompt.id)
    return fit(
        with_draft(path[:-1], path[-1].content),  # it may not have been judged yet
        system_prompt=_instructions(task),
        count_tokens=engine.count_tokens,
        context_length=info.context_length,
        num_reserved=reserved(task.sampling.max_new_tokens, info.context_length),
        fingerprint=info.fingerprint,
        overflow=task.overflow,
    )


def _instructions(task: Task) -> str:
    told = task.instructions
    return task.conversation.system_prompt if told is None else told


def _awaited(part: Part[T], cancel: Event) -> Generator[Step, None, T]:
    if part.peek() is None:
        yield Step("waiting", waiting_for=part.name)
    return part.wait(cancel)


def _status(draft: _Draft, closing: Event) -> Status:
    if draft.blocked:
        return "cut"
    if draft.finish_reason == "cancelled":
        return "interrupted" if closing.is_set() else "stopped"
    return "done"


def _generation(
    task: Task, draft: _Draft, info: EngineInfo | None, error_code: str
) -> Generation | None:
    """What the run was and cost; None if the engine was never asked."""
    if info is None:
        return None
    cost = draft.statistics or Statistics(0, 0, len(draft.ids), 0.0, 0.0, 0.0, seed=0)
    return Generation(
        model=info.model,
        fingerprint=info.fingerprint,
        device=info.device,
        precision=info.precision,
        sampling=asdict(task.sampling),
        seed=cost.seed,
        num_prompt=cost.num_prompt,
        num_reused=cost.num_reused,
        num_new=cost.num_new,
        queue_seconds=cost.queue_seconds,
        first_token_seconds=cost.first_token_seconds,
        total_seconds=cost.total_seconds,
        tokens_per_second=cost.tokens_per_second,
        finish_reason="cut" if draft.blocked else draft.finish_reason,
        error_code=error_code,
        from_char=len(draft.kept) + len(task.begun.text if task.begun else ""),
        num_left_out=draft.num_left_out,
        # Of a cut answer none: they would spell what was held back.
        token_ids=() if draft.blocked else (*draft.given, *draft.ids),
        system_prompt=draft.system_prompt,
        num_given=0 if draft.blocked else len(draft.given),
        memory_bytes=draft.memory_bytes,
    )
