"""The lower half of the dialog Safety: guards, own categories, what is kept, the log, appeals."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from statistics import mean

from app.explain import explain
from app.page.templates import Templates
from app.services import Services
from safety.base import PolicyInvalid, Side, Verdict
from safety.categories import OwnCategory
from safety.choice import BUILT_IN, is_guard
from safety.gate import MODES
from safety.policy import FLOOR, SIDES, Decision, Policy, Profile, Rule
from storage.records import OWNER_ID, SafetyEvent

LOG_LINES = 60
EXPORT_LINES = 100_000
JUDGED_MESSAGES = 500  # the newest ones, that limits are tried on
GUEST_PRESETS: tuple[Profile, ...] = ("guest", "owner", "strict", "family")
MAX_CONTACTS = 600  # characters
_MAX_DAYS = 365
_OUTCOMES = ("shown", "withheld", "overridden", "appealed")


@dataclass(frozen=True, slots=True)
class GuardRow:
    """A guard that may be chosen."""

    value: str
    name: str
    about: str
    used: bool


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A limit that appeals speak for, and what it would have done."""

    category: str
    limit: float
    text: str
    label: str


class SafetyDesk:
    """Renders and does. Touches the store and files: not on the event loop."""

    def __init__(self, services: Services, templates: Templates) -> None:
        self._services = services
        self._strings = templates.strings
        self._say = templates.strings.say

    def values(self, user_id: int, policy: Policy, outcome: str = "") -> dict[str, object]:
        """What the template shows beside the policies."""
        guarding = self._services.guarding
        events = self._services.store.safety_events(limit=LOG_LINES, outcome=outcome)
        return {
            **self._would(user_id, policy),
            "gate_modes": [(one, self._say(f"safety.gate.{one}")) for one in MODES],
            "gate_mode": guarding.gate_mode,
            "guest_presets": [(one, self._say(f"page.policy.{one}")) for one in GUEST_PRESETS],
            "floor": self._say("safety.floor", limit=f"{FLOOR['child_exploitation']:.1f}"),
            "guards": self._guards(),
            "guard_lines": self._guard_lines(),
            "own_categories": guarding.own_categories(),
            "contacts": guarding.contacts,
            "max_contacts": MAX_CONTACTS,
            "keep_days": guarding.keep_days,
            "outcome": outcome,
            "outcomes": [("", self._say("safety.log.all"))]
            + [(one, self._say(f"safety.log.outcome.{one}")) for one in _OUTCOMES],
            "log": [self._log_row(event) for event in events],
            "suggestions": self._suggestions(),
        }

    def act(self, mode: str, text: str) -> str:
        """Do what a control asks → what is said of it. Raises `PolicyInvalid`, `StorageError`."""
        store, guarding = self._services.store, self._services.guarding
        match mode:
            case "guard":
                guarding.use(text.strip() or BUILT_IN)
                return self._say("safety.guards.loading")
            case "category":
                name, description = _pair(text)
                words = "".join(c if c.isascii() and c.isalnum() else "_" for c in name.lower())
                made = OwnCategory(f"own_{words.strip('_')[:40] or 'one'}", name, description)
                kept = [one for one in guarding.own_categories() if one.key != made.key]
                self._keep_own([*kept, made])
                return self._say("safety.own.added")
            case "category-drop":
                self._keep_own([one for one in guarding.own_categories() if one.key != text])
                return self._say("safety.own.removed")
            case "gate":
                if text not in MODES:
                    raise PolicyInvalid(self._say("panels.safety.unknown"))
                store.set_setting(OWNER_ID, "gate_mode", text)
                return self._say("safety.gate.saved")
            case "guest-preset":
                if text not in GUEST_PRESETS:
                    raise PolicyInvalid(self._say("panels.safety.unknown"))
                store.set_setting(OWNER_ID, "guest_policy", text)
                return self._say("panels.safety.saved")
            case "contacts":
                if len(text) > MAX_CONTACTS:
                    raise PolicyInvalid(self._say("safety.help.invalid", count=MAX_CONTACTS))
                store.set_setting(OWNER_ID, "help_contacts", _plain(text))
                return self._say("safety.help.saved")
            case "keep":
                if not text.isdecimal() or int(text) > _MAX_DAYS:
                    raise PolicyInvalid(self._say("safety.keep.invalid"))
                store.set_setting(OWNER_ID, "keep_withheld_days", text)
                store.drop_withheld(older_than_days=int(text))
                return self._say("safety.keep.saved")
            case "take":
                category, limit = _pair(text)
                self._take(category, float(limit))
                return self._say("panels.safety.saved")
        raise PolicyInvalid(self._say("panels.safety.unknown"))

    def export(self) -> str:
        """The safety log as JSON lines, newest first."""
        events = self._services.store.safety_events(limit=EXPORT_LINES)
        return "".join(json.dumps(asdict(event), ensure_ascii=False) + "\n" for event in events)

    def _would(self, user_id: int, policy: Policy) -> dict[str, object]:
        """How many of the newest messages `policy` flags, in all and by what decided."""
        judged = self._services.store.judged_messages(user_id, limit=JUDGED_MESSAGES)
        if not judged:
            return {"would": self._say("safety.would_none"), "would_by": []}
        flagged = Counter(
            decision.category
            for decision in (_decided(policy, event) for event in judged)
            if decision.action in ("warn", "block")
        )
        names = [(self._category(key) if key else self._say("panels.safety.usual"), count)
                 for key, count in flagged.most_common()]  # fmt: skip
        total, count = len(judged), flagged.total()
        return {
            "would": self._say("safety.would", total=total, count=count),
            "would_by": [f"{name}: {count}" for name, count in names],
        }

    def _guards(self) -> list[GuardRow]:
        chosen = self._services.guarding.chosen
        say = self._say
        rows = [GuardRow(BUILT_IN, say("safety.guards.built_in"), "", chosen == BUILT_IN)]
        rows[0] = replace(rows[0], about=say("safety.guards.built_in_text"))
        models = self._services.settings.data / "models"
        folders = sorted(models.iterdir()) if models.is_dir() else []
        known = {BUILT_IN}
        for folder in folders:
            if folder.is_dir() and is_guard(folder):
                known.add(str(folder))
                used = chosen == str(folder)
                rows.append(GuardRow(str(folder), folder.name, str(folder), used))
        if chosen not in known:
            rows.append(GuardRow(chosen, chosen, "", True))
        return rows

    def _guard_lines(self) -> list[str]:
        guarding, guard = self._services.guarding, self._services.guard.peek()
        lines = []
        if guard is not None:
            newest = self._services.store.safety_events(limit=200)
            seconds = [event.seconds for event in newest if event.guard == guard.name]
            count = f"{1000 * mean(seconds):.0f}" if seconds else "–"
            if guarding.memory_bytes:
                size = f"{guarding.memory_bytes / 1e9:.1f} GB"
                lines.append(self._say("safety.guards.memory", size=size, count=count))
            else:
                lines.append(self._say("safety.guards.time", count=count))
        if guarding.leaves_machine:
            lines.append(self._say("safety.guards.leaves"))
        if guarding.error is not None:
            told = explain(guarding.error, self._strings)
            lines.append(self._say("safety.guards.failed", why=told.detail or told.text))
        return lines

    def _keep_own(self, own: Sequence[OwnCategory]) -> None:
        saved = json.dumps([asdict(one) for one in own], ensure_ascii=False)
        self._services.store.set_setting(OWNER_ID, "own_categories", saved)
        if self._services.guarding.chosen != BUILT_IN:
            self._services.guarding.again()

    def _suggestions(self) -> list[Suggestion]:
        store = self._services.store
        appealed = store.safety_events(outcome="appealed", limit=EXPORT_LINES)
        stopped = store.safety_events(outcome="withheld", limit=EXPORT_LINES)
        wrong = {event.message_id for event in appealed}
        found = []
        for category in sorted({event.category for event in appealed if event.category}):
            scores = [event.score for event in appealed if event.category == category]
            limit = min(1.0, math.ceil(100 * max(scores) + 1) / 100)
            others = {
                event.message_id
                for event in stopped
                if event.category == category and event.message_id not in wrong
                if event.score < limit
            }
            shown = self._category(category)
            text = self._say(
                "safety.appeals.line",
                category=shown,
                limit=f"{limit:.2f}",
                avoided=sum(score < limit for score in scores),
                total=len(scores),
                passed=len(others),
            )
            label = self._say("safety.appeals.take", limit=f"{limit:.2f}")
            found.append(Suggestion(category, limit, text, label))
        return found

    def _take(self, category: str, limit: float) -> None:
        policy = self._services.policy(OWNER_ID)
        rules = dict(policy.rules)
        for side in SIDES:
            rules[category, side] = Rule(policy.rule(category, side).action, limit)
        name = policy.name if policy.name.startswith("own:") else f"own:{policy.name}"
        changed = Policy(name, policy.overall, rules, policy.may_override)
        self._services.store.set_setting(OWNER_ID, "policy", json.dumps(changed.to_json()))

    def _log_row(self, event: SafetyEvent) -> tuple[str, ...]:
        at = datetime.fromtimestamp(event.at / 1000).astimezone()
        return (
            f"{at:%Y-%m-%d %H:%M}",
            self._say(f"page.shield.stage.{event.stage}"),
            self._category(event.category),
            f"{event.score:.2f}",
            self._say(f"page.shield.action.{event.action}"),
            self._say(f"safety.log.outcome.{event.outcome}"),
        )

    def _category(self, key: str) -> str:
        name = f"guard.category.{key}.name"
        return self._say(name) if name in self._strings else key or self._say("page.shield.none")


def _decided(policy: Policy, event: SafetyEvent) -> Decision:
    """What `policy` says of something that was judged earlier."""
    side: Side = "prompt" if event.stage == "prompt" else "reply"
    return policy.decide(Verdict(min(1.0, max(0.0, event.unsafe)), event.scores), side)


def _plain(text: str) -> str:
    """Lines of printable characters, without empty ones around them."""
    lines = ["".join(c for c in line if c.isprintable()).strip() for line in text.splitlines()]
    return "\n".join(lines).strip()


def _pair(text: str) -> tuple[str, str]:
    """Two texts that the page sent as JSON. Raises `PolicyInvalid`."""
    try:
        one, other = json.loads(text)
    except (ValueError, TypeError) as error:
        raise PolicyInvalid("The page sent something that cannot be read.") from error
    return str(one).strip(), str(other).strip()
