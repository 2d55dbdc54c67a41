"""The outer layer: every request passes it, and none passes without a credential but to what is on the list.

It also gives each answer its security headers, and makes an answer of whatever is raised below.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from fastapi.routing import iter_route_contexts
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from millstream.server.access.admission import Admission
from millstream.server.access.local import is_local
from millstream.server.access.principal import PRINCIPAL, Principal
from millstream.server.access.public import LOCAL, PUBLIC
from millstream.server.problem import Problem, answer, cut_off, forbidden, unauthorized
from millstream.server.site import Site

MAX_HEADER_BYTES: Final = 16 << 10

_MONITOR: Final = "/api/v1/monitor/"
"""Who may not look there is told so, signed in or not."""

_SECURITY: Final = {
    "content-security-policy": (
        "default-src 'self'; script-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


class AccessLayer:
    """Denies by default.

    Args:
        app: What is below.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Take what is below."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        match scope["type"]:
            case "http":
                await self._answer(scope, receive, send)
            case "websocket":
                await send({"type": "websocket.close", "code": 1008})  # there are none
            case _:
                await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        site: Site = scope["app"].state.site
        out = _Out(send)
        look = partial(site.door.principal, scope, Headers(scope=scope))
        try:
            scope[PRINCIPAL] = found = await self._admit(scope, look)
            if found is not None:
                out.admission = Admission(look, site.clock)
            await self._app(scope, receive, out)
        except ClientDisconnect:
            return  # nobody is there to be answered
        except asyncio.CancelledError:
            if out.has_begun or not site.stopping.is_set():
                raise
            await answer(cut_off(), scope["path"])(scope, receive, out)  # it is the server that ended the wait
        except Exception as error:
            if out.has_begun:
                raise
            await answer(error, scope["path"])(scope, receive, out)

    async def _admit(self, scope: Scope, look: Callable[[], Awaitable[Principal | None]]) -> Principal | None:
        """Return who makes a request; `None` where that does not matter.

        Args:
            scope: The request.
            look: Tells who makes it, or `None` where it does not say.

        Raises:
            Problem: They have to say who they are (401), or may not do this (403).
            LedgerUnavailableError: The ledger does not answer.
        """
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
            raise Problem(431, f"the headers are larger than {MAX_HEADER_BYTES} bytes", headers={"Connection": "close"})
        if (scope["method"], scope["path"]) in PUBLIC:
            return None  # whoever it is: a stale token, or a ledger that is silent, keeps nobody from these
        is_monitor = scope["path"].startswith(_MONITOR)
        try:
            found = await look()
        except Problem:
            if _route_of(scope) in PUBLIC:
                return None
            if is_monitor:
                raise forbidden() from None
            raise
        if is_monitor and (found is None or not found.user.is_superuser):
            raise forbidden()
        if found is None:
            route = _route_of(scope)
            if route not in PUBLIC and not (route in LOCAL and is_local(scope, Headers(scope=scope))):
                raise unauthorized()
        return found


class _Out:
    """Sends an answer, with its security headers, as long as whoever gets it may.

    Attributes:
        admission: Says whether they still may; `None` where that does not matter.
        has_begun: Whether anything was sent.
    """

    __slots__ = ("_is_over", "_send", "admission", "has_begun")

    def __init__(self, send: Send) -> None:
        """Send nothing yet."""
        self._send = send
        self.admission: Admission | None = None
        self.has_begun = self._is_over = False

    async def __call__(self, message: Message) -> None:
        """Send a part of the answer."""
        if self._is_over:
            return
        if message["type"] == "http.response.start":
            self.has_begun = True
            headers = MutableHeaders(scope=message)
            for name, value in _SECURITY.items():
                headers.setdefault(name, value)
            headers.setdefault("cache-control", "no-store")
        elif message.get("more_body") and self.admission is not None and not await self.admission.holds():
            # The end tells the server, and so whoever streams, that nobody listens any more.
            self._is_over, message = True, {"type": "http.response.body", "body": b""}
        await self._send(message)


def _route_of(scope: Scope) -> tuple[str, str] | None:
    """Return method and path template of the route that will answer a request; `None` where there is none."""
    trial = {**scope, "path_params": {}}
    for route in iter_route_contexts(scope["app"].router.routes):
        if route.matches(trial)[0] is Match.FULL:
            return scope["method"], route.path_format or ""
    return None
