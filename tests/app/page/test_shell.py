"""The frame of the page says what befell the data, until the next start."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.page.shell import Shell
from app.page.templates import Templates
from app.parts import PartView
from app.services import Readiness, Services
from app.strings import Strings

REPORT = "The database was damaged <b>. 3 messages were saved."


def foot(*, repair: object = None, full: bool = False) -> str:
    ready = Readiness(PartView("engine", "ready"), PartView("guard", "ready"))
    services = SimpleNamespace(
        readiness=lambda: ready,
        engine_info=lambda: None,
        store=SimpleNamespace(repair=repair, full=full),
        running=SimpleNamespace(changed_files=[]),
    )
    shell = Shell(cast(Services, services), Templates(Strings.load("en")))
    (item,) = cast(list[Any], shell.foot()["items"])
    return str(item[1])


def test_a_sound_store_is_not_mentioned() -> None:
    assert "damaged" not in foot()
    assert "disk" not in foot()


def test_what_was_saved_of_a_damaged_database_is_told_as_text() -> None:
    html = foot(repair=SimpleNamespace(report=lambda: REPORT))
    assert "3 messages were saved." in html
    assert "<b>." not in html


@pytest.mark.parametrize("full", [True, False])
def test_a_full_disk_is_told(full: bool) -> None:
    assert ("Make room" in foot(full=full)) is full
