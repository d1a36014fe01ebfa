"""What a page that follows an answer costs the engine: `python -m benchmarks.attached [--json]`.

The same long answer is written with nobody watching, read by a process that takes the page's
stream and paints nothing, and shown by a real browser on the same machine. The first ratio is what
the server does for a page, the second one holds the browser's painting too. The model has a public
shape and says a line again and again (`benchmarks/talker.py`). Medians of rates, by turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from benchmarks.by_turns import rates_by_turns, tell_rates
from benchmarks.crowd import Browser, Person, Scene, events_of, signed_in
from benchmarks.first_token import rate, start
from benchmarks.served import free_port, served
from benchmarks.talker import make_talker
from launch.browsers import find_browser
from storage.records import OWNER_ID

if TYPE_CHECKING:
    from app.services import Services
    from app.site import Site

WAYS = ("alone", "read", "shown")
PROMPT = "Go on."
LEAVE_SECONDS = 3.0  # until the click, for whoever arranged it to be gone
# A prompt in a new conversation, by the page's own composer.
ASK = f"""() => setTimeout(() => {{
  document.querySelector('[data-act=new]').click();
  document.getElementById('ask').value = '{PROMPT}';
  document.getElementById('send').click();
}}, {1000 * LEAVE_SECONDS})"""
SETTLE_SECONDS = 1.0  # between two answers, for all to come to rest


class Window:
    """A browser that nobody instruments while it shows an answer."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self) -> None:
        """Let the page send a prompt in a moment; nobody is connected to it then."""
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            browser = playwright.chromium.connect_over_cdp(f"http://127.0.0.1:{self._port}")
            page = browser.contexts[0].pages[0]
            page.wait_for_selector("#send:visible")
            page.evaluate(ASK)
            browser.close()


@contextmanager
def window_at(url: str) -> Iterator[Window]:
    """An installed browser at `url`. Raises `SystemExit` where there is none."""
    path = find_browser()
    if path is None:
        raise SystemExit("This benchmark needs an installed Chrome, Chromium or Edge.")
    port = free_port()
    flags = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(
        prefix="corral-window-", ignore_cleanup_errors=True
    ) as profile:
        command = [path, "--headless=new", f"--user-data-dir={profile}", "--no-first-run", *flags]
        command += [f"--remote-debugging-port={port}", "--window-size=1280,860", url]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until(lambda: bool(_pages(port)))
            yield Window(port)
        finally:
            running.terminate()
            running.wait()


def _pages(port: int) -> list[object]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=5) as answer:
            return list(json.load(answer))
    except OSError:
        return []


def until(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not there():
        if time.monotonic() > deadline:
            raise SystemExit("The browser or the page did not do what was asked.")
        time.sleep(0.02)


class Reader:
    """A process that asks and takes the page's stream, as a browser does, but paints nothing."""

    def __init__(self, services: Services, site: Site) -> None:
        self._url = f"http://127.0.0.1:{services.settings.port}"
        self._cookie = signed_in(services, site, OWNER_ID)

    def ask(self, key: str) -> None:
        """Ask in a conversation, and read to the end of the answer."""
        person = Person(self._cookie, f"{key}-{time.time_ns()}", key)
        scene = Scene(self._url, [person], events_of(self._url, person), storm=False)
        command = [sys.executable, "-m", "benchmarks.attached", "--reader"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as process:
            process.communicate(json.dumps(asdict(scene)))


class Answers:
    """One answer at a time, in front of somebody or nobody → tokens per second."""

    def __init__(self, services: Services, site: Site, window: Window) -> None:
        self._services = services
        self._window = window
        self._reader = Reader(services, site)

    def rate(self, way: str) -> float:
        """One answer in one of `WAYS`, after a rest."""
        time.sleep(SETTLE_SECONDS)
        return {"alone": self.alone, "read": self.read, "shown": self.shown}[way]()

    def alone(self) -> float:
        """With nobody watching."""
        return rate(self._services, start(self._services, PROMPT))

    def read(self) -> float:
        """While a process takes the page's stream."""
        key = self._services.store.create_conversation(OWNER_ID).key
        return self._asked(lambda: self._reader.ask(key))

    def shown(self) -> float:
        """While a browser shows it."""
        return self._asked(self._window.ask)

    def _asked(self, ask: Callable[[], object]) -> float:
        """The rate of the answer that `ask` brings about, on a thread of its own."""
        jobs = self._services.jobs
        asking = Thread(target=ask)
        asking.start()
        until(lambda: bool(jobs.running_keys(OWNER_ID)))
        (key,) = jobs.running_keys(OWNER_ID)
        job = jobs.running(OWNER_ID, key)
        assert job is not None
        found = rate(self._services, job)
        asking.join()
        return found


async def follow(scene: Scene) -> None:
    """Ask and follow, as the page does."""
    browser = Browser(scene, scene.people[0])
    key = browser.person.session
    await browser.fire("send", number=1, key=browser.person.key, text=PROMPT, client_key=key)
    await browser.fire("follow", number=2, key=browser.person.key)


def measure(shape_name: str, num_new: int, runs: int) -> dict[str, list[float]]:
    """Tokens per second of the three ways, in each round."""
    with tempfile.TemporaryDirectory(prefix="corral-talker-") as folder:
        model = make_talker(shape_name, Path(folder) / "model")
        with served("--model", str(model), "--precision", "int8") as (services, site):
            services.store.set_setting(
                OWNER_ID, "sampling", json.dumps({"max_new_tokens": num_new})
            )
            with window_at(site.entrance.url()) as window:
                answers = Answers(services, site, window)
                return rates_by_turns(answers.rate, WAYS, runs)


def main() -> None:
    """Measure and print a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", default="smollm2-135m")
    parser.add_argument("--new", type=int, default=384, help="tokens of each answer")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--reader", action="store_true", help="play the scene on standard input")
    chosen = parser.parse_args()
    if chosen.reader:
        asyncio.run(follow(Scene.read(sys.stdin)))
        return
    tell_rates(measure(chosen.shape, chosen.new, chosen.runs), as_json=chosen.json)


if __name__ == "__main__":
    main()
