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

import json
import logging
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

import anyio

from app.accounts import Accounts, Visitor, cookie_name, digest
from app.api.errors import of_status
from app.api.keys import Keys
from app.asgi import (
    App,
    Headers,
    Receive,
    Refused,
    Scope,
    Send,
    cookie_value,
    declared_bytes,
    num_request_bytes,
    read_body,
    replay,
    values,
)
from app.bindings import (
    BindingInvalid,
    Bindings,
    hash_in_body,
    hash_in_path,
    hash_in_query,
    read_object,
)
from app.hosts import Hosts, foreign_fetch, same_origin
from app.rates import Rates
from app.reply import OWN_POLICY, SECURITY_HEADERS, Reply
from app.reply import PAGE_POLICY as PAGE_POLICY
from app.routes import API, HOME, LAUNCH, Route, find
from app.strings import Strings
from app.visitors import Visitors
from storage.records import StorageError

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
        entrance: bytes,
        signin: bytes = b"",
        keys: Keys | None = None,
        rates: Rates | None = None,
        hosts: Iterable[str] = (),
        schemes: Iterable[str] = ("http",),
    ) -> None:
        self.accounts = accounts
        self._app = app
        self._port = port
        self._strings = strings
        self._entrance = entrance
        self._signin = signin or entrance
        self._keys = keys
        self.rates = rates or Rates()
        self.api_on = False  # without it no key opens anything
        self.visitors = Visitors()
        self.hosts = Hosts(hosts)
        self._schemes = tuple(schemes)
        self._sessions = Bindings()
        self._events = Bindings()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":  # nothing here speaks it
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._link(scope) == "share":
            scope = {**scope, "scheme": "https"}  # the tunnel's other end speaks it for us
        try:
            admitted = await self._admit(scope, receive)
        except Refused as refusal:
            if refusal.status == 401 and _typed_localhost(scope):
                await self._redirect(scope, send)
            else:
                await self._refuse(scope, send, refusal)
            return
        reply = Reply(send, admitted.route, scope["path"])
        if admitted.route.binding == "body" and admitted.visitor:
            user_id = admitted.visitor.user_id
            reply.on_event_id = lambda event_id: self._events.claim(event_id, user_id)
        if admitted.visitor and (reply.on_event_id or scope["path"] == HOME):
            reply.cookie = self._renewed(scope)  # the page is in use: the idle time begins anew
        inner = _inner_scope(scope, admitted, away=not self.hosts.is_local(_host(scope)))
        try:
            await self._app(inner, replay(admitted.body, receive), reply)
        except KeyError as error:
            # Gradio looks handlers and components up by the number that the page sent.
            if reply.started or admitted.route.binding != "body":
                await self._fail(scope, send, reply, error)
            else:
                await self._refuse(scope, send, Refused(400, "stale"))
        except Exception as error:
            await self._fail(scope, send, reply, error)
        else:
            if reply.failed:
                await self._refuse(scope, send, Refused(500, "error"))

    async def _fail(self, scope: Scope, send: Send, reply: Reply, error: Exception) -> None:
        """Answer an error of the app with a sentence and the number under which the log has it."""
        number = secrets.token_hex(4)
        log.error("request %s ended in an error", number, exc_info=error)
        if not reply.started:
            await self._refuse(scope, send, Refused(500, "error"), number)

    def _renewed(self, scope: Scope) -> str:
        token = cookie_value(scope["headers"], cookie_name(self._port))
        return self.accounts.cookie(self._port, token, secure=scope["scheme"] == "https")

    # -- the checks, in order --

    async def _admit(self, scope: Scope, receive: Receive) -> _Admitted:
        headers: Headers = scope["headers"]
        hosts = values(headers, b"host")
        if not self.hosts.allows(hosts):
            raise Refused(403, "host")
        if len(headers) > MAX_HEADERS or num_request_bytes(scope, headers) > MAX_HEADER_BYTES:
            raise Refused(431, "headers")
        method, path = scope["method"], scope["path"]
        route = find(path)
        if route is not None and route.local and not self.hosts.is_local(hosts[0]):
            route = None
        visitor = None
        if route is not None and route.key:
            visitor = await self._key_holder(headers)
        elif route is None or not route.open:
            visitor = await self._visitor(headers)
            if visitor is None:
                raise Refused(401, "session")
            self.visitors.saw(visitor.session, self.hosts.opening(hosts[0]))
        if not self.rates.allows(visitor.user_id if visitor else None):
            raise Refused(429, "rate")
        if route is None:
            raise Refused(404, "path")
        if method not in route.methods:
            raise Refused(405, "method")
        self._check_source(scope, method, headers, hosts[0])
        if method in ("GET", "HEAD"):
            if declared_bytes(headers) > 0:
                raise Refused(413, "body")
            body = None
        else:
            body = await read_body(headers, receive)
        if visitor is not None:
            self._check_binding(route, scope, body, visitor.user_id)
        return _Admitted(route, visitor, body)

    async def _visitor(self, headers: Headers) -> Visitor | None:
        token = cookie_value(headers, cookie_name(self._port))
        if not token:
            return None
        known = self.accounts.remembered(token)
        if known is not None:
            return known
        try:
            return await anyio.to_thread.run_sync(self.accounts.visitor, token)
        except StorageError as error:
            log.warning("a session cannot be looked up: %s", type(error).__name__)
            raise Refused(503, "closing") from error

    async def _key_holder(self, headers: Headers) -> Visitor:
        """Whose key a program shows. Raises `Refused`."""
        given = values(headers, b"authorization")
        scheme, _, key = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        if scheme.lower() != "bearer" or self._keys is None:
            raise Refused(401, "api_key")
        try:
            found = self._keys.remembered(key)
            found = found or await anyio.to_thread.run_sync(self._keys.find, key)
        except StorageError as error:
            log.warning("a key cannot be looked up: %s", type(error).__name__)
            raise Refused(503, "closing") from error
        if found is None:
            raise Refused(401, "api_key")
        if not self.api_on:
            raise Refused(403, "api_off")
        return Visitor(found.user_id, digest(key), found.scopes)

    def _link(self, scope: Scope) -> str:
        """What opened the name under which this was asked for; "" for this machine's own."""
        hosts = values(scope["headers"], b"host")
        return self.hosts.opening(hosts[0]) if self.hosts.allows(hosts) else ""

    def _check_source(self, scope: Scope, method: str, headers: Headers, host: str) -> None:
        """That no page of another address sends this."""
        path = scope["path"]
        site, mode, dest = (
            (values(headers, name) or [""])[0]
            for name in (b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest")
        )
        if foreign_fetch(site, mode, dest, method):
            raise Refused(403, "origin")
        if method in ("GET", "HEAD"):
            return
        origins = values(headers, b"origin")
        if path == LAUNCH and not origins:  # a second start, which shows a secret instead
            return
        program = path.startswith(API) and not origins  # shows a key, which no page knows
        schemes = (scope["scheme"],) if self.hosts.opening(host) else self._schemes
        if not program and not same_origin(origins, host, schemes):
            raise Refused(403, "origin")
        if path == LAUNCH:
            return
        kinds = values(headers, b"content-type")
        if len(kinds) != 1 or kinds[0].split(";")[0].strip().lower() != "application/json":
            raise Refused(415, "type")

    def _check_binding(self, route: Route, scope: Scope, body: bytes | None, user_id: int) -> None:
        """That the Gradio session (and event) named belongs to this user."""
        try:
            if route.binding == "query":
                name = hash_in_query(scope["query_string"])
            elif route.binding == "path":
                name = hash_in_path(scope["path"])
            elif route.binding in ("body", "cancel"):
                content = read_object(body or b"")
                name = hash_in_body(content)
            else:
                return
        except BindingInvalid as error:
            raise Refused(400, "binding") from error
        if not self._sessions.claim(name, user_id):
            raise Refused(403, "binding_foreign")
        if route.binding == "cancel" and not self._events.owns(
            str(content.get("event_id")), user_id
        ):
            raise Refused(403, "binding_foreign")

    # -- answers of the gateway itself --

    async def _redirect(self, scope: Scope, send: Send) -> None:
        """Lead a person who typed "localhost" to the address whose cookie their browser has."""
        port = values(scope["headers"], b"host")[0].partition(":")[2]
        where = f"http://127.0.0.1:{port}/" if port else "http://127.0.0.1/"
        headers = [
            (b"location", where.encode()),
            (b"content-length", b"0"),
            (b"cache-control", b"no-store"),
            *SECURITY_HEADERS,
        ]
        await send({"type": "http.response.start", "status": 302, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async def _refuse(self, scope: Scope, send: Send, refusal: Refused, number: str = "") -> None:
        if refusal.status != 401:
            log.info("refused %d %s", refusal.status, refusal.code)
        if refusal.status == 401 and scope["path"] == HOME:
            local = self.hosts.is_local(_host(scope))
            kind, content = b"text/html; charset=utf-8", self._entrance if local else self._signin
        elif scope["path"].startswith(API):
            said = self._strings.say(f"gateway.{refusal.code}")
            kind, content = b"application/json", of_status(refusal.status, said, refusal.code)
        else:
            answer = {"detail": self._strings.say(f"gateway.{refusal.code}"), "code": refusal.code}
            if number:
                answer["id"] = number
            kind, content = b"application/json", json.dumps(answer).encode()
        headers = [
            (b"content-type", kind),
            (b"content-length", str(len(content)).encode()),
            (b"cache-control", b"no-store"),
            (b"content-security-policy", OWN_POLICY.encode()),
            *SECURITY_HEADERS,
        ]
        if refusal.status == 429:
            headers.append((b"retry-after", b"5"))
        if refusal.status in (403, 408, 413, 429, 431):
            headers.append((b"connection", b"close"))  # part of the request may be unread
        await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else content
        await send({"type": "http.response.body", "body": body})


def _typed_localhost(scope: Scope) -> bool:
    """Whether a person opened our page under "localhost" by typing it or from a bookmark."""
    headers = scope["headers"]
    name = values(headers, b"host")[0].partition(":")[0].lower()
    site, mode = values(headers, b"sec-fetch-site"), values(headers, b"sec-fetch-mode")
    return (
        (scope["method"], scope["path"], name) == ("GET", HOME, "localhost")
        and (site, mode) == (["none"], ["navigate"])
        and scope["scheme"] == "http"
    )


def _host(scope: Scope) -> str:
    return (values(scope["headers"], b"host") or [""])[0]


def _inner_scope(scope: Scope, admitted: _Admitted, *, away: bool) -> Scope:
    """The scope as the app sees it: vouched-for user, harmless headers."""
    passed = PASSED_HEADERS | ({b"authorization"} if scope["path"] == LAUNCH else set())
    headers = [(n, v) for n, v in scope["headers"] if n.lower() in passed]
    if admitted.body is not None:
        headers = [(n, v) for n, v in headers if n.lower() != b"content-length"]
        headers.append((b"content-length", str(len(admitted.body)).encode()))
    visitor = admitted.visitor
    return {
        **scope,
        "headers": headers,
        "corral_user": visitor.user_id if visitor else None,
        "corral_session": visitor.session if visitor else None,
        "corral_scopes": visitor.scopes if visitor else (),
        "corral_away": away,  # came over a link or the network: nothing of the owner's is changed
    }
