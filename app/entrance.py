"""How a browser gets in: the entrance page, the exchange of a one-time key, and the way out.

The key stands behind `#` in the opened address and comes back in a POST, so that it is in no log,
history or Referer. The gateway has checked Host, Origin and body before any of this runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from app.accounts import Accounts
from app.bare_page import bare_page
from app.routes import ENTER, HEALTH, LAUNCH, LEAVE
from app.static_files import StaticFiles
from app.strings import Strings


class Key(BaseModel):
    """What the entrance page sends."""

    model_config = ConfigDict(extra="forbid", strict=True)
    token: str = Field(max_length=128)


@dataclass(frozen=True, slots=True)
class Entrance:
    """The routes below /corral/ that open and close sessions."""

    accounts: Accounts
    strings: Strings
    files: StaticFiles
    port: int
    on_leave: Callable[[], object] = lambda: None  # blocks

    def page(self) -> bytes:
        """The entrance page. It holds no word about this machine."""
        words = self.strings.section("entrance.")
        return bare_page("entrance", words, self.strings, self.files, script="entrance.js")

    def url(self) -> str:
        """A fresh address that lets one browser in once."""
        return f"http://127.0.0.1:{self.port}{ENTER}#{self.accounts.launch.issue()}"

    def router(self) -> APIRouter:
        """The routes."""
        router = APIRouter()
        page = self.strings.each(self.page)

        async def show() -> Response:
            return HTMLResponse(page())

        async def health() -> Response:
            return JSONResponse("ok")

        async def enter(key: Key, request: Request) -> Response:
            agent = request.headers.get("user-agent", "")
            session = await anyio.to_thread.run_sync(self.accounts.enter, key.token, agent)
            if session is None:
                return self._closed()
            cookie = self.accounts.cookie(self.port, session, secure=request.url.scheme == "https")
            return Response(status_code=204, headers={"Set-Cookie": cookie})

        async def launch(request: Request) -> Response:
            scheme, _, secret = request.headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not self.accounts.knows_secret(secret):
                return self._closed()
            return JSONResponse({"url": self.url()})

        async def leave(request: Request) -> Response:
            await anyio.to_thread.run_sync(self.accounts.leave, request.scope["corral_session"])
            await anyio.to_thread.run_sync(self.on_leave)
            gone = self.accounts.cookie(self.port, "", secure=request.url.scheme == "https")
            return Response(status_code=204, headers={"Set-Cookie": gone})

        router.add_api_route(HEALTH, health, methods=["GET", "HEAD"])
        router.add_api_route(ENTER, show, methods=["GET", "HEAD"])
        router.add_api_route(ENTER, enter, methods=["POST"])
        router.add_api_route(LAUNCH, launch, methods=["POST"])
        router.add_api_route(LEAVE, leave, methods=["POST"])
        return router

    def _closed(self) -> Response:
        detail = self.strings.say("gateway.key")
        return JSONResponse({"detail": detail, "code": "key"}, status_code=403)
