"""What is kept of a judgement: a record beside the message, and a line in the safety log.

Also the two checks that need no guard: of documents in a prompt, and of code in a reply.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from safety.base import Guard, Verdict
from safety.code_check import NAME, BlockReport, Look, judge_code
from safety.gate import Check
from safety.injection import judge_documents
from safety.policy import Decision, Policy
from storage.records import (
    BlockRecord,
    CodeFinding,
    Outcome,
    SafetyEvent,
    Stage,
    VerdictRecord,
)
from storage.store import Store

log = logging.getLogger("corral.judging")


def recorded(
    stage: Stage, decision: Decision, policy_version: str, upto_char: int
) -> VerdictRecord:
    """A decision as it is kept with its message."""
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
        policy_version=policy_version,
        reason=verdict.failed,
        upto_char=upto_char,
        seconds=verdict.seconds,
    )


def event_of(
    message_id: int, record: VerdictRecord, decision: Decision, digest: str, outcome: Outcome | None
) -> SafetyEvent:
    """The line of the safety log for a judgement; without an `outcome` the action tells it."""
    return SafetyEvent(
        message_id=message_id,
        stage=record.stage,
        guard=record.guard,
        guard_version=record.guard_version,
        policy_version=record.policy_version,
        action=record.action,
        outcome=outcome or ("withheld" if record.action == "block" else "shown"),
        score=record.score,
        category=record.category,
        threshold=record.threshold,
        unsafe=decision.verdict.score if decision.verdict else decision.score,
        scores=record.scores,
        reason=record.reason,
        upto_char=record.upto_char,
        seconds=record.seconds,
        digest=digest,
    )


def judged_prompt(
    store: Store, message_id: int, text: str, decision: Decision, policy: Policy, *, override: bool
) -> bool:
    """Keep what was decided on a prompt and on the documents in it; whether it is refused.

    `override`: somebody asked to have it answered although it had been refused.
    """
    decisions: list[tuple[Stage, Decision]] = [("prompt", decision)]
    if (documents := judge_documents(text)) is not None:
        decisions.append(("document", policy.decide(documents, "prompt")))
    for stage, one in decisions:
        record = recorded(stage, one, policy.version, len(text))
        outcome: Outcome | None = "overridden" if override and not one.blocks else None
        event = event_of(message_id, record, one, store.digest(text), outcome)
        store.add_verdict(message_id, record, event)
    return any(one.blocks for _, one in decisions)


def judged_reply(
    store: Store,
    message_id: int,
    text: str,
    checks: Sequence[Check],
    policy: Policy,
    *,
    override: bool,
    look: Look | None = None,
) -> tuple[list[VerdictRecord], list[SafetyEvent]]:
    """What is kept of a reply's checks: all beside it; in the log the last, and what was found.

    `text` is what was shown of it; the last check is the verdict on the whole.
    """
    records, events = [], []
    for number, check in enumerate(checks, start=1):
        last = number == len(checks)
        stage: Stage = "final" if last else "partial"
        record = recorded(stage, check.decision, policy.version, check.upto_char)
        records.append(record)
        if last or check.decision.action != "allow":
            outcome: Outcome | None = "overridden" if override and record.action == "warn" else None
            digest = store.digest(text[: check.upto_char])
            events.append(event_of(message_id, record, check.decision, digest, outcome))
    if (judged := judged_code(text, policy, look)) is not None:
        code, record = judged
        records.insert(0, record)  # the final verdict stays the last word
        events.append(event_of(message_id, record, code, store.digest(text), "shown"))
    return records, events


def reply_decision(
    guard: Guard, policy: Policy, prompt: str, reply: str, look: Look | None = None
) -> Decision:
    """What the policy says of a reply so far: of the text, and of the code in it. Blocks."""
    decision = policy.decide(guard.judge(prompt, reply), "reply")
    code = None if decision.blocks else judged_code(reply, policy, look)
    return code[0] if code is not None and code[0].blocks else decision


def judged_code(
    text: str, policy: Policy, look: Look | None = None
) -> tuple[Decision, VerdictRecord] | None:
    """What the policy says of the code in a reply, and what is kept of it; None without code.

    A checker that fails leaves the code *not checked*, which is shown as such: it is a second look
    at the user's own machine, and the guard has judged the text itself. Blocks.
    """
    reports: Sequence[BlockReport] = ()
    try:
        judged = judge_code(text, look)
    except Exception as error:
        log.warning("the code check failed: %s", type(error).__name__)
        why = f"The code check stopped with {type(error).__name__}."
        decision = Decision("log", failed=why, verdict=Verdict.failure(why, guard=NAME))
    else:
        if judged is None:
            return None
        verdict, reports = judged
        decision = policy.decide(verdict, "reply")
    record = recorded("code", decision, policy.version, len(text))
    return decision, replace(record, blocks=tuple(block_record(one) for one in reports))


def block_record(report: BlockReport) -> BlockRecord:
    """What is kept of the look at a block of code."""
    found = report.findings
    findings = tuple(CodeFinding(f.rule, f.cwe, f.severity, f.line, f.what) for f in found)
    return BlockRecord(report.block.digest, report.state, report.reason, findings)
