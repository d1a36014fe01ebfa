import math

import pytest

from safety.base import PolicyInvalid, Verdict
from safety.categories import CATEGORIES, HAZARDS, TAXONOMIES
from safety.policy import DEFAULT_POLICY, PRESETS, Policy, Rule


def policy(threshold: float = 0.5, **rules: Rule) -> Policy:
    both = {side: Rule("block", threshold) for side in ("prompt", "reply")}
    return Policy("test", both, {(c, "prompt"): rule for c, rule in rules.items()})


@pytest.mark.parametrize(
    ("score", "scores", "action", "category"),
    [
        (0.1, {}, "allow", ""),
        (0.49, {"hate": 0.49}, "allow", ""),
        (0.5, {}, "block", ""),
        (0.9, {"violent_crimes": 0.9}, "block", "violent_crimes"),
        (0.9, {"specialized_advice": 0.9}, "allow", ""),  # S6 is off
        (0.9, {"elections": 0.85}, "log", "elections"),
        (0.6, {"hate": 0.3, "violent_crimes": 0.3}, "block", "hate"),  # together they explain it
        (0.6, {"hate": 0.1, "elections": 0.5}, "log", "elections"),
        (0.3, {"child_exploitation": 0.3}, "block", "child_exploitation"),  # has a low limit
        (
            0.9,
            {"specialized_advice": 0.9, "non_violent_crimes": 0.8},
            "block",
            "non_violent_crimes",
        ),
        (0.0, {"insecure_code": 1.0}, "warn", "insecure_code"),
    ],
)
def test_default_policy(score, scores, action, category):
    decision = DEFAULT_POLICY.decide(Verdict(score, scores), "prompt")
    assert (decision.action, decision.category) == (action, category)
    assert decision.policy_version == DEFAULT_POLICY.version


@pytest.mark.parametrize(
    "verdict",
    [
        Verdict.failure("no memory", guard="g"),
        Verdict(math.nan),
        Verdict(0.1, {"hate": math.nan}),
        Verdict(-0.1),
        Verdict(1.1),
        Verdict(math.inf),
        Verdict("0.1"),  # type: ignore[arg-type]
    ],
)
@pytest.mark.parametrize("preset", PRESETS.values())
def test_what_cannot_be_read_is_blocked_and_says_why(verdict, preset):
    decision = preset.decide(verdict, "reply")
    assert decision.blocks
    assert decision.failed


def test_a_category_threshold_of_its_own():
    strict = policy(hate=Rule("warn", 0.2))
    assert strict.decide(Verdict(0.3, {"hate": 0.25}), "prompt").action == "warn"
    assert strict.decide(Verdict(0.3, {"hate": 0.19}), "prompt").action == "allow"
    assert strict.decide(Verdict(0.3, {"hate": 0.25}), "reply").action == "allow"


def test_the_strongest_action_wins():
    mixed = policy(hate=Rule("log", 0.1), privacy=Rule("warn", 0.1))
    decision = mixed.decide(Verdict(0.4, {"hate": 0.4, "privacy": 0.2}), "prompt")
    assert (decision.action, decision.category) == ("warn", "privacy")


def test_version_depends_on_rules_and_not_on_the_name():
    one, other = policy(hate=Rule("warn", 0.2)), policy(hate=Rule("warn", 0.3))
    assert one.version != other.version
    assert one.version == Policy("renamed", one.overall, one.rules).version
    assert len({preset.version for preset in PRESETS.values()}) == len(PRESETS)


@pytest.mark.parametrize("preset", PRESETS.values())
def test_json_round_trip(preset):
    again = Policy.from_json(preset.to_json())
    assert (again.name, again.version) == (preset.name, preset.version)


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"name": "x", "overall": {}, "rules": []},
        {"name": "x", "overall": {"prompt": ["block", 2], "reply": ["block", 0.5]}, "rules": []},
        {
            "name": "x",
            "overall": {"prompt": ["block", 0.5], "reply": ["block", 0.5]},
            "rules": [["no_such", "prompt", "block", 0.5]],
        },
        {"name": "x", "overall": {"prompt": ["shout", 0.5], "reply": ["block", 0.5]}, "rules": []},
    ],
)
def test_bad_saved_policies_are_refused(value):
    with pytest.raises(PolicyInvalid):
        Policy.from_json(value)


def test_a_threshold_that_is_no_number_is_refused():
    with pytest.raises(PolicyInvalid):
        Rule("block", math.nan)


def test_a_guest_is_never_looser_than_the_owner():
    owner, guest = PRESETS["owner"], PRESETS["open"]
    limited = guest.loosest_with(owner)
    for score in (0.0, 0.2, 0.5, 0.7, 0.95):
        for key in CATEGORIES:
            verdict = Verdict(score, {key: score})
            order = ["allow", "log", "warn", "block"]
            allowed = order.index(limited.decide(verdict, "prompt").action)
            assert allowed >= order.index(owner.decide(verdict, "prompt").action), (key, score)


def test_taxonomies_name_known_categories():
    assert len(HAZARDS) == 14
    assert [CATEGORIES[key].code for key in HAZARDS] == [f"S{n}" for n in range(1, 15)]
    assert all(set(table.values()) <= set(CATEGORIES) for table in TAXONOMIES.values())
    assert TAXONOMIES["llama-guard-2"]["S5"] == "specialized_advice"
    assert TAXONOMIES["llama-guard-3"]["S5"] == "defamation"


def test_a_limit_raised_for_one_category_is_the_limit_of_that_category():
    raised = policy(0.5, violent_crimes=Rule("block", 0.9))
    for score, blocked in ((0.7, False), (0.89, False), (0.9, True)):
        verdict = Verdict(score, {"violent_crimes": score})
        assert raised.decide(verdict, "prompt").blocks is blocked
    # another category still explains P(unsafe), at the overall limit
    assert raised.decide(Verdict(0.9, {"violent_crimes": 0.3, "hate": 0.6}), "prompt").blocks
    # and the side without the rule keeps the overall limit
    assert raised.decide(Verdict(0.7, {"violent_crimes": 0.7}), "reply").blocks


def test_no_policy_lets_the_fixed_rule_for_minors_through():
    off = {side: Rule("off", 0.5) for side in ("prompt", "reply")}
    loosest = Policy("none", off, {("child_exploitation", side): Rule("off") for side in off})
    found = Verdict(1.0, {"child_exploitation": 1.0})
    for policy in (loosest, loosest.overridden(), *(p.overridden() for p in PRESETS.values())):
        for side in ("prompt", "reply"):
            decision = policy.decide(found, side)
            assert (decision.action, decision.category) == ("block", "child_exploitation")


@pytest.mark.parametrize("name", PRESETS)
def test_asked_to_show_it_a_policy_warns_where_it_would_block(name):
    policy, found = PRESETS[name], Verdict(0.99, {"violent_crimes": 0.99})
    assert policy.decide(found, "reply").action == "block"
    assert policy.overridden().decide(found, "reply").action == "warn"
    assert policy.overridden().decide(Verdict.failure("x", guard="g"), "reply").action == "block"


def test_only_the_owners_policies_may_be_overridden_and_the_right_survives_saving():
    assert {n for n, p in PRESETS.items() if p.may_override} == {"owner", "open"}
    for policy in PRESETS.values():
        assert Policy.from_json(policy.to_json()).may_override == policy.may_override
    assert not PRESETS["owner"].loosest_with(PRESETS["strict"]).may_override


def test_an_owners_own_category_is_held_against_its_own_rule():
    rules = {("own_gossip", "prompt"): Rule("warn", 0.3)}
    policy = Policy("mine", PRESETS["owner"].overall, rules)
    assert policy.decide(Verdict(0.1, {"own_gossip": 0.4}), "prompt").action == "warn"
    with pytest.raises(PolicyInvalid):
        Policy("mine", PRESETS["owner"].overall, {("gossip", "prompt"): Rule()})
