"""Wake-ups between the processes of one ledger. Nothing depends on them but speed: whoever misses one looks later.

Here also the bell of processes on one machine, over sockets beside the ledger's file; that of PostgreSQL is in
`notify.py`.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Literal, Protocol, cast, get_args

from millstream.clock import new_id
from millstream.ledger.fork import call_in_child

Topic = Literal["queued", "changed", "ended"]
"""What happened to a job. `queued`: a segment of it can be claimed. `changed`: it was asked to stop, or got an answer,
so whoever holds it should look. `ended`: it is over."""

Heard = Callable[[Topic, str], None]
"""Gets a topic and the id of the job."""


class Bell(Protocol):
    """Carries wake-ups to the other processes of a ledger. Each may be lost, come late, or come twice."""

    async def listen(self, heard: Heard) -> None:
        """Call `heard` on this loop for what others ring from now on; can be called once."""

    def ring(self, topic: Topic, job_id: str, queue: str | None = None) -> None:
        """Wake the others; neither blocks nor fails, and does nothing before `listen` and after `close`.

        Args:
            topic: What happened.
            job_id: The job.
            queue: For `queued`, the queue of the segment; `None` for the default one. Bells that wake all need not ask.
        """

    async def close(self) -> None:
        """Send what was rung, and hear nothing more; may be called twice, and before `listen`."""


_TOPICS: frozenset[str] = frozenset(get_args(Topic))
CHANNEL = "millstream"
"""What wake-ups are notified on, on PostgreSQL."""

_ENDING = ".bell"
_DATAGRAM = 4096
_LINES = _DATAGRAM // 64


def write(rung: Iterable[tuple[Topic, str]]) -> bytes:
    """Return the written form of wake-ups."""
    return "\n".join(f"{topic} {job_id}" for topic, job_id in rung).encode()


def read(data: bytes) -> list[tuple[Topic, str]]:
    r"""Return the wake-ups that are written; what is none is left out, for anybody may have sent it.

    >>> read(b"queued a\nhello")
    [('queued', 'a')]
    """
    told = (line.partition(" ") for line in data.decode(errors="replace").splitlines())
    return [(cast("Topic", topic), job_id) for topic, _, job_id in told if topic in _TOPICS]


class SocketBell:
    """The bell of processes on one machine: each listens on a datagram socket of its own, all in one directory.

    Args:
        directory: Where the sockets are; it is made when it is needed.
    """

    def __init__(self, directory: Path) -> None:
        """Open nothing yet."""
        self._directory = directory
        self._name = f"{new_id()}{_ENDING}"
        self._place: int | None = None
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop
        self._rung: dict[tuple[Topic, str], None] = {}  # each once, in order
        self._others: tuple[int, list[str]] = (0, [])
        call_in_child(self._drop)

    async def listen(self, heard: Heard) -> None:
        """Begin to hear; see `Bell.listen`. Where no socket can be made, nothing is heard."""
        self._loop = asyncio.get_running_loop()
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            self._place = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            bound.bind(self._path(self._name))
        except OSError:
            return
        self._socket = bound
        self._loop.add_reader(bound.fileno(), self._receive, bound, heard)

    def ring(self, topic: Topic, job_id: str, queue: str | None = None) -> None:  # noqa: ARG002  all are woken
        """Wake the others, with all that is rung in this turn of the loop; see `Bell.ring`."""
        if self._socket is None:
            return
        if not self._rung and not self._loop.is_closed():
            self._loop.call_soon(self._send)
        self._rung[topic, job_id] = None

    async def close(self) -> None:
        """Stop; see `Bell.close`."""
        bound = self._socket
        if bound is not None:
            self._send()
            if not self._loop.is_closed():
                self._loop.remove_reader(bound.fileno())
            self._remove(self._name)
        self._drop()

    def _receive(self, bound: socket.socket, heard: Heard) -> None:
        with suppress(BlockingIOError):
            while True:
                for topic, job_id in read(bound.recv(_DATAGRAM)):
                    heard(topic, job_id)

    def _send(self) -> None:
        rung, self._rung = list(self._rung), {}
        if self._socket is None or not rung:
            return
        others = self._listed()
        for start in range(0, len(rung), _LINES) if others else ():
            data = write(rung[start : start + _LINES])
            for name in others:
                self._send_to(self._socket, name, data)

    def _send_to(self, bound: socket.socket, name: str, data: bytes) -> None:
        try:
            bound.sendto(data, self._path(name))
        except BlockingIOError:  # it has more to wake up to than it can take
            pass
        except ConnectionRefusedError:  # its process is gone
            self._remove(name)
        except OSError:
            self._others = (0, [])

    def _listed(self) -> list[str]:
        """Return the sockets of the others; the directory is read again only when it has changed."""
        if self._place is None:
            return []
        changed = os.fstat(self._place).st_mtime_ns
        if changed != self._others[0]:
            found = os.listdir(self._place)  # noqa: PTH208  a Path has no descriptor
            self._others = (changed, [name for name in found if name.endswith(_ENDING) and name != self._name])
        return self._others[1]

    def _remove(self, name: str) -> None:
        with suppress(OSError):
            os.unlink(name, dir_fd=self._place)

    def _path(self, name: str) -> str:
        """Return a path to a socket that is short enough: an address of a socket has 107 bytes, a path 4,096."""
        through = Path(f"/proc/self/fd/{self._place}")
        return str((through if through.exists() else self._directory) / name)

    def _drop(self) -> None:
        bound, self._socket = self._socket, None
        place, self._place = self._place, None
        self._rung = {}
        if bound is not None:
            bound.close()
        if place is not None:
            os.close(place)
