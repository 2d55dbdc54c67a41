"""A network that fails on demand: a proxy on the loopback interface, to stand between a client and a server."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

T = TypeVar("T")

_HOST = "127.0.0.1"
_CHUNK = 65_536
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: closing sends a reset in place of an orderly end


@dataclass(frozen=True, slots=True)
class Fault:
    """How the network behaves.

    Attributes:
        kind: `pass`: as it should. `delay`: every piece comes `seconds` later. `stall`: nothing comes through; what was
            sent comes when the fault is over. `refuse`: new connections are refused, those that there are go on.
            `reset`: every connection is reset, new ones at once. `half-open`: requests go up, and the answers are
            swallowed: the server did what nobody learns of. `cut`: a connection is reset once `size` bytes went up.
            `cut-answers`: once `size` bytes of answers came down.
        seconds: See `delay`.
        size: See `cut`.
    """

    kind: Literal["pass", "delay", "stall", "refuse", "reset", "half-open", "cut", "cut-answers"]
    seconds: float = 0.0
    size: int = 0


PASS = Fault("pass")
STALL = Fault("stall")
REFUSE = Fault("refuse")
RESET = Fault("reset")
HALF_OPEN = Fault("half-open")


def delay(seconds: float) -> Fault:
    """Return the fault in which every piece comes later."""
    return Fault("delay", seconds=seconds)


def cut_after(size: int) -> Fault:
    """Return the fault in which a connection is reset once so many bytes of requests went up."""
    return Fault("cut", size=size)


def cut_answers_after(size: int) -> Fault:
    """Return the fault in which a connection is reset once so many bytes of answers came down."""
    return Fault("cut-answers", size=size)


class FaultProxy:
    """Passes connections on to a server, and spoils them as it is told, at any time and from any thread.

    It lives on an event loop of its own, so that it works while the loop of a test is busy or blocked.

    Args:
        port: Where the server listens.
        host: The server's host.

    Example:
        >>> from millstream.testing.proxy import REFUSE, FaultProxy
        >>> with FaultProxy(5432) as proxy:
        ...     proxy.behave(REFUSE)
        ...     proxy.connections
        0

    Attributes:
        port: Where the proxy listens, on 127.0.0.1.
    """

    def __init__(self, port: int, host: str = _HOST) -> None:
        """Take the server; nothing listens yet."""
        self.port = 0
        self._server = (host, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="fault-proxy")
        self._place: socket.socket | None = None
        self._listener: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._fault = PASS
        self._over = asyncio.Event()
        self._trigger: tuple[bytes, Fault] | None = None
        self._changed = asyncio.Event()
        self._triggered = threading.Event()

    def __enter__(self) -> Self:
        """Listen."""
        self._thread.start()
        # Bound and never listening: it keeps the port while connections to it are refused.
        self._place = _bound(0)
        self.port = self._place.getsockname()[1]
        self._call(self._listen())
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        """Reset what is open, and listen no more."""
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if self._place is not None:
            self._place.close()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._links)

    def behave(self, fault: Fault) -> None:
        """Behave so from now on; when this returns, it is so."""
        self._call(self._behave(fault))

    def behave_at(self, request: bytes, fault: Fault) -> None:
        """Behave so from the moment on in which a request with these bytes comes by; it is the first one spoiled."""
        self._triggered.clear()
        self._trigger = (request, fault)

    def wait(self, timeout: float = 30.0) -> None:
        """Block until the request that `behave_at` named has come by.

        Raises:
            TimeoutError: It has not, in `timeout` seconds.
        """
        if not self._triggered.wait(timeout):
            raise TimeoutError(f"the request did not come by in {timeout:g} s")

    # ------------------------------------------------------------------------------------------- on its own loop
    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._serve, sock=_bound(self.port))

    async def _behave(self, fault: Fault) -> None:
        self._fault = fault
        self._changed.set()
        self._changed = asyncio.Event()
        if fault.kind == "refuse" and self._listener is not None:
            await _refuse(self._listener)
            self._listener = None
        elif fault.kind != "refuse" and self._listener is None:
            await self._listen()
        for link in list(self._links):
            link.sent = 0
            if fault.kind == "reset":
                link.reset()

    async def _close(self) -> None:
        await self._behave(REFUSE)
        self._over.set()
        for link in self._links:
            link.reset()
        while left := asyncio.all_tasks() - {asyncio.current_task()}:  # connections that are being made, too
            await asyncio.wait(left)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._fault.kind == "reset" or self._over.is_set():
            _abort(writer)
            return
        try:
            upper_reader, upper_writer = await asyncio.open_connection(*self._server)
        except OSError:
            _abort(writer)
            return
        link = _Link(writer, upper_writer)
        self._links.add(link)
        try:
            if self._over.is_set():
                return
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(link, reader, upper_writer, is_request=True))
                group.create_task(self._pump(link, upper_reader, writer, is_request=False))
        except* OSError:
            pass  # one of the two ends is gone, and so is the other in a moment
        finally:
            self._links.discard(link)
            link.reset()

    async def _pump(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_request: bool
    ) -> None:
        while piece := await reader.read(_CHUNK):
            if is_request:
                await self._notice(piece)
            while self._fault.kind == "stall":
                await self._changed.wait()
            match self._fault:
                case Fault("delay", seconds=seconds):
                    await asyncio.sleep(seconds)
                case Fault("half-open") if not is_request:
                    continue
                case Fault("cut" | "cut-answers" as kind, size=size) if is_request == (kind == "cut"):
                    piece = piece[: size - link.sent]
                    link.sent += len(piece)
            writer.write(piece)
            await writer.drain()
            if self._fault.kind in ("cut", "cut-answers") and link.sent >= self._fault.size:
                raise ConnectionResetError
        writer.write_eof()

    async def _notice(self, piece: bytes) -> None:
        if self._trigger is not None and self._trigger[0] in piece:
            fault, self._trigger = self._trigger[1], None
            await self._behave(fault)
            self._triggered.set()


class _Link:
    """One connection: from the client, and on to the server."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._ends = (client, server)
        self.sent = 0

    def reset(self) -> None:
        for end in self._ends:
            _abort(end)


async def _refuse(listener: asyncio.Server) -> None:
    """Listen no more, once those who were let in are served: asyncio leaves their connections open otherwise."""
    for place in listener.sockets:
        asyncio.get_running_loop().remove_reader(place.fileno())
    await asyncio.sleep(0)
    listener.close()


def _bound(port: int) -> socket.socket:
    place = socket.socket()
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    place.bind((_HOST, port))
    return place


def _abort(writer: asyncio.StreamWriter) -> None:
    end = writer.get_extra_info("socket")
    if end is not None and not writer.transport.is_closing():
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
