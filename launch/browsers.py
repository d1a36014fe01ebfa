"""Finds an installed Chrome, Chromium or Edge for the browser tests. Downloads none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from launch.place import log, say

PROGRAMS = (
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "chromium",
    "chromium-browser",
    "microsoft-edge",
    "msedge",
)
MAC = (
    "Google Chrome.app/Contents/MacOS/Google Chrome",
    "Chromium.app/Contents/MacOS/Chromium",
    "Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
)
WINDOWS = (r"Google\Chrome\Application\chrome.exe", r"Microsoft\Edge\Application\msedge.exe")


def find_browser() -> Path | None:
    """The first one that this machine has."""
    for program in PROGRAMS:
        if path := shutil.which(program):
            return Path(path)
    places: list[Path] = []
    if sys.platform == "darwin":
        places = [
            Path(base).expanduser() / app
            for base in ("/Applications", "~/Applications")
            for app in MAC
        ]
    elif sys.platform == "win32":
        bases = [
            os.environ.get(name) for name in ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA")
        ]
        places = [Path(base) / app for base in bases if base for app in WINDOWS]
    return next((place for place in places if place.is_file()), None)


def provide_browser() -> Path | None:
    """An installed browser; as root on Debian its chromium is installed. Never uses sudo."""
    found = find_browser()
    if found:
        return found
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if not (is_root and Path("/etc/debian_version").exists() and shutil.which("apt-get")):
        say("No Chrome, Chromium or Edge is installed: the browser tests will be skipped.")
        return None
    say("Installing Debian's chromium for the browser tests.")
    for command in (
        ["apt-get", "update"],
        ["apt-get", "install", "-y", "--no-install-recommends", "chromium"],
    ):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
        log.info("%s: status %d\n%s", " ".join(command), run.returncode, run.stdout + run.stderr)
    found = find_browser()
    if found is None:
        say("Chromium could not be installed (see the log): the browser tests will be skipped.")
    return found
