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

import psutil

from app.context import Fitted, Overflow, fit, own_ids
from app.parts import Part, PartCancelled
from engine.base import Chunk, Engine, EngineInfo, Prompt, Sampling, Statistics
from safety.base import Guard, Verdict
from safety.gate import Check, Gate, Mode, Release
from safety.policy import Decision, Policy
from storage.records import Conversation, Generation, Stage, Status, Turn, VerdictRecord
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
        if (yield from _refused(task, means.store, guard)):
            status = "blocked"
        else:
            engine = yield from _awaited(means.engine, cancel)
            info = engine.info()
            yield from _write(task, means.store, engine, guard, draft, cancel)
            status = _status(draft, means.closing)
    except PartCancelled:
        status = "interrupted" if means.closing.is_set() else "stopped"
    except Exception as error:
        status, error_code = "error", type(error).__name__
        # Ids only: the log never holds what was said.
        log.warning("turn %d ended by %s", reply.id, error_code, exc_info=error)
    finally:
        # Also when the caller closes this generator: the reply must not stay "streaming".
        means.store.finish_reply(
            reply.id,
            status=status,
            generation=_generation(task, draft, info, error_code),
            verdicts=_reply_verdicts(draft, task.policy),
            error_code=error_code,
        )
    yield Step("ended", num_new=len(draft.ids), status=status, error_code=error_code)


def cache_scope(user_id: int, key: str) -> str:
    """Whose keys and values these are: shared within the user, forgotten with the conversation."""
    return f"user-{user_id}/{key}"


def _refused(task: Task, store: Store, guard: Guard) -> Generator[Step, None, bool]:
    """Judge the prompt and record the verdict; true if the policy refuses it."""
    yield Step("judging")
    prompt = task.turn.prompt
    decision = task.policy.decide(guard.judge(prompt.content), "prompt")
    store.add_verdict(prompt.id, _verdict_record("prompt", decision, task.policy))
    refused = decision.action == "block"
    store.set_status(prompt.id, "blocked" if refused else "done")
    return refused


def _write(
    task: Task, store: Store, engine: Engine, guard: Guard, draft: _Draft, cancel: Event
) -> Iterator[Step]:
    """Read the context, write the reply, and let through what the gate lets through."""
    yield Step("reading")
    prompt_text, policy = task.turn.prompt.content, task.policy
    draft.system_prompt = _instructions(task)
    fitted = _fitted(task, store, engine)
    draft.num_left_out = fitted.num_left_out
    begun = task.begun.text if task.begun else ""

    def judge(reply_so_far: str) -> Decision:
        return policy.decide(guard.judge(prompt_text, reply_so_far), "reply")

    gate = Gate(judge, mode=task.gate_mode, already=draft.kept)
    chunks = engine.stream(
        Prompt(
            messages=fitted.messages,
            reply_prefix=draft.kept + begun,
            reply_ids=draft.given or own_ids(task.turn.reply, engine.info().fingerprint),
        ),
        task.sampling,
        cancel=cancel,
        scope=cache_scope(task.conversation.user_id, task.conversation.key),
    )

    def let_through(releases: Sequence[Release], chunk: Chunk) -> Step:
        text = "".join(release.text for release in releases)
        if text:
            store.append(task.turn.reply.id, text)
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
        if (close := getattr(chunks, "close", None)) is not None:
            close()  # frees the row at once when the gate ended the answer
    yield closing_step


def _fitted(task: Task, store: Store, engine: Engine) -> Fitted:
    info, conversation = engine.info(), task.conversation
    path = store.path(conversation.user_id, conversation.key, leaf_id=task.turn.prompt.id)
    return fit(
        path,
        system_prompt=_instructions(task),
        count_tokens=engine.count_tokens,
        context_length=info.context_length,
        num_reserved=min(task.sampling.max_new_tokens, info.context_length // 4),
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
        token_ids=(*draft.given, *draft.ids),
        system_prompt=draft.system_prompt,
        num_given=len(draft.given),
        memory_bytes=psutil.Process().memory_info().rss,
    )


def _reply_verdicts(draft: _Draft, policy: Policy) -> list[VerdictRecord]:
    """One record a check; the last one is the verdict on the whole reply."""
    records = []
    for number, check in enumerate(draft.checks, start=1):
        stage: Stage = "final" if number == len(draft.checks) else "partial"
        records.append(_verdict_record(stage, check.decision, policy, check.upto_char))
    return records


def _verdict_record(
    stage: Stage, decision: Decision, policy: Policy, upto_char: int = 0
) -> VerdictRecord:
    verdict = decision.verdict or Verdict(decision.score)
    return VerdictRecord(
        stage=stage,
        guard=verdict.guard,
        guard_version=verdict.version,
        action=decision.action,
        score=decision.score,
        category=decision.category,
        threshold=decision.threshold,
        scores=dict(verdict.scores),
        policy_version=policy.version,
        reason=verdict.failed,
        upto_char=upto_char,
        seconds=verdict.seconds,
    )
