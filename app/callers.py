"""Who asks: the person behind a session cookie, or the program behind a key of the API.

Neither opens what the other does: the page never looks at keys, the API never at cookies.
"""

from __future__ import annotations

import logging

import anyio

from app.accounts import Accounts, Visitor, cookie_name, digest
from app.api.keys import Keys
from app.asgi import Headers, Refused, cookie_value, values
from storage.records import StorageError

log = logging.getLogger("corral.gateway")


class Callers:
    """Looks up cookies and keys, in memory first and then on a thread."""

    def __init__(self, accounts: Accounts, keys: Keys | None, port: int) -> None:
        self._accounts = accounts
        self._keys = keys
        self._port = port

    async def person(self, headers: Headers, *, secure: bool) -> Visitor | None:
        """Whose session the cookie is; None for no or an ended one. Raises `Refused`."""
        token = cookie_value(headers, cookie_name(self._port, secure=secure))
        if not token:
            return None
        known = self._accounts.remembered(token)
        if known is not None:
            return known
        try:
            return await anyio.to_thread.run_sync(self._accounts.visitor, token)
        except StorageError as error:
            raise _closing(error) from error

    async def program(self, headers: Headers) -> Visitor:
        """Whose key is shown. Raises `Refused` for none, several and unknown ones."""
        given = values(headers, b"authorization")
        scheme, _, key = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        if scheme.lower() != "bearer" or self._keys is None:
            raise Refused(401, "api_key")
        try:
            found = self._keys.remembered(key)
            found = found or await anyio.to_thread.run_sync(self._keys.find, key)
        except StorageError as error:
            raise _closing(error) from error
        if found is None:
            raise Refused(401, "api_key")
        return Visitor(found.user_id, digest(key), found.scopes)

    def stands(self, shown: bytes, *, api_on: bool) -> bool:
        """Whether the session or key of that digest still opens anything. Blocks."""
        if self._accounts.stands(shown):
            return True
        return api_on and self._keys is not None and self._keys.stands(shown)

    def renewed(self, headers: Headers, *, secure: bool) -> str:
        """The Set-Cookie header that lets the session's idle time begin anew."""
        token = cookie_value(headers, cookie_name(self._port, secure=secure))
        return self._accounts.cookie(self._port, token, secure=secure)


def _closing(error: StorageError) -> Refused:
    log.warning("a caller cannot be looked up: %s", type(error).__name__)
    return Refused(503, "closing")
