"""Where tasks may connect to: which addresses are refused, and the transport that connects to no other.

A name is resolved once for each request, a redirect's too, and the connection goes to the very address that was
checked. So it makes no difference how an address is written, what a name server answers the next time, or which proxy
the environment names.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from ssl import SSLContext
from typing import Final

import anyio
import httpx

from millstream.errors import EgressDeniedError

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a host name, for connections to a port."""

_PORTS: Final = {"http": 80, "https": 443}


class Egress:
    """Which addresses may be connected to: those of the public internet, and what is allowed beside.

    Args:
        allow: Networks (`10.1.0.0/16`), addresses and host names that are allowed though they are not public; a name
            with all its addresses.

    >>> Egress(["10.1.0.0/16"]).permits("db.example.org", "10.1.2.3")
    True
    """

    def __init__(self, allow: Sequence[str] = ()) -> None:
        """Take what is allowed."""
        networks = {name: _network(name) for name in allow}
        self._networks = [network for network in networks.values() if network is not None]
        self._names = {name.lower().rstrip(".") for name, network in networks.items() if network is None}

    def permits(self, host: str, address: str) -> bool:
        """Whether an address may be connected to, which the host of a URL has.

        >>> Egress().permits("localhost", "::ffff:127.0.0.1")
        False
        """
        if host.lower().rstrip(".") in self._names:
            return True
        found = ip_address(address)
        return _is_public(found) or any(one in network for network in self._networks for one in _meanings(found))


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text)
    except ValueError:
        return None


def _meanings(address: Address) -> Iterator[Address]:
    """Yield an address, and the IPv4 address that it stands for."""
    yield address
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        yield address.ipv4_mapped


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is not None:
            return _is_public(inner)
        if address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host as the operating system knows them, in its order.

    Raises:
        OSError: It has none.
    """
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(place[0]) for *_, place in found]


class EgressTransport(httpx.AsyncBaseTransport):
    """Sends requests to addresses that are permitted, and to no others.

    Args:
        egress: What is permitted.
        resolve: Finds the addresses of a host.
    """

    def __init__(self, egress: Egress, resolve: Resolve = resolve) -> None:
        """Connect to nothing yet."""
        self._egress = egress
        self._resolve = resolve
        self._inner = httpx.AsyncHTTPTransport(verify=_tls())

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to the first of its host's permitted addresses that answers.

        Raises:
            EgressDeniedError: None of its addresses is permitted.
            httpx.UnsupportedProtocol: It is no `http` or `https` URL.
            httpx.ConnectError: Its host has no address, or none answers.
        """
        host = request.url.raw_host.decode("ascii")
        if request.url.scheme not in _PORTS or not host:
            raise httpx.UnsupportedProtocol("give one as in https://example.org/path")
        port = request.url.port or _PORTS[request.url.scheme]
        failed: httpx.TransportError | None = None
        for address in await self._permitted(host, port):
            direct = httpx.Request(
                request.method,
                request.url.copy_with(host=address),
                headers=request.headers,  # with the `Host` of the URL
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": host},
            )
            try:
                response = await self._inner.handle_async_request(direct)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failed = error
                continue
            return response
        raise failed or httpx.ConnectError(f"{host} has no address")

    async def _permitted(self, host: str, port: int) -> list[str]:
        try:
            addresses = await self._resolve(host, port)
        except OSError as error:
            raise httpx.ConnectError(f"{host} has no address: {error}") from error
        permitted = [address for address in addresses if self._egress.permits(host, address)]
        if addresses and not permitted:
            raise EgressDeniedError(  # without the address, which is nobody's business who cannot reach it
                f"egress-denied: {host} is not on the public internet; the setting egress_allow can allow it"
            )
        return permitted

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


@cache
def _tls() -> SSLContext:
    """Return what connections are checked by; made once, for it reads a file of a hundred certificates."""
    return httpx.create_ssl_context()
