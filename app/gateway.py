"""The one door: every request passes here before any route, ours or Gradio's, sees it.

In this order: the Host must be ours, headers must be few, the path must be on the allow-list, a
session cookie (for the API: a key, and nothing else) says which user it is, requests must not come
too fast, one that changes something must come from our own page, its body must be small, and a
Gradio session hash must belong to that user. Then
`scope["corral_user"]` holds the user's id. It is set here and nowhere else; that a request comes
from 127.0.0.1 says nothing about who sent it.

Pure ASGI, so that it wraps lifespan, streams and mounted apps alike.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from app.accounts import Accounts, Visitor
from app.api.keys import Keys
from app.asgi import (
    App,
    Headers,
    Receive,
    Refused,
    Scope,
    Send,
    declared_bytes,
    num_request_bytes,
    read_body,
    replay,
    values,
)
from app.bindings import GradioSessions
from app.callers import Callers
from app.hosts import Hosts
from app.origins import check_source
from app.rates import Caller, Rates
from app.refusals import Page, Refusals
from app.reply import Reply
from app.routes import HOME, LAUNCH, Route, find
from app.strings import Strings, language_of, speaking
from app.visitors import Visitors

MAX_HEADER_BYTES = 32 << 10
MAX_HEADERS = 100
# Request headers that the app may see. Not the cookie; none that moves the host, scheme or client
# (X-Forwarded-*), which Gradio would believe; no Range.
PASSED_HEADERS = frozenset(
    b"host user-agent accept accept-encoding accept-language content-type content-length origin "
    b"referer if-none-match if-modified-since cache-control sec-fetch-site sec-fetch-mode "
    b"sec-fetch-dest x-gradio-user connection".split()
)

log = logging.getLogger("corral.gateway")


@dataclass(frozen=True, slots=True)
class _Asked:
    """Who asks for what. `opening` is how they came, see `Hosts.opening`."""

    route: Route | None
    visitor: Visitor | None
    opening: str

    @property
    def caller(self) -> Caller:
        """Whose requests are counted."""
        return self.visitor.user_id if self.visitor else self.opening


@dataclass(frozen=True, slots=True)
class _Admitted:
    """A request that may pass: where to, for whom, with which body (None: none was read)."""

    route: Route
    visitor: Visitor | None
    body: bytes | None


class Gateway:
    """Wraps `app`. `entrance` is the page shown at `/` to a browser without a session."""

    def __init__(
        self,
        app: App,
        accounts: Accounts,
        *,
        port: int,
        strings: Strings,
        entrance: Page,
        signin: Page | None = None,
        keys: Keys | None = None,
        rates: Rates | None = None,
        hosts: Iterable[str] = (),
        schemes: Iterable[str] = ("http",),
    ) -> None:
        self.accounts = accounts
        self.rates = rates or Rates()
        self.api_on = False  # without it no key opens anything
        self.visitors = Visitors()
        self.hosts = Hosts(hosts)
        self.sessions = GradioSessions()
        self._app = app
        self._callers = Callers(accounts, keys, port)
        self._refusals = Refusals(strings, self.hosts, entrance=entrance, signin=signin or entrance)
        self._schemes = tuple(schemes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":  # nothing here speaks it
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "http":
            asked = values(scope["headers"], b"accept-language")
            speaking(language_of(asked[0] if asked else ""))
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._link(scope) == "share":
            scope = {**scope, "scheme": "https"}  # the tunnel's other end speaks it for us
        try:
            asked = await self._identify(scope)
            with self.rates.place(asked.caller):
                admitted = await self._admit(scope, asked, receive)
                await self._pass(scope, admitted, receive, send)
        except Refused as refusal:
            await self._refusals.send(scope, send, refusal)

    async def _pass(self, scope: Scope, admitted: _Admitted, receive: Receive, send: Send) -> None:
        """Let the app answer."""
        reply = self._reply(scope, send, admitted)
        try:
            await self._app(self._inner(scope, admitted), replay(admitted.body, receive), reply)
        except KeyError as error:
            # Gradio looks handlers and components up by the number that the page sent.
            if not reply.started and admitted.route.binding == "body":
                raise Refused(400, "stale") from error
            await self._fail(scope, send, reply, error)
        except Exception as error:
            await self._fail(scope, send, reply, error)
        else:
            if reply.failed:
                raise Refused(500, "error")

    async def _fail(self, scope: Scope, send: Send, reply: Reply, error: Exception) -> None:
        """Answer an error of the app with a sentence and the number under which the log has it."""
        number = secrets.token_hex(4)
        log.error("request %s ended in an error", number, exc_info=error)
        if not reply.started:
            await self._refusals.send(scope, send, Refused(500, "error"), number)

    def _reply(self, scope: Scope, send: Send, admitted: _Admitted) -> Reply:
        """What the app answers into: it binds new events, and renews the cookie of a used page."""
        reply = Reply(send, admitted.route, scope["path"])
        visitor = admitted.visitor
        if visitor is None:
            return reply
        if admitted.route.binding == "body":
            user_id = visitor.user_id
            reply.on_event_id = lambda event_id: self.sessions.events.claim(event_id, user_id)
        if admitted.route.binding == "body" or scope["path"] == HOME:
            secure = scope["scheme"] == "https"
            reply.cookie = self._callers.renewed(scope["headers"], secure=secure)
        return reply

    def _link(self, scope: Scope) -> str:
        """What opened the name under which this was asked for; "" for this machine's own."""
        hosts = values(scope["headers"], b"host")
        return self.hosts.opening(hosts[0]) if self.hosts.allows(hosts) else ""

    # -- the checks, in order --

    async def _identify(self, scope: Scope) -> _Asked:
        """Host and size, then who asks for which route. Raises `Refused`."""
        headers: Headers = scope["headers"]
        hosts = values(headers, b"host")
        if not self.hosts.allows(hosts):
            raise Refused(403, "host")
        if len(headers) > MAX_HEADERS or num_request_bytes(scope, headers) > MAX_HEADER_BYTES:
            raise Refused(431, "headers")
        route = find(scope["path"])
        if route is not None and route.local and not self.hosts.is_local(hosts[0]):
            route = None
        opening = self.hosts.opening(hosts[0])
        try:
            visitor = await self._visitor(route, headers, secure=scope["scheme"] == "https")
        except Refused:
            self.rates.take(opening)  # who shows nothing, or something wrong, is a stranger
            raise
        if visitor is not None:
            self.visitors.saw(visitor.session, opening)
        return _Asked(route, visitor, opening)

    async def _visitor(
        self, route: Route | None, headers: Headers, *, secure: bool
    ) -> Visitor | None:
        """Who asks; None on an open route. Strangers do not learn which paths there are."""
        if route is not None and route.key:
            visitor = await self._callers.program(headers)
            if not self.api_on:
                raise Refused(403, "api_off")
            return visitor
        if route is not None and route.open:
            return None
        person = await self._callers.person(headers, secure=secure)
        if person is None:
            raise Refused(401, "session")
        return person

    async def _admit(self, scope: Scope, asked: _Asked, receive: Receive) -> _Admitted:
        """That this caller may ask this, and the body. Raises `Refused`."""
        route, visitor = asked.route, asked.visitor
        if route is None:
            raise Refused(404, "path")
        if scope["method"] not in route.methods:
            raise Refused(405, "method")
        check_source(scope, (scope["scheme"],) if asked.opening else self._schemes)
        body = await _body(scope, receive, route.max_body_bytes)
        if visitor is not None:
            self.sessions.check(route.binding, scope, body or b"", visitor.user_id)
        return _Admitted(route, visitor, body)

    def _inner(self, scope: Scope, admitted: _Admitted) -> Scope:
        """The scope as the app sees it: vouched-for user, harmless headers."""
        passed = PASSED_HEADERS | ({b"authorization"} if scope["path"] == LAUNCH else set())
        headers = [(n, v) for n, v in scope["headers"] if n.lower() in passed]
        if admitted.body is not None:
            headers = [(n, v) for n, v in headers if n.lower() != b"content-length"]
            headers.append((b"content-length", str(len(admitted.body)).encode()))
        visitor = admitted.visitor
        host = values(scope["headers"], b"host")[0]
        return {
            **scope,
            "headers": headers,
            "corral_user": visitor.user_id if visitor else None,
            "corral_session": visitor.session if visitor else None,
            "corral_scopes": visitor.scopes if visitor else (),
            # Came over a link or the network: nothing of the owner's is changed.
            "corral_away": not self.hosts.is_local(host),
        }


async def _body(scope: Scope, receive: Receive, max_bytes: int) -> bytes | None:
    """The whole body of a request that may have one. Raises `Refused`."""
    headers: Headers = scope["headers"]
    if scope["method"] not in ("GET", "HEAD"):
        return await read_body(headers, receive, max_bytes)
    if declared_bytes(headers) > 0 or values(headers, b"transfer-encoding"):
        raise Refused(413, "body")
    return None
