"""Signing in with a password, and accepting an invitation: how others get their sessions.

The token of an invitation stands behind `#`, as a launch token does, and comes back in a POST. The
gateway has checked Host, Origin and body before any of this runs.
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from app.accounts import Accounts, digest
from app.bare_page import bare_page
from app.guesses import Guesses
from app.passwords import MIN_CHARS, Passwords
from app.routes import INVITATION, SIGN_IN
from app.static_files import StaticFiles
from app.strings import Strings
from storage.records import Conflict, NotFound, User
from storage.store import Store

GUEST_SECONDS = (
    24 * 3_600.0
)  # a guest's session, and with it all a guest wrote, lasts a day at most
_NAME = re.compile(r"\w[\w .@-]{0,39}")


class Credentials(BaseModel):
    """What the sign-in page sends."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: str = Field(max_length=80)
    password: str = Field(max_length=256)


class Acceptance(BaseModel):
    """What the invitation page sends; first the token alone, to learn what it is for."""

    model_config = ConfigDict(extra="forbid", strict=True)
    token: str = Field(max_length=128)
    name: str | None = Field(default=None, max_length=80)
    password: str | None = Field(default=None, max_length=256)


@dataclass(frozen=True, slots=True)
class SignIn:
    """The routes below /corral/ by which other people get in."""

    accounts: Accounts
    store: Store
    strings: Strings
    files: StaticFiles
    port: int
    passwords: Passwords = field(default_factory=Passwords)
    guesses: Guesses = field(default_factory=Guesses)

    def page(self, name: str) -> bytes:
        """`signin` or `invitation`."""
        words = self.strings.section("signin.") | {"least": str(MIN_CHARS)}
        if name == "invitation":
            words["title"] = words["invited_title"]
        return bare_page(name, words, self.strings, self.files, script="signin.js")

    def router(self) -> APIRouter:
        """The routes."""
        router = APIRouter()

        def shown(name: str) -> Callable[[], Response]:
            page = self.strings.each(lambda: self.page(name))
            return lambda: HTMLResponse(page())

        router.add_api_route(SIGN_IN, shown("signin"), methods=["GET", "HEAD"])
        router.add_api_route(SIGN_IN, self.sign_in, methods=["POST"], response_model=None)
        router.add_api_route(INVITATION, shown("invitation"), methods=["GET", "HEAD"])
        router.add_api_route(INVITATION, self.accept, methods=["POST"], response_model=None)
        return router

    async def sign_in(self, given: Credentials, request: Request) -> Response:
        """A session for a name and its password. Wrong names and wrong passwords look alike."""
        wait = self.guesses.wait_seconds(given.name)
        if wait > 0:
            return self._refused(429, "wait", seconds=math.ceil(wait))
        known = await anyio.to_thread.run_sync(self.store.people.password_of, given.name)
        right = await self.passwords.verify(known[1] if known else None, given.password)
        if known is None or not right:
            self.guesses.failed(given.name)
            await self._record(known[0].id if known else None, "signin_failed")
            return self._refused(403, "wrong")
        self.guesses.succeeded(given.name)
        await self._record(known[0].id, "signin")
        return await self._session(known[0], request)

    async def accept(self, given: Acceptance, request: Request) -> Response:
        """Say what an invitation is for or, with a name, make its account and a session."""
        people, token = self.store.people, digest(given.token)
        found = await anyio.to_thread.run_sync(people.invitation, token)
        if found is None:
            if self.guesses.wait_seconds("") > 0:
                return self._refused(429, "wait", seconds=60)
            return self._refused(403, "used")
        if given.name is None:
            return JSONResponse({"role": found.role})
        name = given.name.strip()
        if found.role == "guest":
            name = f"{name[:30]} {secrets.token_hex(2)}"  # names of guests need not be their own
        if not _NAME.fullmatch(name):
            return self._refused(400, "name")
        hashed: str | None = None
        if found.role == "user":
            if self.guesses.wait_seconds("") > 0:  # hashing is work, and "taken" tells of names
                return self._refused(429, "wait", seconds=60)
            try:
                hashed = await self.passwords.hash(given.password or "")
            except ValueError:
                return self._refused(400, "short", least=MIN_CHARS)
        try:
            user = await anyio.to_thread.run_sync(people.accept, token, name, hashed)
        except Conflict:
            return self._refused(409, "taken")
        except NotFound:
            return self._refused(403, "used")
        return await self._session(user, request)

    async def _session(self, user: User, request: Request) -> Response:
        agent = request.headers.get("user-agent", "")
        lasts = GUEST_SECONDS if user.role == "guest" else None
        token = await anyio.to_thread.run_sync(
            lambda: self.accounts.open_session(user.id, agent, seconds=lasts)
        )
        cookie = self.accounts.cookie(self.port, token, secure=request.url.scheme == "https")
        return Response(status_code=204, headers={"Set-Cookie": cookie})

    async def _record(self, user_id: int | None, action: str) -> None:
        await anyio.to_thread.run_sync(self.store.record, user_id, action)

    def _refused(self, status: int, code: str, **values: object) -> Response:
        detail = self.strings.say(f"signin.{code}", **values)
        headers = {"Retry-After": str(values.get("seconds", 5))} if status == 429 else {}
        return JSONResponse({"detail": detail, "code": code}, status, headers=headers)
