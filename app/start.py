"""What a start looks for: a Corral that runs already, a free port, a browser for the page."""

from __future__ import annotations

import os
import socket
import sys
import time
import webbrowser
from contextlib import suppress

from app import instance
from app.settings import Settings
from app.strings import Strings

NUM_PORTS_TRIED = 20


class PortTaken(Exception):
    """The wanted port is in use. `str(error)` says by what, if that is known, and what to do."""


def find_port(settings: Settings, strings: Strings) -> tuple[socket.socket, int]:
    """A listening socket and its port. Raises `PortTaken`.

    A port that was asked for is used or refused; the default gives way to the next free one.
    """
    chosen = settings.origin("port") != "default"
    for port in range(
        settings.port, min(settings.port + (1 if chosen else NUM_PORTS_TRIED), 65536)
    ):
        try:
            return instance.listen(port), port
        except PermissionError as error:
            raise PortTaken(strings.say("server.port_forbidden", port=port)) from error
        except OSError:
            continue
    if not chosen:
        raise PortTaken(
            strings.say(
                "server.ports_taken",
                first=settings.port,
                last=settings.port + NUM_PORTS_TRIED - 1,
            )
        )
    key = "server.port_corral" if instance.is_corral(settings.port) else "server.port_taken"
    raise PortTaken(strings.say(key, port=settings.port))


def open_running(settings: Settings, strings: Strings, wait_seconds: float = 0.0) -> bool:
    """Open the Corral that already runs on this data folder; whether there was one."""
    deadline = time.monotonic() + wait_seconds
    while (url := instance.new_address(settings.data)) is None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.25)
    opened = settings.browser and open_browser(url)
    tell(strings.say("server.running_already"))
    if not opened:
        tell(strings.say("server.address", url=url))
    return True


def open_browser(url: str) -> bool:
    """Open a page in the person's browser, if there is a screen to show it on."""
    if sys.platform not in ("darwin", "win32") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        return False  # only a text browser could be found, and it would take over the terminal
    try:
        return webbrowser.open(url)
    except (webbrowser.Error, OSError):
        return False


def tell(line: str) -> None:
    """Print a line for whoever started Corral in a terminal."""
    with suppress(OSError, ValueError):  # the terminal may be gone
        print(line, flush=True)
