"""The way of a message: judge → fit → stream → gate → record.

`take_turn` answers one stored prompt. It is a generator: every step it takes is yielded, nothing
is called back, and the caller decides who may watch. Whatever happens, the reply ends in the store
with a status, the text that was shown, what it cost and who judged it.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future
from threading import Event
from typing import TypeVar

from app.ahead import Ahead, beside
from app.draft import Draft, generation, status_of
from app.judging import judged_prompt, judged_reply, reply_decision
from app.parts import Part, PartCancelled
from app.task import Begun, Means, Step, Task
from engine.base import Chunk, EngineInfo
from safety.base import Guard, Verdict
from safety.gate import Gate, Release
from safety.policy import Decision
from storage.records import Status
from storage.store import Store

T = TypeVar("T")

log = logging.getLogger("corral.turn")


def take_turn(task: Task, means: Means, *, cancel: Event) -> Iterator[Step]:
    """Answer `task.turn`. Yields steps, the last one with phase "ended". Blocks in between.

    Does not raise for what an engine, a guard or a user may do: such a turn ends with status
    "error" and the code of what happened. Only a store that cannot be written to raises.
    """
    reply = task.turn.reply
    begun = task.begun or Begun((), "")
    draft = Draft(kept=reply.content, given=begun.ids)
    info: EngineInfo | None = None
    status: Status = "interrupted"
    error_code = ""
    try:
        guard = yield from _awaited(means.guard, cancel)
        # The guard first: where both compute on one device, an answer that decodes is not held up.
        verdict = beside(lambda: guard.judge(task.turn.prompt.content))
        ahead = Ahead(task, means, draft, cancel)
        if (yield from _refused(task, means.store, verdict)):
            ahead.close()
            status = "blocked"
        else:
            engine = yield from _awaited(means.engine, cancel)
            info = engine.info()
            yield from _write(task, means, ahead.chunks(engine), guard, draft)
            draft.memory_bytes = int(getattr(engine, "held_bytes", 0))
            status = status_of(draft, means.closing)
    except PartCancelled:
        status = "interrupted" if means.closing.is_set() else "stopped"
    except Exception as error:
        status, error_code = "error", type(error).__name__
        # Ids only: the log never holds what was said.
        log.warning("turn %d ended by %s", reply.id, error_code, exc_info=error)
    finally:
        # Also when the caller closes this generator: the reply must not stay "streaming".
        _record(task, means, draft, info, status, error_code)
    yield Step("ended", num_new=len(draft.ids), status=status, error_code=error_code)


def _refused(task: Task, store: Store, verdict: Future[Verdict]) -> Generator[Step, None, bool]:
    """Wait for the verdict on the prompt and record it; true if the policy refuses it."""
    yield Step("judging")
    prompt = task.turn.prompt
    policy = task.judged_by
    decision = policy.decide(verdict.result(), "prompt")
    refused = judged_prompt(
        store, prompt.id, prompt.content, decision, policy, override=task.override
    )
    store.set_status(prompt.id, "blocked" if refused else "done")
    return refused


def _write(
    task: Task, means: Means, chunks: Iterator[Chunk], guard: Guard, draft: Draft
) -> Iterator[Step]:
    """Write the reply, and let through what the gate lets through."""
    yield Step("reading")
    prompt_text, policy = task.turn.prompt.content, task.judged_by
    begun = task.begun.text if task.begun else ""

    def judge(reply_so_far: str) -> Decision:
        return reply_decision(guard, policy, prompt_text, reply_so_far, means.look)

    gate = Gate(judge, mode=task.gate_mode, already=draft.kept, keeps_withheld=task.keeps_withheld)

    def let_through(releases: Sequence[Release], chunk: Chunk) -> Step:
        text = "".join(release.text for release in releases)
        if text:
            means.store.append(task.turn.reply.id, text)
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


def _record(
    task: Task,
    means: Means,
    draft: Draft,
    info: EngineInfo | None,
    status: Status,
    error_code: str,
) -> None:
    """Store how the reply ended, what it cost, and every verdict on it, in one transaction."""
    reply = task.turn.reply
    verdicts, events = judged_reply(
        means.store,
        reply.id,
        draft.kept + draft.shown,
        draft.checks,
        task.judged_by,
        override=task.override,
        look=means.look,
    )
    means.store.finish_reply(
        reply.id,
        status=status,
        generation=generation(task, draft, info, error_code),
        verdicts=verdicts,
        events=events,
        withheld=draft.withheld,
        error_code=error_code,
    )


def _awaited(part: Part[T], cancel: Event) -> Generator[Step, None, T]:
    if part.peek() is None:
        yield Step("waiting", waiting_for=part.name)
    return part.wait(cancel)
