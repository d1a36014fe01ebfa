"""A reply as it comes into being, and what is recorded of how it was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from threading import Event

from app.task import Task
from engine.base import EngineInfo, Sampling, Statistics
from safety.gate import Check
from storage.records import Generation, Status


@dataclass(slots=True)
class Draft:
    """The reply so far. `kept` is what an earlier run had already shown."""

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


def status_of(draft: Draft, closing: Event) -> Status:
    """How a reply that the engine has written ended."""
    if draft.blocked:
        return "cut"
    if draft.finish_reason == "cancelled":
        return "interrupted" if closing.is_set() else "stopped"
    return "done"


def run_of(
    info: EngineInfo, sampling: Sampling, cost: Statistics, finish_reason: str
) -> Generation:
    """One run of the engine as it is kept: what wrote, how it was asked to, what it cost."""
    return Generation(
        model=info.model,
        fingerprint=info.fingerprint,
        device=info.device,
        precision=info.precision,
        sampling=asdict(sampling),
        seed=cost.seed,
        num_prompt=cost.num_prompt,
        num_reused=cost.num_reused,
        num_new=cost.num_new,
        queue_seconds=cost.queue_seconds,
        first_token_seconds=cost.first_token_seconds,
        total_seconds=cost.total_seconds,
        tokens_per_second=cost.tokens_per_second,
        finish_reason=finish_reason,
    )


def generation(
    task: Task, draft: Draft, info: EngineInfo | None, error_code: str
) -> Generation | None:
    """What the run was and cost; None if the engine was never asked."""
    if info is None:
        return None
    cost = draft.statistics or Statistics(0, 0, len(draft.ids), 0.0, 0.0, 0.0, seed=0)
    return replace(
        run_of(info, task.sampling, cost, "cut" if draft.blocked else draft.finish_reason),
        error_code=error_code,
        from_char=len(draft.kept) + len(task.begun.text if task.begun else ""),
        num_left_out=draft.num_left_out,
        # Of a cut answer none: they would spell what was held back.
        token_ids=() if draft.blocked else (*draft.given, *draft.ids),
        system_prompt=draft.system_prompt,
        num_given=0 if draft.blocked else len(draft.given),
        memory_bytes=draft.memory_bytes,
    )
