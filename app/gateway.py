"""The one door: every request passes here before any route, ours or Gradio's, sees it.

In this order: the Host must be ours, headers must be few, the path must be on the allow-list, a
session cookie (for the API: a key, and nothing else) says which user it is, requests must not come
too fast, one that changes something must come from our own page, its body must be small, and a
Gradio session hash must belong to that user. Then
`scope["corral_user"]` holds the user's id. It is set here and nowhere else; that a request comes
from 127.0.0.1 says nothing about who sent it. An answer lasts no longer than what opened it: whose
session or key ends while a stream is open loses the stream.

Pure ASGI, so that it wraps lifespan, streams and mounted apps alike.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

import anyio

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
from app.beside import WAY
from app.bindings import GradioSessions
from app.callers import Callers
from app.hosts import Hosts
from app.origins import check_source
from app.rates import Caller, Rates
from app.refusals import Page, Refusals
from app.reply import Reply
from app.routes import HOME, LAUNCH, Route, find
from app.strings import Strings, language_of, speaking
from app.underway import Underway
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
    """Who asks for what. `link` is the one they came by, or empty."""

    route: Route | None
    visitor: Visitor | None
    link: str

    @property
    def caller(self) -> Caller:
        """Whose requests are counted."""
        if self.visitor is None:
            return self.link
        return (self.link, self.visitor.user_id) if self.link else self.visitor.user_id

    @property
    def shown(self) -> bytes:
        """The digest of the session's token or of the key that this lasts no longer than."""
        if self.visitor is None or (self.route is not None and self.route.ends):
            return b""
        return self.visitor.session


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
        self.underway = Underway(lambda shown: self._callers.stands(shown, api_on=self.api_on))
        accounts.on_end = self.underway.review
        if keys is not None:
            keys.on_end = self.underway.review
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
        link = self._link(scope)
        if link == "share":
            scope = {**scope, "scheme": "https"}  # the tunnel's other end speaks it for us
        reply = Reply(send, scope["path"])
        try:
            asked = await self._identify(scope, link)
            with self.rates.place(asked.caller), self.underway.of(asked.shown) as held:
                await self._pass(scope, await self._admit(scope, asked, receive), receive, reply)
            if held.cancelled_caught and not reply.started:
                by_key = asked.route is not None and asked.route.key
                raise Refused(401, "api_key" if by_key else "session")
        except Refused as refusal:
            if refusal.status == 429 and link:
                await anyio.sleep(self.rates.pause_seconds)
            await self._refusals.send(scope, send, refusal)

    async def _pass(
        self, scope: Scope, admitted: _Admitted, receive: Receive, reply: Reply
    ) -> None:
        """Let the app answer."""
        self._prepare(reply, scope, admitted)
        try:
            await self._app(self._inner(scope, admitted), replay(admitted.body, receive), reply)
        except KeyError as error:
            # Gradio looks handlers and components up by the number that the page sent.
            if not reply.started and admitted.route.binding == "body":
                raise Refused(400, "stale") from error
            await self._fail(scope, reply, error)
        except Exception as error:
            await self._fail(scope, reply, error)
        else:
            if reply.failed:
                raise Refused(500, "error")

    async def _fail(self, scope: Scope, reply: Reply, error: Exception) -> None:
        """Answer an error of the app with a sentence and the number under which the log has it."""
        number = secrets.token_hex(4)
        log.error("request %s ended in an error", number, exc_info=error)
        if not reply.started:
            await self._refusals.send(scope, reply.send, Refused(500, "error"), number)

    def _prepare(self, reply: Reply, scope: Scope, admitted: _Admitted) -> None:
        """Tell the reply what to do: bind new events, and renew the cookie of a used page."""
        reply.take_from(admitted.route)
        visitor = admitted.visitor
        if visitor is None:
            return
        if admitted.route.binding == "body":
            user_id = visitor.user_id
            reply.on_event_id = lambda event_id: self.sessions.events.claim(event_id, user_id)
        if admitted.route.binding == "body" or scope["path"] == HOME:
            secure = scope["scheme"] == "https"
            reply.cookie = self._callers.renewed(scope["headers"], secure=secure)

    def _link(self, scope: Scope) -> str:
        """By which link this came, as its listener or the name says; "" for this machine's door."""
        if way := scope.get(WAY):
            return str(way)
        hosts = values(scope["headers"], b"host")
        return self.hosts.opening(hosts[0]) if self.hosts.allows(hosts) else ""

    # -- the checks, in order --

    async def _identify(self, scope: Scope, link: str) -> _Asked:
        """Host and size, then who asks for which route. Raises `Refused`."""
        headers: Headers = scope["headers"]
        if link:
            self.rates.take_of_link(link)
        hosts = values(headers, b"host")
        if not self.hosts.allows(hosts):
            raise Refused(403, "host")
        if WAY in scope and self.hosts.is_local(hosts[0]):  # nobody there is at this machine
            raise Refused(403, "host")
        if len(headers) > MAX_HEADERS or num_request_bytes(scope, headers) > MAX_HEADER_BYTES:
            raise Refused(431, "headers")
        route = find(scope["path"])
        if route is not None and route.local and not self.hosts.is_local(hosts[0]):
            route = None
        try:
            visitor = await self._visitor(route, headers, secure=scope["scheme"] == "https")
        except Refused:
            self.rates.take(link)  # who shows nothing, or something wrong, is a stranger
            raise
        if visitor is not None:
            self.visitors.saw(visitor.session, link)
        return _Asked(route, visitor, link)

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
        check_source(scope, (scope["scheme"],) if asked.link else self._schemes)
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
