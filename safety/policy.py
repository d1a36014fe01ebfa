"""From scores to what is done: off, log, warn or block, per category and side.

A verdict holds probabilities; only a policy decides. Two things are held against limits:

- each category's own score against that category's threshold;
- P(unsafe) against the overall threshold. Where the guard names categories, only the part of
  P(unsafe) that categories of at least that strength explain is counted, so that a category
  which is switched off, or whose own limit is laxer and not reached, cannot block through the
  back door.

A failed verdict is always a block, and so is what `FLOOR` names: no policy can let it through.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Literal, cast

from safety.base import PolicyInvalid, Side, Verdict
from safety.categories import is_category

Action = Literal["allow", "log", "warn", "block"]
RuleAction = Literal["off", "log", "warn", "block"]
Profile = Literal["owner", "open", "strict", "family", "guest"]

SIDES: tuple[Side, ...] = ("prompt", "reply")
FLOOR: Mapping[str, float] = MappingProxyType({"child_exploitation": 0.9})
"""Category → score from which every policy blocks. The fixed rules (`safety/rules.py`) give 1."""

_STRENGTH: Mapping[str, int] = {"off": 0, "allow": 0, "log": 1, "warn": 2, "block": 3}
_BY_STRENGTH: tuple[Action, ...] = ("allow", "log", "warn", "block")


@dataclass(frozen=True, slots=True)
class Rule:
    """What to do when a score reaches `threshold` (0 to 1)."""

    action: RuleAction = "block"
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if self.action not in ("off", "log", "warn", "block"):
            raise PolicyInvalid(f"{self.action!r} is no action; use off, log, warn or block.")
        if not 0.0 <= self.threshold <= 1.0:
            raise PolicyInvalid(f"A threshold lies between 0 and 1, not at {self.threshold}.")


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy says about one verdict.

    `category` is the key of the category that decided, or "" if P(unsafe) alone did or nothing
    was found. `score` was held against `threshold`. `failed` is why the guard could not judge.
    """

    action: Action
    category: str = ""
    score: float = 0.0
    threshold: float = 0.0
    failed: str = ""
    verdict: Verdict | None = None
    policy_version: str = ""

    @property
    def blocks(self) -> bool:
        """Whether the text must not be shown."""
        return self.action == "block"


@dataclass(frozen=True)
class Policy:
    """Thresholds and actions. `overall` is for P(unsafe); `rules` are per category and side.

    A hazard without a rule of its own is handled by the overall rule alone. `may_override` says
    whether somebody may ask to see a blocked text all the same.
    """

    name: str
    overall: Mapping[Side, Rule]
    rules: Mapping[tuple[str, Side], Rule] = field(default_factory=dict)
    may_override: bool = False

    def __post_init__(self) -> None:
        for side in SIDES:
            if side not in self.overall:
                raise PolicyInvalid(f"The policy {self.name!r} has no overall rule for {side}.")
        if unknown := set(self.overall) - set(SIDES):
            raise PolicyInvalid(f"The policy {self.name!r} names unknown sides: {unknown}.")
        for category, side in self.rules:
            if not is_category(category) or side not in SIDES:
                raise PolicyInvalid(f"The policy {self.name!r} names an unknown {category}/{side}.")
        object.__setattr__(self, "overall", MappingProxyType(dict(self.overall)))
        object.__setattr__(self, "rules", MappingProxyType(dict(self.rules)))

    def rule(self, category: str, side: Side) -> Rule:
        """The rule for a category, or the overall one where it has none."""
        return self.rules.get((category, side), self.overall[side])

    def decide(self, verdict: Verdict, side: Side) -> Decision:
        """What to do about `verdict`: the strongest action that any rule asks for."""
        if reason := _unreadable(verdict):
            return Decision("block", "", 1.0, 0.0, reason, verdict, self.version)
        found = [self._overall(verdict, side)]
        found += [
            (_STRENGTH["block"], verdict.scores[key], limit, key)
            for key, limit in FLOOR.items()
            if verdict.scores.get(key, 0.0) >= limit
        ]
        found += [
            (_STRENGTH[rule.action], verdict.scores[key], rule.threshold, key)
            for key in verdict.scores
            if (rule := self.rules.get((key, side))) and verdict.scores[key] >= rule.threshold
        ]
        strength, score, threshold, key = max(found, key=lambda f: (f[0], f[1] - f[2]))
        if strength == 0:
            threshold = self.overall[side].threshold
            return Decision("allow", "", verdict.score, threshold, "", verdict, self.version)
        action = _BY_STRENGTH[strength]
        return Decision(action, key, score, threshold, "", verdict, self.version)

    def _overall(self, verdict: Verdict, side: Side) -> tuple[int, float, float, str]:
        """(strength, score, threshold, category) of P(unsafe); strength 0 if nothing is reached."""
        overall = self.overall[side]
        strongest = _STRENGTH[overall.action]
        if not verdict.scores:
            hit = verdict.score >= overall.threshold
            return (strongest if hit else 0, verdict.score, overall.threshold, "")
        for strength in range(strongest, 0, -1):
            backing = {
                key: score
                for key, score in verdict.scores.items()
                if _STRENGTH[self.rule(key, side).action] >= strength
                and score >= self._counts_from(key, side)
            }
            explained = min(verdict.score, sum(backing.values()))
            if backing and explained >= overall.threshold:
                return (
                    strength,
                    explained,
                    overall.threshold,
                    max(backing, key=backing.__getitem__),
                )
        return (0, verdict.score, overall.threshold, "")

    def _counts_from(self, category: str, side: Side) -> float:
        """The score from which a category explains P(unsafe): 0, or its own laxer limit.

        Otherwise a limit that somebody raised for one category would have no effect.
        """
        threshold = self.rule(category, side).threshold
        return threshold if threshold > self.overall[side].threshold else 0.0

    @cached_property
    def version(self) -> str:
        """A short hash of everything but the name: equal policies have equal versions."""
        rules = {key: value for key, value in self.to_json().items() if key != "name"}
        text = json.dumps(rules, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    def to_json(self) -> dict[str, object]:
        """A JSON object from which `from_json` makes an equal policy."""
        return {
            "name": self.name,
            "may_override": self.may_override,
            "overall": {side: [rule.action, rule.threshold] for side, rule in self.overall.items()},
            "rules": [
                [category, side, rule.action, rule.threshold]
                for (category, side), rule in sorted(self.rules.items())
            ],
        }

    @classmethod
    def from_json(cls, value: object) -> Policy:
        """Read what `to_json` wrote. Raises `PolicyInvalid` on anything else."""
        try:
            fields = cast("dict[str, object]", value)
            overall = cast("dict[Side, list[object]]", fields["overall"])
            rules = cast("list[list[object]]", fields["rules"])
            return cls(
                str(fields["name"]),
                {side: _rule(*pair) for side, pair in overall.items()},
                {(str(c), cast("Side", side)): _rule(a, t) for c, side, a, t in rules},
                fields.get("may_override") is True,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, PolicyInvalid):
                raise
            raise PolicyInvalid(f"The saved policy cannot be read: {error}.") from error

    def loosest_with(self, limit: Policy) -> Policy:
        """Tighten the policy wherever it is looser than `limit` (a guest under the owner)."""
        keys = set(self.rules) | set(limit.rules)
        return Policy(
            self.name,
            {side: _stricter(self.overall[side], limit.overall[side]) for side in SIDES},
            {key: _stricter(self.rule(*key), limit.rule(*key)) for key in keys},
            self.may_override and limit.may_override,
        )

    def overridden(self) -> Policy:
        """The policy when somebody asked to see a blocked text: it warns where it would block."""

        def milder(rule: Rule) -> Rule:
            return Rule("warn", rule.threshold) if rule.action == "block" else rule

        overall = {side: milder(rule) for side, rule in self.overall.items()}
        rules = {key: milder(rule) for key, rule in self.rules.items()}
        return Policy(self.name, overall, rules, self.may_override)


def _unreadable(verdict: Verdict) -> str:
    """Why `verdict` cannot be decided on, or ""."""
    if verdict.failed:
        return verdict.failed
    values = (verdict.score, *verdict.scores.values())
    if not all(isinstance(v, (int, float)) and math.isfinite(v) and 0 <= v <= 1 for v in values):
        return "The guard gave a score that is no probability."
    return ""


def _rule(action: object, threshold: object) -> Rule:
    return Rule(cast("RuleAction", action), float(cast("float", threshold)))


def _stricter(one: Rule, other: Rule) -> Rule:
    """The stronger action at the lower threshold of the two; an `off` rule sets no threshold."""
    in_force = [rule for rule in (one, other) if rule.action != "off"]
    if not in_force:
        return one
    action = max((one.action, other.action), key=_STRENGTH.__getitem__)
    return Rule(action, min(rule.threshold for rule in in_force))


def _preset(
    name: str, threshold: float, actions: Mapping[str, RuleAction | Rule], *, may_override: bool
) -> Policy:
    rules: dict[tuple[str, Side], Rule] = {}
    for category, given in actions.items():
        rule = given if isinstance(given, Rule) else Rule(given, threshold)
        rules |= {(category, side): rule for side in SIDES}
    overall = {side: Rule("block", threshold) for side in SIDES}
    return Policy(name, overall, rules, may_override)


# S6 off: every false alarm in one published deployment was a health or money question
# (Olawoyin007/empathySync, pull requests 156 and 159). S8, S13 and S14 are logged only: they need
# knowledge of the world, or, for S14, a code interpreter, which Corral does not have.
_COMMON: Mapping[str, RuleAction | Rule] = {
    "specialized_advice": "off",
    "intellectual_property": "log",
    "elections": "log",
    "code_interpreter_abuse": "log",
    "child_exploitation": Rule("block", 0.2),
    "prompt_injection": "warn",
    "secrets": "warn",
    "personal_data": "log",
    "insecure_code": "warn",
}

_LENIENT: Mapping[str, RuleAction | Rule] = {**_COMMON, "sexual_content": "off", "hate": "warn"}
_CAREFUL: Mapping[str, RuleAction | Rule] = {**_COMMON, "code_interpreter_abuse": "block"}
_FAMILY: Mapping[str, RuleAction | Rule] = {**_COMMON, "sexual_content": Rule("block", 0.1)}

PRESETS: Mapping[Profile, Policy] = MappingProxyType(
    {
        "owner": _preset("owner", 0.5, _COMMON, may_override=True),
        "open": _preset("open", 0.9, _LENIENT, may_override=True),
        "strict": _preset("strict", 0.35, _CAREFUL, may_override=False),
        "family": _preset("family", 0.25, _FAMILY, may_override=False),
        "guest": _preset("guest", 0.5, _CAREFUL, may_override=False),
    }
)
"""Policies to begin with; "owner" is the default."""

DEFAULT_POLICY: Policy = PRESETS["owner"]
