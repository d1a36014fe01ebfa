"""How long until one can ask, and what it costs to stand by: `python -m benchmarks.start`.

- `page`: from the command to a page in a real browser whose text box can be typed in
- `engine`, `guard`: from the command until that page shows the model, and until both are ready
- `answer`: from a short prompt to its finished reply (the first one after the start)
- `memory`: resident memory of the server after that reply; `idle`: its share of one core at rest
- `install` (with `--install`): a fresh clone with an empty home, until everything imports

The starts are the second and later ones of an installation, each on a data folder of its own, by
`launcher.py` of this folder, so that everything a person waits for is in them. Medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from benchmarks.served import free_port
from launch import install
from launch.browsers import find_browser
from launch.start import find_running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_SECONDS = 300.0
IDLE_SECONDS = 20.0
REST_SECONDS = 15.0  # what follows a reply is over by then, and nobody has just clicked
PROMPT = "Hello! How are you?"
GOALS = {
    "page": (5.0, "s"),
    "engine": (8.0, "s"),
    "guard": (12.0, "s"),
    "answer": (None, "s"),
    "memory": (1000.0, "MB"),
    "idle": (1.0, "%"),
    "install": (180.0, "s"),
}


def main() -> int:
    """Measure and print a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model", default="built-in")
    parser.add_argument("--install", action="store_true", help="also measure a fresh installation")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not install.complete():
        raise SystemExit("Run `python3 launcher.py test` first: this measures an installed Corral.")
    figures: dict[str, float] = {}
    if options.runs:
        with browser() as running:
            # The first one warms the file cache and is not counted.
            runs = [one_start(running, options.model) for _ in range(options.runs + 1)][1:]
        figures = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    if options.install:
        figures["install"] = fresh_install()
    result = {
        "figures": {name: round(value, 2) for name, value in figures.items()},
        "runs": options.runs,
        "model": options.model,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "day": date.today().isoformat(),
    }
    print(json.dumps(result) if options.json else table(result["figures"]))
    return 0


def table(figures: object) -> str:
    """Figures beside their goals, as rows for docs/benchmarks.md."""
    assert isinstance(figures, dict)
    rows = []
    for name, value in figures.items():
        goal, unit = GOALS[name]
        rows.append(f"| {name} | {value} {unit} | {f'≤ {goal:g} {unit}' if goal else ''} |")
    return "\n".join(["| what | figure | goal |", "| --- | --- | --- |", *rows])


@contextmanager
def browser() -> Iterator[Browser]:
    """An installed browser, started beforehand: people have theirs open."""
    from playwright.sync_api import sync_playwright

    path = find_browser()
    if path is None:
        raise SystemExit("This benchmark needs an installed Chrome, Chromium or Edge.")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


def one_start(running: Browser, model: str) -> dict[str, float]:
    """Start, watch, ask once, rest, end."""
    with tempfile.TemporaryDirectory(prefix="corral-benchmark-") as folder:
        data = Path(folder)
        words = [f"--data={data}", f"--port={free_port()}", f"--model={model}", "--no-browser"]
        page = running.new_context().new_page()
        started = time.monotonic()
        launcher = subprocess.Popen(
            [sys.executable, str(ROOT / "launcher.py"), *words], stdout=subprocess.DEVNULL
        )
        try:
            return {**watch(page, data, started), **standing_by(launcher)}
        finally:
            page.context.close()
            end(launcher)


def watch(page: Page, data: Path, started: float) -> dict[str, float]:
    """Seconds from the command to each sight, and from a prompt to its reply."""
    address = None
    while address is None:
        if time.monotonic() - started > PATIENCE_SECONDS:
            raise SystemExit("Corral did not start; run `python3 launcher.py` to see why.")
        time.sleep(0.02)
        found = find_running(data)
        address = found[1] if found else None
    page.set_default_timeout(PATIENCE_SECONDS * 1000)
    page.goto(address)
    page.wait_for_selector("#ask:enabled")
    seen = {"page": time.monotonic() - started}
    page.wait_for_function("document.querySelector('.footing')?.textContent.includes(' · ')")
    seen["engine"] = time.monotonic() - started
    page.wait_for_selector('.footing[data-state="ready"]')
    seen["guard"] = time.monotonic() - started
    asked = time.monotonic()
    page.fill("#ask", PROMPT)
    page.keyboard.press("Enter")
    page.wait_for_selector("#window .reply .md")
    seen["answer"] = time.monotonic() - asked
    return seen


def standing_by(launcher: subprocess.Popen[bytes]) -> dict[str, float]:
    """Megabytes that launcher and server hold, and percent of one core that they use at rest."""
    processes = [psutil.Process(launcher.pid)]
    processes += processes[0].children(recursive=True)
    time.sleep(REST_SECONDS)
    before = cpu_seconds(processes)
    time.sleep(IDLE_SECONDS)
    busy = cpu_seconds(processes) - before
    memory = sum(process.memory_info().rss for process in processes)
    return {"memory": memory / 1e6, "idle": 100 * busy / IDLE_SECONDS}


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """Processor time of all of them so far."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def end(launcher: subprocess.Popen[bytes]) -> None:
    """Ctrl-C, as a terminal sends it: to the launcher and to the server."""
    for process in [*psutil.Process(launcher.pid).children(), psutil.Process(launcher.pid)]:
        process.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
    launcher.wait(60)


def fresh_install() -> float:
    """Seconds of an installation in a new clone, for a person who has nothing in their home."""
    with tempfile.TemporaryDirectory(prefix="corral-install-") as folder:
        home, clone = Path(folder) / "home", Path(folder) / "corral"
        home.mkdir()
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        base = getattr(sys, "_base_executable", sys.executable)
        code = "from launch.install import install; install()"
        environment = {**os.environ, "HOME": str(home), "USERPROFILE": str(home)}
        started = time.monotonic()
        subprocess.run(
            [base, "-c", code], cwd=clone, env=environment, check=True, stdout=subprocess.DEVNULL
        )
        return time.monotonic() - started


if __name__ == "__main__":
    sys.exit(main())
