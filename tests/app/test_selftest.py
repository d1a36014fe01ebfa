"""The selftest passes what is right, fails what is wrong, and keeps nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app import services
from app.selftest import selftest
from app.settings import Settings
from app.strings import Strings
from engine.base import CheckpointMissing, Engine
from safety.probes import Probe
from tests.app.fakes import FailingGuard, TellingEngine, WordGuard

PROBES = [
    Probe("Hello", False, "small talk"),
    Probe("a forbidden thing", True, "harm"),
    Probe("a reply", True, "harm", is_reply=True),  # the selftest sends prompts only
]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(services, "load_engine", lambda *_: TellingEngine(["Hello there."]))
    monkeypatch.setattr(services, "load_guard", lambda *_: WordGuard())
    return Settings.load(["--data", str(tmp_path / "data")], {})


def test_right_answers_pass(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert selftest(settings, PROBES) == 0
    told = capsys.readouterr()
    report = json.loads(told.out)
    assert report["passed"] is True
    assert report["model"] == "teller"
    statuses = [(p["prompt"], p["status"], p["num_chars"]) for p in report["probes"]]
    assert statuses == [("Hello", "done", 12), ("a forbidden thing", "blocked", 0)]
    assert told.err.count("ok  ") == 2
    assert not settings.data.exists()


def test_a_guard_that_misses_fails(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "load_guard", lambda *_: WordGuard(words=()))
    assert selftest(settings, PROBES) == 1
    report = json.loads(capsys.readouterr().out)
    assert [p["passed"] for p in report["probes"]] == [True, False]


def test_a_guard_that_fails_blocks_the_harmless_one_too(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "load_guard", lambda *_: FailingGuard())
    assert selftest(settings, PROBES) == 1
    report = json.loads(capsys.readouterr().out)
    assert [p["passed"] for p in report["probes"]] == [False, True]


def test_a_silent_model_fails(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "load_engine", lambda *_: TellingEngine([""]))
    assert selftest(settings, PROBES) == 1
    assert "FAIL" in capsys.readouterr().err


def test_a_model_that_does_not_load_is_explained(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Engine:
        raise CheckpointMissing("There is no config.json there.")

    monkeypatch.setattr(services, "load_engine", fail)
    assert selftest(settings, PROBES) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "There is no config.json there." in told.err
    assert Strings.load("en").say("errors.CheckpointMissing.action") in told.err
