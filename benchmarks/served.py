"""Corral served inside this process, and a real browser before it: what the benchmarks measure.

Server and benchmark share one process and one clock, so that the engine's, the gate's and the
browser's times can be compared. The browser is a process of its own, as it is for people.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from launch.browsers import find_browser

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from app.services import Services
    from app.site import Site


def free_port() -> int:
    """A port on the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(*options: str) -> Iterator[tuple[Services, Site]]:
    """Start a server with an empty data folder; engine and guard are ready when this yields."""
    from app.__main__ import close_environment

    folder = Path(tempfile.mkdtemp(prefix="corral-benchmark-"))
    close_environment(folder)
    import uvicorn

    from app.services import Services
    from app.settings import Settings
    from app.site import build
    from app.wire import http_config

    line = ["--data", str(folder), "--port", str(free_port()), "--no-browser", *options]
    services = Services(Settings.load(line, {}))
    services.start()
    site = build(services)
    server = uvicorn.Server(http_config(site.app, port=services.settings.port))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        services.load()
        services.guard.wait(services.closing)
        services.engine.wait(services.closing)
        yield services, site
    finally:
        services.close()
        server.should_exit = True
        thread.join(timeout=10)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def page_at(url: str) -> Iterator[Page]:
    """A page of an installed browser at `url`. Raises `SystemExit` where there is none."""
    from playwright.sync_api import sync_playwright

    path = find_browser()
    if path is None:
        raise SystemExit("This benchmark needs an installed Chrome, Chromium or Edge.")
    with sync_playwright() as playwright:
        flags = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        page = browser.new_page()
        page.goto(url)
        page.wait_for_selector("#ask")
        yield page
        browser.close()


def tell(model: str, found: Mapping[str, object], *, as_json: bool) -> None:
    """Print what was found with `model` here and today: a line for each part, or JSON."""
    about = {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()} {platform.system()}",
        "model": model,
    }
    if as_json:
        print(json.dumps({**about, **found}, indent=2))
        return
    for name, value in {**about, **found}.items():
        print(f"{name:10} {value}")
