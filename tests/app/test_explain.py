"""Nothing that can happen lacks a sentence with a next step."""

from __future__ import annotations

from typing import get_args

import pytest

from app.context import ConversationFull
from app.explain import (
    explain,
    explain_status,
    explain_verdict,
)
from app.lan import CertificateUnusable, LanAbsent
from app.models import ModelUnloaded
from app.parts import PartCancelled
from app.requests import JobRefused, Refusal
from app.setting import SettingsInvalid
from app.share import ShareError
from app.strings import Strings
from engine.errors import CheckpointMissing, ContextFull, EngineError
from safety.base import GuardError
from safety.categories import CATEGORIES
from storage.records import Action, Status, StorageError, VerdictRecord

STRINGS = Strings.load("en")


def family(base: type[BaseException]) -> list[type[BaseException]]:
    """A class and everything below it that Corral itself defines."""
    below = [c for child in base.__subclasses__() for c in family(child)]
    return [c for c in (base, *below) if not c.__module__.startswith("tests.")]


CLASSES = sorted(
    {
        *family(EngineError),
        *family(GuardError),
        *family(StorageError),
        *family(ShareError),
        CertificateUnusable,
        LanAbsent,
        ConversationFull,
        ModelUnloaded,
        PartCancelled,
        SettingsInvalid,
    },
    key=lambda c: c.__name__,
)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda c: c.__name__)
def test_every_error_class_has_its_own_sentence(kind: type[BaseException]) -> None:
    assert f"errors.{kind.__name__}.title" in STRINGS
    explained = explain(kind.__name__, STRINGS)
    assert explained != explain("unexpected", STRINGS)
    assert explained.title and explained.text and explained.action
    assert explained.text.endswith(".") and explained.action.endswith(".")
    assert kind.__name__ not in explained.title + explained.text + explained.action


@pytest.mark.parametrize("code", get_args(Refusal))
def test_every_refusal_has_a_sentence(code: Refusal) -> None:
    explained = explain(JobRefused(code), STRINGS)
    assert explained != explain("unexpected", STRINGS)
    assert explained.action


@pytest.mark.parametrize("status", get_args(Status))
def test_every_status_has_a_sentence(status: str) -> None:
    explained = explain_status(status, STRINGS)  # type: ignore[arg-type]
    assert explained != explain("unexpected", STRINGS)
    assert explained.title and explained.text


@pytest.mark.parametrize("category", [*CATEGORIES, "", "a_category_of_tomorrow"])
@pytest.mark.parametrize("stage", ["prompt", "partial", "final"])
@pytest.mark.parametrize("action", get_args(Action))
def test_every_verdict_has_a_sentence(category: str, stage: str, action: str) -> None:
    verdict = VerdictRecord(stage, "g", "1", action, 0.912, category, 0.5)  # type: ignore[arg-type]
    explained = explain_verdict(verdict, STRINGS)
    assert explained.title and explained.text
    assert "{" not in explained.title + explained.text + explained.action
    if action in ("block", "warn", "log"):
        assert "0.91" in explained.text and "0.50" in explained.text
        assert explained.action
    if category in CATEGORIES and action == "block":
        assert STRINGS.say(f"guard.category.{category}.found") in explained.text


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_category_has_its_words(category: str) -> None:
    for part in ("name", "text", "found"):
        assert STRINGS.say(f"guard.category.{category}.{part}")


def test_a_guard_that_failed_says_so() -> None:
    verdict = VerdictRecord("prompt", "g", "1", "block", 1.0, "", 0.5, reason="it crashed")
    assert explain_verdict(verdict, STRINGS).text == STRINGS.say("guard.failed_prompt.text")
    assert "it crashed" not in explain_verdict(verdict, STRINGS).text


def test_our_own_errors_bring_their_detail_and_others_do_not() -> None:
    assert explain(ContextFull(9, 8), STRINGS).detail == str(ContextFull(9, 8))
    assert explain(CheckpointMissing("no a.json"), STRINGS).detail == "no a.json"
    foreign = explain(RuntimeError("what the user wrote"), STRINGS)
    assert foreign.detail == ""
    assert foreign.title == STRINGS.say("errors.unexpected.title")


def test_a_new_class_falls_back_to_its_base() -> None:
    class Sudden(CheckpointMissing):
        pass

    Sudden.__module__ = "tests.somewhere"
    assert explain(Sudden("x"), STRINGS).title == STRINGS.say("errors.CheckpointMissing.title")


def test_self_harm_offers_help() -> None:
    verdict = VerdictRecord("prompt", "g", "1", "block", 0.9, "self_harm", 0.5)
    assert STRINGS.say("guard.self_harm_help") == explain_verdict(verdict, STRINGS).help
    assert explain_verdict(verdict, STRINGS, "Call 1").help.endswith("\nCall 1")


def test_no_sentence_is_an_orphan() -> None:
    """A sentence that nothing can reach is a leftover."""
    known = {c.__name__ for c in CLASSES} | {"unexpected"}
    known |= {f"refused.{c}" for c in get_args(Refusal)} | {f"status.{s}" for s in get_args(Status)}
    for key in Strings.load("en").section("errors."):
        assert key.rpartition(".")[0] in known, key
