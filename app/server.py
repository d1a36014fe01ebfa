"""The web server: listens on its port, loads what takes long, runs until it is told to end.

One process, on 127.0.0.1 alone. The page is served first; engine and guard load afterwards.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import anyio
import uvicorn

from app import instance
from app.explain import explain
from app.log import close_log, log, open_log, watch_loop
from app.parts import PartCancelled
from app.services import Services
from app.settings import Settings, open_data_folder
from app.share import ShareError
from app.site import Site, build
from app.start import PortTaken, find_port, open_browser, open_running, tell
from app.strings import Strings
from app.wire import http_config
from storage.records import DatabaseBusy, FolderUnwritable, StorageError

SAID = 2  # exit status: the start failed, and a sentence on stderr says why
BUSY_SECONDS = 15.0  # how long a start waits for one that is just before it to be ready
# The process stands in an empty folder: Gradio may publish files from the current one.
EMPTY = Path("run") / "empty"


def serve(settings: Settings) -> int:
    """Run until Ctrl-C or a signal; the exit status, 0 or `SAID`. Raises `SettingsInvalid`."""
    strings = Strings.load(settings.language)
    folder = open_data_folder(settings.data)
    if open_running(settings, strings):
        return 0
    try:
        open_log(folder)
        listener, port = find_port(settings, strings)
        with listener:
            return _run(Services(replace(settings, port=port)), listener, strings)
    except PortTaken as error:
        return _fail(str(error))
    except StorageError as error:
        log.error("the store does not open: %s", type(error).__name__)
        return _fail(*_lines(error, strings))
    except OSError as error:
        log.exception("the start failed")
        return _fail(*_lines(FolderUnwritable(str(error)), strings))
    finally:
        close_log()


def _run(services: Services, listener: socket.socket, strings: Strings) -> int:
    """From the open port to the end of the server. Raises `StorageError`, `OSError`."""
    settings = services.settings
    try:
        services.start()
    except DatabaseBusy:
        # A start moments before this one holds the folder but cannot answer yet.
        if open_running(settings, strings, wait_seconds=BUSY_SECONDS):
            return 0
        raise
    try:
        with suppress(KeyboardInterrupt), _ending_signals():
            os.chdir(open_data_folder(settings.data / EMPTY))
            server = _Server(build(services), services, strings)
            server.run([listener])
            if not server.started:  # its own lifespan failed; the log says why
                return _fail(*_lines(RuntimeError(), strings))
    finally:
        services.close()
    return 0


@contextmanager
def _ending_signals() -> Iterator[None]:
    """End in order on SIGTERM and, where a terminal can go away, on SIGHUP.

    uvicorn takes SIGTERM while it runs and raises it again when it is done; before and after, and
    as that repetition, it arrives here.
    """

    def end(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    def hang_up(number: int, frame: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    old = {signal.SIGTERM: signal.signal(signal.SIGTERM, end)}
    if sys.platform != "win32":
        old[signal.SIGHUP] = signal.signal(signal.SIGHUP, hang_up)
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


class _Server(uvicorn.Server):
    """uvicorn with our own start and end."""

    def __init__(self, site: Site, services: Services, strings: Strings) -> None:
        super().__init__(http_config(site.app))
        self._site = site
        self._services = services
        self._strings = strings

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, then tell people and load the heavy parts."""
        watch_loop(asyncio.get_running_loop())
        await super().startup(sockets)
        if self.should_exit:
            return
        settings = self._services.settings
        self._site.listeners.loop = asyncio.get_running_loop()
        instance.write(settings.data, port=settings.port, secret=self._site.secret)
        threading.Thread(target=self._welcome, name="welcome", daemon=True).start()
        self._services.load()

    def _welcome(self) -> None:
        settings, say = self._services.settings, self._strings.say
        log.info("serving on port %d", settings.port)
        tell(say("server.running", address=f"http://127.0.0.1:{settings.port}"))
        url = self._site.entrance.url()
        # Some browsers are waited for until they are closed: nothing may depend on that.
        if not (settings.browser and open_browser(url)):
            tell(say("server.address", url=url))
        self._open_links()
        self._tell_what_failed()

    def _tell_what_failed(self) -> None:
        """Say at the terminal too why the model or the guard that was named does not answer."""
        for part in (self._services.engine, self._services.guard):
            try:
                part.wait(self._services.closing)
            except PartCancelled:
                return
            except Exception as error:  # whatever it was: the page explains the same one
                tell(" ".join(_lines(error, self._strings)))

    def _open_links(self) -> None:
        """Open the links that the settings ask for, and tell where, or why not."""
        settings, doors, say = self._services.settings, self._site.doors, self._strings.say
        try:
            if settings.lan:
                tell(say("server.lan", url=doors.lan.start(settings.port).address))
            if settings.share:
                link = doors.share.start(hours=settings.share_hours)
                tell(say("server.share", url=link.address, hours=settings.share_hours))
        except (ShareError, StorageError) as error:
            tell("\n".join(_lines(error, self._strings)))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the turns first, so that their pages hear of it; then the server.

        uvicorn raises the signal again afterwards, which may end the process at once: by then
        everything must be stored.
        """
        tell(self._strings.say("server.ending"))
        await anyio.to_thread.run_sync(self._site.doors.close)
        await anyio.to_thread.run_sync(self._services.close)
        await super().shutdown(sockets)
        instance.remove(self._services.settings.data, self._site.secret)
        log.info("ended")


def _lines(error: Exception, strings: Strings) -> tuple[str, ...]:
    explained = explain(error, strings)
    return tuple(filter(None, (explained.title + ".", explained.detail, explained.action)))


def _fail(*lines: str) -> int:
    print("\n".join(lines), file=sys.stderr, flush=True)
    return SAID
