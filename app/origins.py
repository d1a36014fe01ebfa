"""From which pages requests may come: what changes something, from exactly the address it goes to.

A browser tells it by `Origin` and `Sec-Fetch-*`, which no script can set.
"""

from __future__ import annotations

from collections.abc import Iterable

from app.asgi import Refused, Scope, values
from app.routes import API, LAUNCH

_FETCH_SITES = frozenset({"same-origin", "same-site", "cross-site", "none"})


def check_source(scope: Scope, schemes: Iterable[str]) -> None:
    """That no page of another address sends this. Raises `Refused`.

    `schemes` are those under which the asked name is served. Only JSON may change something: a form
    of another site cannot send it without asking first, and nobody here answers that question.
    """
    headers, method, path = scope["headers"], scope["method"], scope["path"]
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
    if not program and not same_origin(origins, values(headers, b"host")[0], schemes):
        raise Refused(403, "origin")
    if path == LAUNCH:
        return
    kinds = values(headers, b"content-type")
    if len(kinds) != 1 or kinds[0].split(";")[0].strip().lower() != "application/json":
        raise Refused(415, "type")


def same_origin(origins: list[str], host: str, schemes: Iterable[str]) -> bool:
    """Whether the Origin headers are exactly one and name the page that `host` itself serves."""
    if len(origins) != 1:
        return False
    given = origins[0].lower()
    return any(given == f"{scheme}://{host.lower()}" for scheme in schemes)


def foreign_fetch(site: str, mode: str, dest: str, method: str) -> bool:
    """Whether Sec-Fetch-* headers tell that another site's page makes this request.

    A person following a link (a top-level GET navigation) may come from anywhere; nothing else
    may. Browsers without these headers are held by the Origin check and the cookie's SameSite.
    """
    if site in ("", "same-origin", "none"):
        return False
    if site not in _FETCH_SITES:
        return True
    return not (method in ("GET", "HEAD") and mode == "navigate" and dest == "document")
