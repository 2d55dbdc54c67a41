"""Which requests come from this machine, and from a page that this server sent: those can do without a credential."""

from __future__ import annotations

import re
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Scope

from millstream.urls import is_loopback

_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_FORWARDED: Final = re.compile("forwarded|x-forwarded-.*|x-real-ip|via|cf-connecting-ip|true-client-ip")
"""What proxies add: then the request came from elsewhere, whoever connected here."""


def host_of(headers: Headers) -> str:
    """Return the name in `Host`, without the port."""
    return _split(headers.get("host", ""))


def _split(authority: str) -> str:
    name, colon, port = authority.lower().rpartition(":")
    return name if colon and (port.isdecimal() or not port) else authority.lower()


def is_local(scope: Scope, headers: Headers) -> bool:
    """Return whether a request comes from this machine, by a name that no foreign page can make its own.

    A name of somebody else's that resolves to 127.0.0.1 (DNS rebinding) shows in `Host`, a page of somebody else's in
    `Sec-Fetch-Site` and `Origin`.
    """
    client = scope.get("client")
    return (
        client is not None
        and is_loopback(client[0])
        and host_of(headers) in _NAMES
        and len(headers.getlist("host")) == 1
        and not any(_FORWARDED.fullmatch(name) for name in headers)
        and is_same_origin(scope, headers, unsaid=True)
    )


def is_same_origin(scope: Scope, headers: Headers, *, unsaid: bool) -> bool:
    """Return whether a request was made by a page of this server, or by the user directly.

    Args:
        scope: The request.
        headers: Its headers.
        unsaid: What counts where the browser, or what is none, said neither.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = headers.get("origin")
    if origin is not None:
        return origin == f"{scope['scheme']}://{headers.get('host', '')}"
    return unsaid
