"""The app behind its gateway: every router, the page, and the doors that let people in.

Built from started services; who listens for it is `app/server.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse

from app.accounts import Accounts
from app.api.keys import Keys
from app.api.routes import Api
from app.beside import Around, Listeners
from app.doors import Doors
from app.entrance import Entrance
from app.gateway import Gateway
from app.gradio_stubs import skip_matplotlib, skip_stub_files
from app.lan import Lan
from app.services import Services
from app.share import GradioTunnel, Share
from app.signin import SignIn
from app.static_files import StaticFiles
from app.strings import Strings
from storage.records import OWNER_ID

Mount = Callable[[FastAPI, Services], FastAPI]


@dataclass(frozen=True, slots=True)
class Site:
    """The app behind its gateway, and how to let a browser in."""

    app: Gateway
    entrance: Entrance
    doors: Doors
    listeners: Listeners  # whoever serves the app tells them its loop

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
    app = _routed(
        strings, entrance.router(), signin.router(), Api(services, strings).router(), files.router()
    )
    gateway = Gateway(
        (mount or _page_mount())(app, services),
        accounts,
        port=settings.port,
        strings=strings,
        entrance=strings.each(entrance.page),
        signin=strings.each(lambda: signin.page("signin")),
        keys=keys,
        hosts=settings.hosts,
    )
    listeners = Listeners(gateway)
    services.doors = _doors(services, gateway, listeners, signin, keys)
    gateway.api_on = settings.api or services.store.setting(OWNER_ID, "api") == "on"
    return Site(gateway, entrance, services.doors, listeners)


def _routed(strings: Strings, *routers: APIRouter) -> FastAPI:
    """An app with these routes and none of FastAPI's own."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # With a policy of the parent's, Gradio's own middleware, which echoes origins, stands down.
    app.add_middleware(CORSMiddleware, allow_origins=[])

    async def invalid(request: Request, error: Exception) -> Response:
        """FastAPI's own answer would repeat what was sent."""
        return JSONResponse({"detail": strings.say("gateway.binding"), "code": "binding"}, 400)

    app.add_exception_handler(RequestValidationError, invalid)
    for router in routers:
        app.include_router(router)
    return app


def _page_mount() -> Mount:
    """What puts the Gradio page in; imports Gradio."""
    skip_stub_files()
    skip_matplotlib()
    from app.page.mount import mount

    return mount


def _doors(
    services: Services, gateway: Gateway, listeners: Listeners, signin: SignIn, keys: Keys
) -> Doors:
    settings, store = services.settings, services.store
    around = Around(store, gateway.hosts, gateway.visitors, listeners)
    return Doors(
        store=store,
        port=settings.port,
        stop_turns=services.stop_turns,
        remove_person=services.remove_person,
        accounts=signin.accounts,
        passwords=signin.passwords,
        guesses=signin.guesses,
        keys=keys,
        gateway=gateway,
        share=Share(
            around, lambda: GradioTunnel(settings.share_server, settings.share_certificate)
        ),
        lan=Lan(around, certificate=settings.certificate, key=settings.certificate_key),
    )
