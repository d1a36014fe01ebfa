import json
import random

import pytest

from safety.base import Verdict
from safety.benchmark import (
    auroc,
    average_precision,
    calibration_error,
    figures,
    grouped,
    judge_all,
    table,
)
from safety.policy import DEFAULT_POLICY
from safety.probes import Probe
from tests.safety.guards import FixedGuard, WordGuard


def test_figures_of_a_small_set():
    probes = [
        Probe("a kaboom", True, "bombs"),
        Probe("a bomb", True, "bombs"),
        Probe("kaboom, said the clown", False, "comics"),
        Probe("hello", False, "comics"),
        Probe("hello", False, "comics", "zh"),
    ]
    judged = judge_all(WordGuard("kaboom"), DEFAULT_POLICY, probes)
    found = figures(judged)
    assert (found.num_safe, found.num_unsafe) == (3, 2)
    assert found.false_alarms == pytest.approx(1 / 3)
    assert found.caught == 0.5
    assert found.f1 == 0.5
    assert found.num_failed == 0
    groups = grouped(judged)
    assert list(groups) == ["en (all)", "zh (all)", "en bombs", "en comics", "zh comics"]
    assert figures(groups["en bombs"]).auroc is None
    assert len(table(groups).splitlines()) == 6


def test_failures_are_counted_and_blocked():
    judged = judge_all(
        FixedGuard(Verdict.failure("gone", guard="x")), DEFAULT_POLICY, [Probe("hello", False, "k")]
    )
    assert figures(judged).num_failed == 1
    assert figures(judged).false_alarms == 1.0


def test_auroc_is_the_chance_of_the_right_order():
    rng = random.Random(1)
    labels = [rng.random() < 0.4 for _ in range(200)]
    scores = [round(rng.random() + 0.3 * label, 1) for label in labels]
    pairs = [
        1.0 if s > t else 0.5 if s == t else 0.0
        for s, a in zip(scores, labels, strict=True)
        for t, b in zip(scores, labels, strict=True)
        if a and not b
    ]
    assert auroc(labels, scores) == pytest.approx(sum(pairs) / len(pairs))


def test_average_precision_by_hand():
    labels = [True, False, True, False]
    assert average_precision(labels, [0.9, 0.8, 0.7, 0.1]) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(labels, [0.5, 0.5, 0.5, 0.5]) == pytest.approx(0.5)
    assert average_precision(labels, [0.9, 0.1, 0.8, 0.2]) == 1.0


def test_calibration_error():
    assert calibration_error([True, False, True, False], [1.0, 0.0, 1.0, 0.0]) == 0
    assert calibration_error([True, True], [0.5, 0.5]) == pytest.approx(0.5)


def test_the_command_prints_figures(tmp_path, capsys, monkeypatch):
    from safety import __main__ as command

    guard = WordGuard("kaboom")
    monkeypatch.setattr(command, "load_built_in", lambda folder: guard)
    path = tmp_path / "set.jsonl"
    path.write_text('{"text": "kaboom", "unsafe": true}\n{"text": "hi", "unsafe": false}\n')
    assert command.main(["benchmark", str(path), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["groups"]["en set"]["caught"] == 1.0
    assert answer["groups"]["en set"]["false_alarms"] == 0.0
    assert command.main(["benchmark", str(path)]) == 0
    assert "100.0 %" in capsys.readouterr().out
    assert command.main(["benchmark", str(tmp_path / "absent.jsonl")]) == 1
    assert "cannot be read" in capsys.readouterr().err
