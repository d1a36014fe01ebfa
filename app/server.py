"""The web server: builds the app behind its gateway, finds a port, runs until it is told to end.

One process, on 127.0.0.1 alone. The page is served first; engine and guard load afterwards.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse

from app import instance
from app.accounts import Accounts
from app.api.keys import Keys
from app.api.routes import Api
from app.doors import Doors
from app.entrance import Entrance
from app.explain import explain
from app.gateway import Gateway
from app.gradio_stubs import skip_stub_files
from app.lan import Lan
from app.log import close_log, log, open_log, watch_loop
from app.services import Services
from app.settings import Settings, open_data_folder
from app.share import GradioTunnel, Share, ShareError
from app.signin import SignIn
from app.static_files import StaticFiles
from app.strings import Strings
from storage.records import OWNER_ID, DatabaseBusy, FolderUnwritable, StorageError

Mount = Callable[[FastAPI, Services], FastAPI]

SAID = 2  # exit status: the start failed, and a sentence on stderr says why
NUM_PORTS_TRIED = 20
BUSY_SECONDS = 15.0  # how long a start waits for one that is just before it to be ready
# The process stands in an empty folder: Gradio may publish files from the current one.
EMPTY = Path("run") / "empty"
GRACE_SECONDS = 1  # for open streams of pages when the server ends; turns are stored apart


class PortTaken(Exception):
    """The wanted port is in use. `str(error)` says by what, if that is known, and what to do."""


@dataclass(frozen=True, slots=True)
class Site:
    """The app behind its gateway, and how to let a browser in."""

    app: Gateway
    entrance: Entrance
    doors: Doors

    @property
    def secret(self) -> str:
        """What a second start shows."""
        return self.entrance.accounts.secret


def build(services: Services, mount: Mount | None = None) -> Site:
    """Build the app of started services. `mount` puts the page in (default: the Gradio page).

    Takes a second or two: Gradio is imported here.
    """
    settings = services.settings
    strings = Strings.load(settings.language)
    accounts = Accounts(
        services.store,
        session_seconds=settings.session_days * 86_400,
        idle_seconds=settings.session_idle_hours * 3_600,
    )
    files = StaticFiles()
    entrance = Entrance(accounts, strings, files, settings.port, services.end_guests)
    signin = SignIn(accounts, services.store, strings, files, settings.port)
    keys = Keys(services.store.people)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # With a policy of the parent's, Gradio's own middleware, which echoes origins, stands down.
    app.add_middleware(CORSMiddleware, allow_origins=[])

    async def invalid(request: Request, error: Exception) -> Response:
        """FastAPI's own answer would repeat what was sent."""
        return JSONResponse({"detail": strings.say("gateway.binding"), "code": "binding"}, 400)

    app.add_exception_handler(RequestValidationError, invalid)
    app.include_router(entrance.router())
    app.include_router(signin.router())
    app.include_router(Api(services, strings).router())
    app.include_router(files.router())
    if mount is None:
        skip_stub_files()
        from app.page.mount import mount as mount_page

        mount = mount_page
    app = mount(app, services)
    gateway = Gateway(
        app,
        accounts,
        port=settings.port,
        strings=strings,
        entrance=entrance.page(),
        signin=signin.page("signin"),
        keys=keys,
        hosts=settings.hosts,
    )
    visitors, hosts = gateway.visitors, gateway.hosts
    doors = Doors(
        store=services.store,
        port=settings.port,
        forget=services.forget,
        accounts=accounts,
        passwords=signin.passwords,
        keys=keys,
        gateway=gateway,
        share=Share(
            services.store,
            hosts,
            visitors,
            lambda: GradioTunnel(settings.share_server, settings.share_certificate),
        ),
        lan=Lan(
            services.store,
            hosts,
            visitors,
            gateway,
            certificate=settings.certificate,
            key=settings.certificate_key,
        ),
    )
    services.doors = doors
    gateway.api_on = settings.api or services.store.setting(OWNER_ID, "api") == "on"
    return Site(gateway, entrance, doors)


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
    _say(strings.say("server.running_already"))
    if not opened:
        _say(strings.say("server.address", url=url))
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


class _Server(uvicorn.Server):
    """uvicorn with our own start and end."""

    def __init__(self, site: Site, services: Services, strings: Strings) -> None:
        super().__init__(
            uvicorn.Config(
                site.app,
                log_config=None,
                access_log=False,  # query strings name sessions
                proxy_headers=False,  # a tunnel's visitors come from 127.0.0.1 too
                server_header=False,
                http="h11",
                ws="none",
                h11_max_incomplete_event_size=64 << 10,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
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
        self._site.doors.lan.loop = asyncio.get_running_loop()
        instance.write(settings.data, port=settings.port, secret=self._site.secret)
        threading.Thread(target=self._welcome, name="welcome", daemon=True).start()
        self._services.load()

    def _welcome(self) -> None:
        settings, say = self._services.settings, self._strings.say
        log.info("serving on port %d", settings.port)
        _say(say("server.running", address=f"http://127.0.0.1:{settings.port}"))
        url = self._site.entrance.url()
        # Some browsers are waited for until they are closed: nothing may depend on that.
        if not (settings.browser and open_browser(url)):
            _say(say("server.address", url=url))
        self._open_links()

    def _open_links(self) -> None:
        """Open the links that the settings ask for, and tell where, or why not."""
        settings, doors, say = self._services.settings, self._site.doors, self._strings.say
        try:
            if settings.lan:
                _say(say("server.lan", url=doors.lan.start(settings.port).address))
            if settings.share:
                link = doors.share.start(settings.port, hours=settings.share_hours)
                _say(say("server.share", url=link.address, hours=settings.share_hours))
        except (ShareError, StorageError) as error:
            _say("\n".join(_lines(error, self._strings)))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the turns first, so that their pages hear of it; then the server.

        uvicorn raises the signal again afterwards, which may end the process at once: by then
        everything must be stored.
        """
        _say(self._strings.say("server.ending"))
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


def _say(line: str) -> None:
    with suppress(OSError, ValueError):  # the terminal may be gone
        print(line, flush=True)
