"""How well a guard judges labelled texts: catch rate, false alarms, AUPRC, calibration, latency.

Reads probes (`safety/probes/*.jsonl`) and the same layout from anywhere else. Figures are exact
for the given texts; nothing is sampled, and nothing leaves the machine.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from safety.base import Guard, Side, Verdict
from safety.policy import Decision, Policy
from safety.probes import Probe


@dataclass(frozen=True, slots=True)
class Judged:
    """A probe with what the guard and the policy made of it."""

    probe: Probe
    verdict: Verdict
    decision: Decision
    seconds: float

    @property
    def score(self) -> float:
        """P(unsafe)."""
        return self.verdict.score

    @property
    def blocked(self) -> bool:
        """Whether the policy stops it."""
        return self.decision.blocks


@dataclass(frozen=True, slots=True)
class Figures:
    """Rates over a group of texts. A rate or area that has no texts to stand on is None."""

    num_safe: int
    num_unsafe: int
    false_alarms: float | None  # share of the safe texts that were blocked
    caught: float | None  # share of the unsafe texts that were blocked
    auroc: float | None
    average_precision: float | None
    f1: float | None
    attack_success: float | None  # share of the attacks that nothing stopped
    calibration_error: float | None
    num_failed: int
    median_milliseconds: float
    p95_milliseconds: float


def judge_all(guard: Guard, policy: Policy, probes: Iterable[Probe]) -> list[Judged]:
    """Judge every probe in turn. Blocks."""
    judged = []
    for probe in probes:
        started = time.perf_counter()
        if probe.is_reply:
            verdict = guard.judge(probe.prompt, probe.text)
        else:
            verdict = guard.judge(probe.text)
        seconds = time.perf_counter() - started
        judged.append(Judged(probe, verdict, policy.decide(verdict, _side(probe)), seconds))
    return judged


def under(judged: Iterable[Judged], policy: Policy) -> list[Judged]:
    """The same judgements as another policy decides them. Judges nothing anew."""
    return [replace(one, decision=policy.decide(one.verdict, _side(one.probe))) for one in judged]


def _side(probe: Probe) -> Side:
    return "reply" if probe.is_reply else "prompt"


def figures(judged: Sequence[Judged]) -> Figures:
    """The figures of one group; at least one text."""
    safe = [j for j in judged if not j.probe.unsafe]
    unsafe = [j for j in judged if j.probe.unsafe]
    labels = [j.probe.unsafe for j in judged]
    scores = [j.score for j in judged]
    both = bool(safe and unsafe)
    attacks = [j for j in judged if j.probe.is_attack]
    hits = sum(j.blocked for j in unsafe)
    alarms = sum(j.blocked for j in safe)
    return Figures(
        num_safe=len(safe),
        num_unsafe=len(unsafe),
        false_alarms=alarms / len(safe) if safe else None,
        caught=hits / len(unsafe) if unsafe else None,
        auroc=auroc(labels, scores) if both else None,
        average_precision=average_precision(labels, scores) if both else None,
        f1=2 * hits / (hits + alarms + len(unsafe)) if unsafe else None,
        attack_success=sum(not j.blocked for j in attacks) / len(attacks) if attacks else None,
        calibration_error=calibration_error(labels, scores),
        num_failed=sum(bool(j.decision.failed) for j in judged),
        median_milliseconds=1000 * median(j.seconds for j in judged),
        p95_milliseconds=1000 * sorted(j.seconds for j in judged)[int(0.95 * (len(judged) - 1))],
    )


def grouped(judged: Iterable[Judged]) -> Mapping[str, list[Judged]]:
    """By language, then by kind, in order of appearance."""
    groups: dict[str, list[Judged]] = {}
    for one in judged:
        groups.setdefault(f"{one.probe.language} (all)", []).append(one)
    for one in [one for group in groups.values() for one in group]:
        groups.setdefault(f"{one.probe.language} {one.probe.kind}", []).append(one)
    return groups


def auroc(labels: Sequence[bool], scores: Sequence[float]) -> float:
    """Chance that an unsafe text scores higher than a safe one; ties count half."""
    order = sorted(range(len(scores)), key=scores.__getitem__)
    ranks = [0.0] * len(scores)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and scores[order[end]] == scores[order[start]]:
            end += 1
        for index in order[start:end]:
            ranks[index] = (start + end + 1) / 2  # the mean rank of the tied ones, from 1
        start = end
    num_unsafe = sum(labels)
    num_safe = len(labels) - num_unsafe
    total = sum(rank for rank, label in zip(ranks, labels, strict=True) if label)
    return (total - num_unsafe * (num_unsafe + 1) / 2) / (num_unsafe * num_safe)


def average_precision(labels: Sequence[bool], scores: Sequence[float]) -> float:
    """Area under precision over recall, as a step function; equal scores enter together."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    found, seen, area, num_unsafe = 0, 0, 0.0, sum(labels)
    while seen < len(order):
        score, before = scores[order[seen]], found
        while seen < len(order) and scores[order[seen]] == score:
            found += labels[order[seen]]
            seen += 1
        area += (found - before) / num_unsafe * found / seen
    return area


def calibration_error(labels: Sequence[bool], scores: Sequence[float], num_bins: int = 15) -> float:
    """Expected calibration error: how far, on average, a score is from the share it promises."""
    bins: dict[int, list[int]] = {}
    for index, score in enumerate(scores):
        bins.setdefault(min(num_bins - 1, int(score * num_bins)), []).append(index)
    gaps = (
        abs(sum(labels[i] for i in members) - sum(scores[i] for i in members))
        for members in bins.values()
    )
    return sum(gaps) / len(scores)


def table(groups: Mapping[str, Sequence[Judged]]) -> str:
    """A plain text table, one group a line; `passed` are attacks that nothing stopped."""
    columns = ("group", "safe", "flagged", "unsafe", "caught", "AUROC", "AUPRC", "passed", "ms")
    lines = ["{:40} {:>5} {:>8} {:>6} {:>7} {:>6} {:>6} {:>7} {:>7}".format(*columns)]
    for name, judged in groups.items():
        f = figures(judged)
        lines.append(
            f"{name:40} {f.num_safe:5} {_percent(f.false_alarms):>8} {f.num_unsafe:6} "
            f"{_percent(f.caught):>7} {_number(f.auroc):>6} {_number(f.average_precision):>6} "
            f"{_percent(f.attack_success):>7} {f.median_milliseconds:7.2f}"
        )
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
