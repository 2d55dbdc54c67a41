"""Runs the server in this process, alone or as one of several: Uvicorn on one socket, and a polite end."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from millstream.errors import AddressInUseError
from millstream.server.protocol import BoundedProtocol
from millstream.server.site import Site
from millstream.settings import Settings

_BACKLOG = 2048
_KEEP_ALIVE_SECONDS = 75
"""Longer than clients keep an idle connection: else one is closed just when it is used again."""


def listen(host: str, port: int) -> socket.socket:
    """Return the one socket that the server listens on.

    Args:
        host: An address of this machine, or a name of it.
        port: The port; 0: one that is free.

    Raises:
        AddressInUseError: Another program has it, or the address is not this machine's.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)  # `localhost` is both
        listening = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        words = error.strerror or str(error)
        raise AddressInUseError(f"cannot listen on {host}:{port}: {words}; give another --host or --port") from error
    # Connections inherit it. asyncio's own loop leaves it out on sockets that it has not made itself, and the parts of
    # an answer then wait for each other: 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def url_of(listening: socket.socket) -> str:
    """Return where a socket listens, as a URL."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class HttpServer(uvicorn.Server):
    """Serves an application until it is told to stop.

    Args:
        api: What `create_app` returned.
        settings: Where to listen, which proxies are in front, and how long open requests may take at the end.
        most_requests: After so many it stops by itself; `None`: never.
    """

    def __init__(self, api: FastAPI, settings: Settings, *, most_requests: int | None = None) -> None:
        """Listen to nothing yet."""
        proxies = list(settings.trusted_proxies)
        super().__init__(
            uvicorn.Config(
                api,
                lifespan="off",  # it is entered here, so that what goes wrong at the start is raised, and not logged
                http=BoundedProtocol,
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=bool(proxies),
                forwarded_allow_ips=proxies,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=math.ceil(settings.drain_grace),
                limit_max_requests=most_requests,
            )
        )
        self._api, self._address = api, (settings.host, settings.port)
        self._ready: Callable[[str], None] = _unheard
        self._leaving: Callable[[], None] = _nothing

    async def run_until_stopped(
        self,
        ready: Callable[[str], None],
        *,
        listening: socket.socket | None = None,
        leaving: Callable[[], None] | None = None,
    ) -> None:
        """Start, serve, and close everything behind it.

        Args:
            ready: Is called with the address once requests are answered.
            listening: The socket to answer on; by default one of its own, at the address in the settings.
            leaving: Is called once no more connections are taken.

        Raises:
            AddressInUseError: It cannot listen there.
            Exception: What the start of the app raises.
        """
        self._ready, self._leaving = ready, leaving or _nothing
        with listening or listen(*self._address) as taken:
            async with self._api.router.lifespan_context(self._api):
                await self.serve([taken])

    def stop(self) -> None:
        """Take no more requests, and let end what is open; from its event loop."""
        self.should_exit = True

    def hurry(self) -> None:
        """Stop, and wait for nothing that is open; from its event loop."""
        site: Site = self._api.state.site
        site.hurry()
        self.should_exit = self.force_exit = True

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Begin to answer, and say where."""
        await super().startup(list(sockets or ()))
        self._ready(url_of((sockets or ())[0]))

    async def shutdown(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Take no more requests, and let those end that are open: streams at once, others within the grace."""
        site: Site = self._api.state.site
        self._leaving()
        site.stop()
        for server in self.servers:
            server.close()
        await asyncio.sleep(0)  # what was taken a moment ago is then among the connections that are told to end
        await super().shutdown(list(sockets or ()))

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave the signals to whoever runs this."""
        yield


def _unheard(_: str) -> None:
    pass


def _nothing() -> None:
    pass
