"""The self-test on the page: texts of a folder, a second policy or guard, and what comes out."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from app.page.panels import Panels
from app.probing import Probing, ProbingView
from app.services import Services
from safety.base import GuardMissing, Verdict
from safety.policy import PRESETS
from safety.probes import ProbesInvalid
from tests.app.fakes import WordGuard
from tests.app.panel_events import fire

ROWS = [
    {"text": "a forbidden thing", "unsafe": True, "kind": "harm"},
    {"text": "something else", "unsafe": True, "kind": "harm"},
    {"text": "hello", "unsafe": False, "kind": "talk"},
]


@pytest.fixture
def place(tmp_path: Path) -> str:
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (tmp_path / "set.jsonl").write_text(lines, encoding="utf-8")
    return str(tmp_path / "set.jsonl")


def ended(probing: Probing) -> ProbingView:
    for thread in threading.enumerate():
        if thread.name == "probing":
            thread.join(30)
    return probing.view()


def no_other(chosen: str) -> Any:
    raise GuardMissing(f"There is no guard in {chosen}.")


def test_two_policies_decide_the_same_judgements(place: str) -> None:
    guard = WordGuard()
    probing = Probing(no_other, Event())
    assert probing.start(guard, PRESETS["owner"], place=place, beside="open")
    view = ended(probing)
    assert (view.state, view.num_done, view.num_total) == ("done", 3, 3)
    assert [run.policy for run in view.runs] == ["owner", "open"]
    assert [[one.blocked for one in run.judged] for run in view.runs][0] == [True, False, False]


def test_two_guards_judge_the_same_texts(place: str) -> None:
    probing = Probing(lambda chosen: WordGuard(words=(chosen,)), Event())
    probing.start(WordGuard(), PRESETS["owner"], place=place, beside="else")
    view = ended(probing)
    assert (view.num_done, view.num_total) == (6, 6)
    blocked = [[one.blocked for one in run.judged] for run in view.runs]
    assert blocked == [[True, False, False], [False, True, False]]


def test_what_cannot_be_read_or_loaded_is_told(tmp_path: Path, place: str) -> None:
    probing = Probing(no_other, Event())
    probing.start(WordGuard(), PRESETS["owner"], place=str(tmp_path / "nothing"))
    assert isinstance(ended(probing).error, ProbesInvalid)
    probing.start(WordGuard(), PRESETS["owner"], place=place, beside="/no/guard")
    view = ended(probing)
    assert (view.state, type(view.error)) == ("failed", GuardMissing)


def test_one_runs_at_a_time_and_stops_when_asked(place: str) -> None:
    release, asked = Event(), Event()

    class Slow(WordGuard):
        def judge(self, prompt: str, reply: str | None = None) -> Verdict:
            asked.set()
            release.wait(30)
            return super().judge(prompt, reply)

    probing = Probing(no_other, Event())
    assert probing.start(Slow(), PRESETS["owner"], place=place)
    assert asked.wait(30)
    assert not probing.start(WordGuard(), PRESETS["owner"], place=place)
    probing.stop()
    release.set()
    view = ended(probing)
    assert (view.state, len(view.runs[0].judged)) == ("done", 1)


def act(panels: Panels, mode: str, text: str = "", **who: Any) -> dict[str, Any]:
    return fire(panels.policy, {"mode": mode, "text": text}, **who)["panel"]


@pytest.mark.usefixtures("ready_guard")
def test_the_dialog_starts_it_follows_it_and_gives_the_report(
    panels: Panels, services: Services, place: str
) -> None:
    said = act(panels, "test", json.dumps([place, "strict", ""]))["said"]
    assert said == "The self-test has begun."
    ended(services.probing)
    panel = fire(panels.panel, {"mode": "safety", "text": "test"})["panel"]
    assert panel["into"] == "self-test-state"
    assert "poll" not in panel
    assert panel["html"].count("<polyline") == 4
    assert "words · balanced" in panel["html"]
    assert "words · strict" in panel["html"]
    assert "50.0 %" in panel["html"]
    name, text = act(panels, "test-json")["file"].values()
    assert name.endswith(".json")
    assert [run["policy"] for run in json.loads(text)["runs"]] == ["owner", "strict"]
    name, text = act(panels, "test-html")["file"].values()
    assert name.endswith(".html")
    assert "<!doctype html>" in text


@pytest.mark.usefixtures("ready_guard")
def test_a_folder_without_texts_is_explained_in_the_dialog(
    panels: Panels, services: Services, tmp_path: Path
) -> None:
    act(panels, "test", json.dumps([str(tmp_path / "nowhere"), "", ""]))
    ended(services.probing)
    html = fire(panels.panel, {"mode": "safety"})["panel"]["html"]
    assert "could not go on" in html
    assert "does not exist" in html
    assert act(panels, "test", "nonsense")["tone"] == "error"


@pytest.mark.usefixtures("ready_guard")
def test_only_the_owner_sees_and_starts_it(panels: Panels, services: Services, place: str) -> None:
    act(panels, "test", json.dumps([place, "", ""]), user_id=2)
    assert services.probing.view().state == "idle"
    panel = fire(panels.panel, {"mode": "safety", "text": "test"}, user_id=2)["panel"]
    assert "html" not in panel
