"""Tells who makes a request: by a token, an API key, the browser's cookie, or, on this machine, by nothing."""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Scope

from millstream.server.access.local import is_local, is_same_origin
from millstream.server.access.principal import Principal
from millstream.server.access.sessions import Sessions
from millstream.server.access.tokens import is_same, read_key
from millstream.server.problem import forbidden, unauthorized

SECURE_COOKIE: Final = "__Host-ms"
LOCAL_COOKIE: Final = "ms_session"
"""On plain HTTP on this machine, where browsers would not take the other."""

NOT_VALID: Final = "this token is not valid, or not any more; sign in again"

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_REFRESH: Final = ("POST", "/api/v1/refresh")
"""The only request that a refresh token is good for."""


class Door:
    """Tells who makes a request.

    Args:
        sessions: The sessions and API keys.
        auto_login: Whether who says nothing, on this machine, is the first superuser.
    """

    def __init__(self, sessions: Sessions, *, auto_login: bool) -> None:
        """Take what it needs."""
        self._sessions, self._auto_login = sessions, auto_login

    async def principal(self, scope: Scope, headers: Headers) -> Principal | None:
        """Return who makes a request; `None` where it says nothing.

        Raises:
            Problem: What it says is not so (401), or a page of somebody else's sent the cookie along (403).
            LedgerUnavailableError: The ledger does not answer.
        """
        if (said := headers.get("authorization")) is not None:
            return await self._by_bearer(scope, said)
        if (key := headers.get("x-api-key")) is not None:
            return await self._by_key(key)
        if (token := _cookie(scope, headers)) is not None:
            return await self._by_cookie(scope, headers, token)
        if self._auto_login and is_local(scope, headers):
            user = await self._sessions.first_superuser()
            return None if user is None else Principal(user, "auto")
        return None

    async def _by_bearer(self, scope: Scope, said: str) -> Principal:
        kind, _, token = said.partition(" ")
        if kind.lower() != "bearer":
            raise unauthorized(f"this server does not know the scheme {kind[:20]!r}; send a Bearer token")
        is_refresh = (scope["method"], scope["path"]) == _REFRESH
        look = self._sessions.refreshing if is_refresh else self._sessions.find
        found = await look(token.strip())
        if found is None or (found[0].kind == "refresh") is not is_refresh:
            raise unauthorized(NOT_VALID)
        return Principal(found[1], "bearer", family=found[0].family)

    async def _by_key(self, text: str) -> Principal:
        read = read_key(text)
        found = read and await self._sessions.key(read[0])
        if not read or not found or not is_same(read[1], found[0].digest):
            raise unauthorized("this API key is not valid, or not any more")
        return Principal(found[1], "key", key=found[0])

    async def _by_cookie(self, scope: Scope, headers: Headers, token: str) -> Principal:
        found = await self._sessions.find(token)
        if found is None or found[0].kind != "access":
            raise unauthorized("you are signed out; sign in again")
        if scope["method"] not in _SAFE and not is_same_origin(scope, headers, unsaid=False):
            raise forbidden("a page of another site sent this; nothing was done")
        return Principal(found[1], "cookie", family=found[0].family)


def _cookie(scope: Scope, headers: Headers) -> str | None:
    try:
        found = SimpleCookie("; ".join(headers.getlist("cookie")))
    except CookieError:
        return None
    morsel = found.get(SECURE_COOKIE if scope["scheme"] == "https" else LOCAL_COOKIE)
    return None if morsel is None else morsel.value
