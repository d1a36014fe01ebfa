"""Corral's services with a scripted engine and a word-list guard, for tests of server and page."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fastapi import FastAPI

from app.accounts import cookie_name, digest
from app.parts import Part
from app.rates import Rates
from app.services import Services
from app.settings import Settings
from app.site import Site, build
from engine.base import Engine
from safety.base import Guard
from tests.app.asgi import ask, same_origin
from tests.app.fakes import TellingEngine, WordGuard


def make_services(
    data: Path, *argv: str, engine: Engine | None = None, guard: Guard | None = None
) -> Services:
    """Started services on `data`; nothing is loaded until `load`."""
    services = Services(Settings.load(["--data", str(data), "--no-browser", *argv], {}))
    told = engine or TellingEngine(["Hello there, friend."])
    judge = guard or WordGuard()
    services.running.part = Part("engine", lambda: told)
    services.guard = Part("guard", lambda: judge)
    services.start()
    return services


def no_page(app: FastAPI, services: Services) -> FastAPI:
    """In place of the Gradio page: nothing."""
    return app


def whole_site(services: Services, *, api: bool = False) -> Site:
    """The app with its Gradio page, and without a limit on how often it may be asked."""

    async def in_a_loop() -> Site:
        return build(services)  # outside of one, Gradio makes loops that it never closes

    site = asyncio.run(in_a_loop())
    site.app.rates = Rates(burst=1e9)  # tests ask more than any page
    site.app.api_on = api
    return site


def sign_in(services: Services, user_id: int, token: str, *, secure: bool = False) -> str:
    """A session for any user; returns the Cookie header, `secure` as it is over HTTPS."""
    services.store.add_session(digest(token), user_id, 1 << 52, "test")
    return f"{cookie_name(services.settings.port, secure=secure)}={token}"


def enter(site: Site) -> str:
    """A session the way a browser gets it; returns the Cookie header."""
    token = site.entrance.url().partition("#")[2]
    body = f'{{"token": "{token}"}}'.encode()
    answer = ask(site.app, "POST", "/corral/enter", headers=same_origin(), body=body)
    assert answer.status == 204
    return answer.headers["set-cookie"].partition(";")[0]
