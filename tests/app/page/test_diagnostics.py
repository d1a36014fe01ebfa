"""Diagnostics on the page: the owner's, at the machine, as `launcher.py check` has them."""

from __future__ import annotations

import html
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.page import diagnostics
from app.services import Services
from storage.records import OWNER_ID
from tests.app.house import make_services
from tests.app.panel_events import fire, make_panels
from tests.storage.make import add_user, turn

ASKED = {"mode": diagnostics.KIND}


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    services = make_services(tmp_path)
    yield services
    services.close()


def test_the_owner_gets_the_facts_and_no_message(services: Services) -> None:
    store = services.store
    turn(store, store.create_conversation(OWNER_ID, title="zanzibar").key, "zanzibar", "zanzibar")
    panel = fire(make_panels(services).panel, ASKED)["panel"]
    told = html.unescape(panel["html"])
    assert panel["kind"] == diagnostics.KIND
    for fact in ("facts for a bug report", "database", "settings", "Copy diagnostics"):
        assert fact in told
    assert "zanzibar" not in told


def test_nobody_else_gets_them(services: Services) -> None:
    guest = add_user(services.store, "guest")
    panels = make_panels(services)
    for user_id, away in ((guest, False), (OWNER_ID, True)):
        panel = fire(panels.panel, ASKED, user_id, away=away)["panel"]
        assert "html" not in panel and panel["said"]


def test_where_they_cannot_be_had_the_command_is_named(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    panel = fire(make_panels(services).panel, ASKED)["panel"]
    assert "launcher.py check" in panel["said"] and panel["tone"] == "error"
