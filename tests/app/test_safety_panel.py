"""The dialog Safety: what it shows, what it keeps, and whom it obeys."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from threading import Event
from typing import Any

import pytest

from app.page.panels import Panels
from app.requests import Send
from app.services import Services
from app.strings import Strings
from safety.base import GuardBroken, Verdict
from safety.categories import CATEGORIES
from safety.policy import DEFAULT_POLICY, PRESETS, Policy, Rule
from storage.records import SafetyEvent
from tests.app.panel_events import fire

pytestmark = pytest.mark.usefixtures("ready_guard")

OVERALL = {"prompt": ["block", 0.5], "reply": ["block", 0.5]}


def save(panels: Panels, given: object, **who: Any) -> dict[str, Any]:
    return fire(panels.policy, {"mode": "own", "text": json.dumps(given)}, **who)


def test_it_shows_the_guard_every_category_and_the_policy_that_holds(panels: Panels) -> None:
    html = fire(panels.panel, {"mode": "safety"})["panel"]["html"]
    assert "words, version 1" in html
    assert 'data-mode="preset" data-text="owner" aria-pressed="true"' in html
    for key in CATEGORIES:
        assert html.count(f'data-category="{key}"') == 4  # two sides, for the owner and for guests
    assert "does not claim" not in html  # that is said of the built-in guard alone


def test_what_the_built_in_guard_does_not_claim_is_said(panels: Panels, services: Services) -> None:
    guard = services.guard.wait(Event())
    guard.name = "corral-guard"
    html = fire(panels.panel, {"mode": "safety"})["panel"]["html"]
    assert "does not claim Defamation" in html


def test_a_guard_that_failed_is_said_to_have_failed(panels: Panels, services: Services) -> None:
    def fail() -> Any:
        raise GuardBroken("It misses its probe <b>x</b>.")

    services.guard.replace(fail)
    with pytest.raises(GuardBroken):
        services.guard.wait(Event())
    html = fire(panels.panel, {"mode": "safety"})["panel"]["html"]
    assert "could not be loaded" in html
    assert "It misses its probe &lt;b&gt;x&lt;/b&gt;." in html


@pytest.mark.parametrize("name", ["open", "owner", "strict", "family"])
def test_a_ready_made_policy_holds_at_once_and_the_chip_says_so(
    panels: Panels, services: Services, name: str
) -> None:
    painted = fire(panels.policy, {"mode": "preset", "text": name})
    assert services.policy(1) == PRESETS[name]  # type: ignore[index]
    word = Strings.load("en").say(f"page.policy.{name}")
    assert f"Guard: {word}" in painted["head"]["items"][0][1]
    assert painted["panel"]["tone"] == "info"


@pytest.mark.parametrize("name", ["guest", "none", "", "${print(1)}", "own"])
def test_other_names_are_no_policy(panels: Panels, services: Services, name: str) -> None:
    panel = fire(panels.policy, {"mode": "preset", "text": name})["panel"]
    assert panel["tone"] == "error"
    assert "html" not in panel  # what stands in the dialog stays there
    assert services.store.setting(1, "policy") is None


def test_own_limits_are_kept_and_survive_being_read_again(
    panels: Panels, services: Services
) -> None:
    fire(panels.policy, {"mode": "preset", "text": "strict"})
    rules = [["hate", "prompt", "warn", 0.125], ["privacy", "reply", "off", 0.5]]
    painted = save(panels, {"overall": OVERALL, "rules": rules})
    assert "Guard: own policy" in painted["head"]["items"][0][1]
    assert "made from “strict”" in painted["panel"]["html"]
    assert 'value="0.125"' in painted["panel"]["html"]
    policy = services.policy(1)
    assert policy.decide(Verdict(0.2, {"hate": 0.2}), "prompt").action == "warn"
    assert policy.decide(Verdict(0.9, {"privacy": 0.9}), "reply").action == "allow"
    assert Policy.from_json(json.loads(services.store.setting(1, "policy") or "")) == policy
    painted = fire(panels.policy, {"mode": "preset", "text": "strict"})
    assert services.policy(1) == PRESETS["strict"]
    assert "made from" not in painted["panel"]["html"]


def test_a_ready_made_policy_saved_without_change_decides_the_same(
    panels: Panels, services: Services
) -> None:
    """The table leaves out what follows the usual limit, and nothing else."""
    given = {**DEFAULT_POLICY.to_json()}
    save(panels, given)
    assert services.policy(1).version == DEFAULT_POLICY.version
    assert services.policy(1).name == "own:owner"


@pytest.mark.parametrize(
    "given",
    [
        None,
        [],
        "strict",
        {},
        {"overall": OVERALL},
        {"overall": {"prompt": ["block", 0.5]}, "rules": []},
        {"overall": OVERALL, "rules": [["hate", "prompt", "allow", 0.5]]},
        {"overall": OVERALL, "rules": [["hate", "prompt", "block", 1.5]]},
        {"overall": OVERALL, "rules": [["hate", "prompt", "block", math.nan]]},
        {"overall": OVERALL, "rules": [["hate", "prompt", "block", None]]},
        {"overall": OVERALL, "rules": [["hate", "both", "block", 0.5]]},
        {"overall": OVERALL, "rules": [["${print(1)}", "prompt", "block", 0.5]]},
        {"overall": OVERALL, "rules": [["hate", "prompt", ["block"], 0.5]]},
        {"overall": {**OVERALL, "x": ["block", 0.5]}, "rules": []},
        {"overall": OVERALL, "rules": {"hate": 1}},
    ],
)
def test_what_is_no_policy_is_refused_and_the_old_one_stays(
    panels: Panels, services: Services, given: object
) -> None:
    fire(panels.policy, {"mode": "preset", "text": "family"})
    panel = save(panels, given)["panel"]
    assert panel["tone"] == "error"
    assert panel["said"].startswith("The safety policy is not possible.")
    assert "html" not in panel
    assert services.policy(1) == PRESETS["family"]


def test_deep_and_broken_json_is_refused(panels: Panels, services: Services) -> None:
    for text in ("{", "[" * 100_000, "", "\ud800"):
        assert fire(panels.policy, {"mode": "own", "text": text})["panel"]["tone"] == "error"
    assert services.store.setting(1, "policy") is None


def test_only_the_owner_may_change_it_and_the_request_says_who_that_is(
    panels: Panels, services: Services
) -> None:
    html = fire(panels.panel, {"mode": "safety"}, user_id=2)["panel"]["html"]
    assert 'data-panel-act="save"' not in html
    assert html.count(" disabled>") == 4  # the four ready-made ones
    for data in (
        {"mode": "preset", "text": "open", "user_id": 1, "corral_user": 1},
        {"mode": "own", "text": json.dumps({"overall": OVERALL, "rules": []})},
    ):
        panel = fire(panels.policy, data, user_id=2)["panel"]
        assert panel["said"] == "Only the owner of this Corral can change this."
    assert (
        fire(panels.policy, {"mode": "preset", "text": "open"}, user_id=None)["panel"]["tone"]
        == "error"
    )
    assert services.store.setting(1, "policy") is None


def event(**changes: Any) -> SafetyEvent:
    plain = SafetyEvent(
        7, "final", "words", "1", "p", "block", "withheld", 0.6, "hate", 0.5, 0.6, {"hate": 0.6}
    )
    return replace(plain, user_id=1, **changes)


def act(panels: Panels, mode: str, text: str = "", **who: Any) -> dict[str, Any]:
    return fire(panels.policy, {"mode": mode, "text": text}, **who)["panel"]


def test_limits_are_tried_on_what_was_judged(panels: Panels, services: Services) -> None:
    assert "Nothing has been judged yet" in fire(panels.panel, {"mode": "safety"})["panel"]["html"]
    for score in (0.1, 0.3, 0.6):
        services.store.record_safety(event(unsafe=score, scores={"hate": score}, outcome="shown"))
    said = "Of your last 3 messages, {} would have been flagged"
    assert said.format(1) in fire(panels.panel, {"mode": "safety"})["panel"]["html"]
    assert said.format(2) in act(panels, "preset", "family")["html"]


def test_appeals_suggest_a_limit_that_can_be_taken(panels: Panels, services: Services) -> None:
    services.store.record_safety(event(message_id=1))
    services.store.record_safety(event(message_id=1, outcome="appealed"))
    services.store.record_safety(event(message_id=2, score=0.55))
    services.store.record_safety(event(message_id=3, score=0.95))
    html = fire(panels.panel, {"mode": "safety"})["panel"]["html"]
    assert "a limit of 0.61 would have avoided 1 of 1, and let 1 other stopped" in html
    act(panels, "take", '["hate", 0.61]')
    assert services.policy(1).rule("hate", "reply") == Rule("block", 0.61)


def test_the_log_is_filtered_and_exported_without_text(panels: Panels, services: Services) -> None:
    services.store.record_safety(event())
    services.store.record_safety(event(outcome="appealed"))
    assert act(panels, "log", "appealed")["html"].count("<td>called wrong</td>") == 1
    name, text = act(panels, "export")["file"].values()
    assert name.endswith(".jsonl")
    assert [json.loads(line)["outcome"] for line in text.splitlines()] == ["appealed", "withheld"]


def test_guests_have_limits_of_their_own_that_only_the_owner_sets(
    panels: Panels, services: Services
) -> None:
    given = {"overall": {"prompt": ["block", 0.2], "reply": ["warn", 0.2]}, "rules": []}
    act(panels, "guest", json.dumps(given), user_id=2)
    assert services.guarding.guest_policy() == PRESETS["guest"]
    act(panels, "guest", json.dumps(given))
    guest = services.policy(2)
    assert guest.overall["prompt"] == Rule("block", 0.2)
    assert guest.overall["reply"] == Rule("block", 0.2)  # no looser than the owner's


def test_what_would_be_flagged_is_told_by_category(panels: Panels, services: Services) -> None:
    for key, score in (("hate", 0.9), ("hate", 0.8), ("privacy", 0.9), ("hate", 0.1)):
        services.store.record_safety(
            event(unsafe=score, scores={key: score}, category=key, outcome="shown")
        )
    html = fire(panels.panel, {"mode": "safety"})["panel"]["html"]
    assert "Of your last 4 messages, 3 would have been flagged" in html
    assert "Hate: 2 · Privacy: 1" in html


@pytest.mark.parametrize("mode", ["sentence", "whole", "strict"])
def test_how_much_is_judged_before_it_is_shown_is_the_owners_choice(
    panels: Panels, services: Services, mode: str
) -> None:
    assert services.guarding.gate_mode == "strict"
    act(panels, "gate", mode, user_id=2)
    assert services.guarding.gate_mode == "strict"
    assert f'value="{mode}" selected' in act(panels, "gate", mode)["html"]
    assert services.guarding.gate_mode == mode
    job = services.jobs.start(1, Send(None, None, "Hello", "k"))
    assert job.task.gate_mode == mode
    assert act(panels, "gate", "none")["tone"] == "error"
    assert services.guarding.gate_mode == mode


def test_guests_get_a_ready_made_policy_never_looser_than_the_owners(
    panels: Panels, services: Services
) -> None:
    act(panels, "preset", "strict")
    assert 'value="owner" selected' in act(panels, "guest-preset", "owner")["html"]
    assert services.guarding.guest_policy() == PRESETS["owner"]
    strict = PRESETS["strict"]
    guest = services.policy(2)
    assert guest.overall["prompt"].threshold <= strict.overall["prompt"].threshold
    assert act(panels, "guest-preset", "open")["tone"] == "error"
    assert services.guarding.guest_policy() == PRESETS["owner"]


def test_an_own_category_gets_a_row_and_goes_again(panels: Panels) -> None:
    html = act(panels, "category", '["Office gossip", "Talk about colleagues."]')["html"]
    assert html.count('data-category="own_office_gossip"') == 4
    assert "own_office_gossip" not in act(panels, "category-drop", "own_office_gossip")["html"]


def test_held_back_text_is_kept_for_as_long_as_the_owner_says(
    panels: Panels, services: Services
) -> None:
    assert services.guarding.keep_days == 0
    act(panels, "keep", "7")
    assert services.guarding.keep_days == 7
    for wrong in ("-1", "ten", "9999"):
        assert act(panels, "keep", wrong)["tone"] == "error"
    assert services.guarding.keep_days == 7


def test_whom_to_call_in_a_crisis_is_the_owners_to_say(panels: Panels, services: Services) -> None:
    told = "\n Listening line: 0800 <b>1</b>\x07 \r\n\u202eA friend next door\n"
    act(panels, "contacts", told, user_id=2)
    assert services.guarding.contacts == ""
    html = act(panels, "contacts", told)["html"]
    assert services.guarding.contacts == "Listening line: 0800 <b>1</b>\nA friend next door"
    assert "Listening line: 0800 &lt;b&gt;1&lt;/b&gt;\nA friend next door</textarea>" in html
    assert act(panels, "contacts", "x" * 601)["tone"] == "error"
    assert services.guarding.contacts.startswith("Listening line")
    act(panels, "contacts", "")
    assert services.guarding.contacts == ""


def test_a_guard_that_is_none_leaves_the_old_one(panels: Panels, services: Services) -> None:
    said = act(panels, "guard", "/nowhere/at/all")["said"]
    assert "tried on known texts" in said
    assert services.guarding.chosen in ("/nowhere/at/all", "built-in")


def test_the_right_to_see_what_was_stopped_can_be_given_up(
    panels: Panels, services: Services
) -> None:
    assert services.policy(1).may_override
    save(panels, {"overall": OVERALL, "rules": [], "may_override": False})
    assert not services.policy(1).may_override
    save(panels, {"overall": OVERALL, "rules": [], "may_override": True})
    assert services.policy(1).may_override
