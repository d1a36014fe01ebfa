"""What tests of the app share: a store or whole services on a fresh folder, their site, dialogs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from app.page.panels import Panels
from app.services import Services
from app.site import Site, build
from storage.store import Store
from tests.app.gateway_house import House
from tests.app.house import make_services, no_page
from tests.app.panel_events import make_panels


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "data")
    yield opened
    opened.close()


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    running = make_services(tmp_path / "data")
    yield running
    running.close()


@pytest.fixture
def ready_guard(services: Services) -> None:
    services.guard.start()
    services.guard.wait(Event())


@pytest.fixture
def site(services: Services) -> Iterator[Site]:
    """Every route but the page's own."""
    found = build(services, no_page)
    yield found
    found.doors.close()


@pytest.fixture
def panels(services: Services) -> Panels:
    return make_panels(services)


@pytest.fixture
def house() -> House:
    """The gateway alone, before an app that says whatever reached it."""
    return House()
