"""The routes that may be asked for at all: everything else does not exist for a browser.

An allow-list, because a new version of Gradio may add routes that nobody here has read. Paths are
matched as they are after percent-decoding, the form in which the app below sees them too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from app.asgi import MAX_BODY_BYTES

# Where a request says for which Gradio session it acts.
Binding = Literal["", "body", "cancel", "query", "path"]

MAX_OPEN_BODY_BYTES = 4 << 10

GET = frozenset({"GET", "HEAD"})
POST = frozenset({"POST"})


@dataclass(frozen=True, slots=True)
class Route:
    """One allowed path. `open` ones answer without a session; they are named in the tests."""

    pattern: re.Pattern[str]
    methods: frozenset[str]
    open: bool = False
    key: bool = False  # for keys of the API alone, never for cookies
    local: bool = False  # under this machine's own names alone
    ends: bool = False  # ends the session it came with, and is answered all the same
    binding: Binding = ""
    cache: str = "no-store"

    @property
    def max_body_bytes(self) -> int:
        """How long a body may be: a stranger has a name, a password or a token to say."""
        return MAX_OPEN_BODY_BYTES if self.open else MAX_BODY_BYTES


def _route(
    pattern: str,
    methods: frozenset[str] = GET,
    *,
    open: bool = False,
    key: bool = False,
    local: bool = False,
    ends: bool = False,
    binding: Binding = "",
    cache: str = "no-store",
) -> Route:
    return Route(re.compile(pattern), methods, open, key, local, ends, binding, cache)


_FOREVER = "private, max-age=31536000, immutable"  # the name changes with the content
_DAY = "private, max-age=86400"
_FILE = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,120}"

HEALTH = "/corral/health"
ENTER = "/corral/enter"
LAUNCH = "/corral/launch"
LEAVE = "/corral/leave"
FORGET = "/corral/forget"
SIGN_IN = "/corral/signin"
INVITATION = "/corral/invitation"
API = "/v1/"
STATIC = "/corral/"
HOME = "/"

ROUTES: tuple[Route, ...] = (
    # Open: health, the exchange of launch tokens, sign-in, invitations, and what these pages are
    # drawn with.
    _route(HEALTH, open=True),
    _route(ENTER, GET | POST, open=True, local=True),
    _route(LAUNCH, POST, open=True, local=True),
    _route(SIGN_IN, GET | POST, open=True),
    _route(INVITATION, GET | POST, open=True),
    _route(
        STATIC + r"(entrance\.css|(entrance|signin)\.js|icons/corral\.svg)", open=True, cache="keep"
    ),
    # Programs, each with a key.
    _route(API + r"(chat/completions|completions|moderations)", POST, key=True),
    _route(API + r"models(/[A-Za-z0-9_.:@/-]{1,200})?", key=True),
    _route(API + r"openapi\.json", key=True),
    # Ours, with a session.
    _route(LEAVE, POST, ends=True),
    _route(FORGET, POST),
    _route(STATIC + r"(icons/)?[a-z0-9_-]{1,60}\.(css|js|svg|png|ico|woff2)", cache="keep"),
    # The page of Gradio and what its front end loads and calls.
    _route(HOME),
    _route(r"/config/?"),
    _route(rf"/assets/({_FILE}/){{0,2}}{_FILE}", cache=_FOREVER),
    _route(rf"/svelte/{_FILE}", cache=_FOREVER),
    _route(rf"/static/({_FILE}/){{0,3}}{_FILE}", cache=_DAY),
    _route(r"/favicon\.ico", cache=_DAY),
    _route(r"(/gradio_api)?/theme\.css", cache=_DAY),
    _route(r"/gradio_api/startup-events"),
    _route(r"/gradio_api/queue/join", POST, binding="body"),
    _route(r"/gradio_api/queue/data", binding="query"),
    _route(r"/gradio_api/component_server/?", POST, binding="body"),
    _route(r"/gradio_api/cancel", POST, binding="cancel"),
    _route(r"/gradio_api/heartbeat/[^/]+", binding="path"),
)


def find(path: str) -> Route | None:
    """The allowed route of a decoded path, or None."""
    return next((route for route in ROUTES if route.pattern.fullmatch(path)), None)
