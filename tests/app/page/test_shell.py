"""The frame of the page says what befell the data, until the next start."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.page.shell import Shell
from app.page.templates import Templates
from app.parts import PartView
from app.services import Readiness, Services
from app.strings import LANGUAGES, Strings
from engine.base import EngineInfo
from storage.health import Repair
from storage.salvage import Kept

REPAIR = Repair(Path("corral-damaged.db"), "<b>", Kept(1, 3, 0, 0), None)


def foot(
    *,
    repair: object = None,
    full: bool = False,
    away: bool = False,
    leaves_to: str = "",
    language: str = "en",
) -> str:
    ready = Readiness(PartView("engine", "ready"), PartView("guard", "ready"))
    services = SimpleNamespace(
        readiness=lambda: ready,
        engine_info=lambda: EngineInfo("m", "f", "none", 0, 9, "CPU", "fp32", leaves_to=leaves_to),
        store=SimpleNamespace(repair=repair, full=full),
        running=SimpleNamespace(changed_files=[]),
    )
    shell = Shell(cast(Services, services), Templates(Strings.load(language)))
    (item,) = cast(list[Any], shell.foot(away=away)["items"])
    return str(item[1])


def test_a_sound_store_is_not_mentioned() -> None:
    assert "damaged" not in foot()
    assert "disk" not in foot()


def test_what_was_saved_of_a_damaged_database_is_told_as_text() -> None:
    html = foot(repair=REPAIR)
    assert "(&lt;b&gt;). Saved into a new one: messages 3, conversations 1." in html
    assert "kept as corral-damaged.db." in html
    assert "1 个对话中的 3 条消息" in foot(repair=REPAIR, language="zh-Hans")


@pytest.mark.parametrize("full", [True, False])
def test_a_full_disk_is_told(full: bool) -> None:
    assert ("Make room" in foot(full=full)) is full


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_reader_is_told_where_words_go(language: str) -> None:
    say = Strings.load(language).say
    here, away = foot(language=language), foot(language=language, away=True)
    assert say("page.foot.offline") in here and say("page.foot.away") not in here
    assert say("page.foot.away") in away and say("page.foot.offline") not in away
    sent = foot(language=language, leaves_to="gpu.example")
    assert say("page.foot.remote", place="gpu.example") in sent
    both = foot(language=language, away=True, leaves_to="gpu.example")
    assert say("page.foot.away") in both
    assert say("page.foot.onward", place="gpu.example") in both


def test_who_is_away_is_told_nothing_of_the_files_here() -> None:
    assert "saved" not in foot(repair=REPAIR, full=True, away=True)
