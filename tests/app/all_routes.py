"""Every route of the app with its page, and a path that each matches."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from fastapi.routing import iter_route_contexts
from starlette.routing import Mount

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")


def all_routes(app: Any, prefix: str = "") -> Iterator[str]:
    """The path of every route of an app and of what is mounted in it."""
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        if isinstance(route, Mount):
            yield from all_routes(route.app, prefix + route.path)
        else:
            yield prefix + str(context.path)


def example(path: str) -> str:
    """A path that a route's pattern matches."""
    return re.sub(r"\{[^}]*\}", "x1234", path)
