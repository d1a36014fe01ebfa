"""The dialog Safety: which guard judges, how strict it is, and the limits of each category."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from app.explain import explain
from app.page.safety_desk import SafetyDesk
from app.page.safety_test import SafetyTest
from app.page.templates import Templates
from app.services import Services
from safety.base import PolicyInvalid, Side
from safety.categories import CATEGORIES
from safety.policy import DEFAULT_POLICY, PRESETS, SIDES, Policy, Profile, Rule
from storage.records import OWNER_ID

SHOWN: tuple[Profile, ...] = ("open", "owner", "strict", "family")
_OWN = "own:"  # an own policy is named after the ready-made one that it was made from
_NO_RULES: Mapping[Side, Rule | None] = {"prompt": None, "reply": None}


@dataclass(frozen=True, slots=True)
class _Row:
    """A category, or with key "" the usual limit. A side without a rule follows the usual one."""

    key: str
    code: str
    name: str
    text: str
    prompt: Rule | None
    reply: Rule | None


class SafetyPanel:
    """Renders and changes a user's policy. Touches the store: not on the event loop."""

    def __init__(self, services: Services, templates: Templates) -> None:
        self._services = services
        self._templates = templates
        self._strings = templates.strings
        self._say = templates.strings.say
        self._desk = SafetyDesk(services, templates)
        self._test = SafetyTest(services, templates)

    def value(self, user_id: int, said: str = "", *, outcome: str = "") -> dict[str, object]:
        """What the dialog shows now; of the log only the lines of one `outcome`."""
        policy = self._services.policy(user_id)
        chosen = policy.name if policy.name in PRESETS else ""
        base, owner = _base(policy.name), user_id == OWNER_ID
        guest = self._services.guarding.guest_policy()
        html = self._templates.render(
            "panel_safety",
            owner=owner,
            lines=self._guard_lines(),
            presets=[self._preset(name) for name in SHOWN],
            chosen=chosen,
            base=base,
            base_name=self._name(base),
            usual=policy.overall,
            rows=self._rows(policy),
            may_override=policy.may_override,
            guest_rows=self._rows(guest) if owner else (),
            guest_usual=guest.overall,
            guest_base=_base(guest.name),
            **(self._desk.values(user_id, policy, outcome) if owner else {}),
            **(self._test.values() if owner else {}),
        )
        running = owner and self._test.running
        return {"kind": "safety", "html": html, "said": said, "tone": "info", **_polled(running)}

    def tested(self) -> dict[str, object]:
        """The part of the dialog that says how far the self-test is."""
        html = self._templates.render("safety_test", **self._test.values())
        value = {"kind": "safety", "into": "self-test-state", "html": html}
        return {**value, **_polled(self._test.running)}

    def choose(self, user_id: int, name: str) -> dict[str, object]:
        """Take a ready-made policy. Raises `StorageError`."""
        if name not in SHOWN:
            said = self._say("panels.safety.unknown")
            return {"kind": "safety", "said": said, "tone": "error"}
        self._services.store.set_setting(user_id, "policy", name)
        return self.value(user_id, self._say("panels.safety.chosen", name=self._name(name)))

    def act(self, user_id: int, mode: str, text: str) -> dict[str, object]:
        """Do what a control of the owner's asks; `mode` says which.

        Raises `PolicyInvalid` or `StorageError`; nothing changes then.
        """
        match mode:
            case "own":
                return self.save(user_id, text)
            case "guest":
                guest = _read(text, _base(self._services.guarding.guest_policy().name))
                saved = json.dumps(guest.to_json())
                self._services.store.set_setting(user_id, "guest_policy", saved)
                return self.value(user_id, self._say("panels.safety.saved"))
            case "preset":
                return self.choose(user_id, text)
            case "log":
                return self.value(user_id, outcome=text)
            case "test" | "test-stop":
                said = self._test.act(mode, text)
                return {**self.tested(), "said": said, "tone": "info"}
            case "test-html" | "test-json":
                return {"kind": "safety", "file": self._test.file(mode)}
            case "export":
                value = self.value(user_id)
                log = {"name": "safety-log.jsonl", "text": self._desk.export()}
                return {**value, "file": log}
        return self.value(user_id, self._desk.act(mode, text))

    def save(self, user_id: int, text: str) -> dict[str, object]:
        """Keep an own policy, as JSON from the dialog.

        Raises `PolicyInvalid` for anything that is none, `StorageError`; the old one stays then.
        """
        policy = _read(text, _base(self._services.policy(user_id).name))
        saved = json.dumps(policy.to_json())
        self._services.store.set_setting(user_id, "policy", saved)
        return self.value(user_id, self._say("panels.safety.saved"))

    def _guard_lines(self) -> list[str]:
        guard = self._services.guard.peek()
        say = self._say
        if guard is None:
            error = self._services.readiness().guard.error
            if error is None:
                return [say("panels.safety.loading")]
            told = explain(error, self._strings)
            return [*filter(None, (say("panels.safety.failed"), told.detail, told.action))]
        lines = [say("panels.safety.named", name=guard.name, version=guard.version)]
        lines.append(say("panels.safety.every"))
        if "corral-guard" in guard.name:
            lines.append(say("panels.safety.built_in"))
        return lines

    def _preset(self, name: Profile) -> dict[str, str]:
        limit = f"{PRESETS[name].overall['prompt'].threshold:.2f}"
        text = self._say(f"panels.safety.preset.{name}", limit=limit)
        return {"key": name, "name": self._name(name), "text": text}

    def _name(self, preset: str) -> str:
        return self._say(f"page.policy.{preset}")

    def _rows(self, policy: Policy) -> list[_Row]:
        name, text = self._say("panels.safety.usual"), self._say("panels.safety.usual_text")
        rows = [_Row("", "", name, text, policy.overall["prompt"], policy.overall["reply"])]
        for key, category in CATEGORIES.items():
            name = self._say(f"guard.category.{key}.name")
            text = self._say(f"guard.category.{key}.text")
            own = {**_NO_RULES, **{side: policy.rules.get((key, side)) for side in SIDES}}
            rows.append(_Row(key, category.code, name, text, own["prompt"], own["reply"]))
        for one in self._services.guarding.own_categories():
            sides = {side: policy.rules.get((one.key, side)) for side in SIDES}
            texts = (one.key, "", one.name, one.description)
            rows.append(_Row(*texts, sides["prompt"], sides["reply"]))
        return rows


def _polled(running: bool) -> dict[str, object]:
    """What makes the page ask again while the self-test runs."""
    return {"poll": {"mode": "safety", "text": "test"}} if running else {}


def _base(name: str) -> str:
    """The ready-made policy that a policy of this name is, or was made from."""
    preset = name.removeprefix(_OWN)
    return preset if preset in PRESETS else DEFAULT_POLICY.name


def _read(text: str, base: str) -> Policy:
    """The policy that the dialog sent. Raises `PolicyInvalid`."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PolicyInvalid("The limits cannot be read.") from error
    if not isinstance(given, dict):
        raise PolicyInvalid("The limits cannot be read.")
    return Policy.from_json({**given, "name": f"{_OWN}{base}"})
