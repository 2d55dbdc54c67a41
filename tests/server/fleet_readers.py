"""Clients that read a build while processes come and go: as a browser does, they go on elsewhere from their cursor."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import httpx

from millstream.model.event import Cursor
from tests.server.fleet import Fleet, ServerProcess, until

_PAUSE_SECONDS = 0.02


class Seen(NamedTuple):
    """One event, as a client got it."""

    cursor: Cursor
    event: str
    data: Any

    @property
    def is_durable(self) -> bool:
        """Whether it is one of those that every reader gets."""
        return self.cursor.k == 0


class Reader(threading.Thread):
    """Streams a build from one process after the other, until its end.

    Args:
        fleet: Whose processes are read from.
        job_id: The build.
        processes: From where, in turn: from the next one when the stream was cut; those that are gone are left out, and
            when none is left, any.
        after: The cursor to begin after.

    Attributes:
        job_id: The build.
        seen: What came, once each.
        cuts: How its streams ended before the build did: with an error of the connection, or with `None` politely.
    """

    def __init__(self, fleet: Fleet, job_id: str, *processes: ServerProcess, after: str | None = None) -> None:
        """Begin to read."""
        super().__init__(daemon=True, name=f"reader of {job_id}")
        self._fleet, self.job_id, self._route = fleet, job_id, iter(processes)
        self._after = after
        self._socket: socket.socket | None = None
        self._stopped = threading.Event()
        self.seen: list[Seen] = []
        self.cuts: list[Exception | None] = []
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Read until the end comes, or until nobody waits for it any more."""
        try:
            while not self.has_end and not self._stopped.is_set():
                self._read()
        except BaseException as error:  # noqa: BLE001  it is raised where the test waits
            self.error = error

    @property
    def has_end(self) -> bool:
        """Whether the last event has come."""
        return bool(self.seen) and self.seen[-1].event == "end"

    @property
    def tokens(self) -> list[str]:
        """The tokens that came."""
        return [seen.data["chunk"].strip() for seen in self.seen if seen.event == "token"]

    def wait_for(self, what: Callable[[Reader], Any]) -> None:
        """Wait until it has seen something."""

        def holds() -> Any:
            self.check()
            return what(self)

        until(holds, lambda: f"{self.told()}\n{self._fleet.said()}")

    def count(self, event: str) -> int:
        """Return how many events of a name came."""
        return [seen.event for seen in self.seen].count(event)

    def wait_end(self) -> Reader:
        """Wait until the last event has come."""
        try:
            self.wait_for(lambda reader: reader.has_end)
        finally:
            self._stopped.set()
        return self

    def leave(self) -> None:
        """Read no further once something has come: cut the connection, as a browser whose tab is closed."""
        self.wait_for(lambda reader: reader.seen)
        self._stopped.set()
        if self._socket is not None:
            with suppress(OSError):  # the server was quicker
                self._socket.shutdown(socket.SHUT_RDWR)
        self.join()

    def check(self) -> None:
        """Raise what went wrong."""
        if self.error is not None:
            raise self.error

    def told(self) -> str:
        """Return what it saw, in short."""
        return " ".join(f"{seen.cursor}:{seen.event}" for seen in self.seen)

    def _read(self) -> None:
        """Read from the next process until the stream ends, however it does."""
        process = self._process()
        after = str(self.seen[-1].cursor) if self.seen else self._after
        cut: Exception | None = None
        try:
            with self._fleet.client(process) as client:
                for seen in streamed(client, self.job_id, after, self._opened):
                    self.seen += seen
        except httpx.TransportError as error:
            cut = error
        except httpx.HTTPStatusError as error:
            if error.response.status_code != 503:
                raise
            cut = error
        if not self.has_end:
            self.cuts.append(cut)
            self._stopped.wait(_PAUSE_SECONDS)

    def _opened(self, connection: socket.socket) -> None:
        self._socket = connection

    def _process(self) -> ServerProcess:
        """Return where to read next."""
        found = next((process for process in self._route if not process.is_gone), None)
        return found or until(lambda: next(iter(self._fleet.processes()), None), self._fleet.said)


def streamed(
    client: httpx.Client,
    job_id: str,
    after: str | None = None,
    opened: Callable[[socket.socket], None] = lambda _: None,
) -> Iterator[list[Seen]]:
    """Yield the events of a build as they come, those of one cursor together: between them nobody can go on.

    Raises:
        httpx.HTTPStatusError: The stream was refused.
        httpx.TransportError: It was cut.
    """
    headers = {"Accept": "text/event-stream", **({} if after is None else {"Last-Event-ID": after})}
    with client.stream("GET", f"/api/v1/build/{job_id}/events", headers=headers) as answer:
        answer.raise_for_status()
        opened(answer.extensions["network_stream"].get_extra_info("socket"))
        told: list[dict[str, Any]] = []
        cursor = None
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name == "id":
                cursor = Cursor.parse(value)
            elif name == "data":
                told.append(json.loads(value))
            elif not line and told and cursor is not None:
                yield [Seen(cursor, one["event"], one["data"]) for one in told]
                told, cursor = [], None


def replay(fleet: Fleet, job_id: str, process: ServerProcess | None = None, after: str | None = None) -> list[Seen]:
    """Return the events of an ended build, as a late reader gets them."""
    with fleet.client(process) as client:
        return [seen for together in streamed(client, job_id, after) for seen in together]


def check_complete(fleet: Fleet, job_id: str, readers: Sequence[Reader]) -> list[Seen]:
    """Check that each reader saw every durable event once and in order, with one end; return those events."""
    told = [seen for seen in replay(fleet, job_id) if seen.is_durable]
    assert [seen.event for seen in told].count("end") == 1
    assert told[-1].event == "end"
    for process in fleet.processes():
        assert [seen for seen in replay(fleet, job_id, process) if seen.is_durable] == told
    for reader in readers:
        reader.wait_end()
        cursors = [seen.cursor for seen in reader.seen]
        assert cursors == sorted(cursors), reader.told()
        assert [seen for seen in reader.seen if seen.is_durable] == told, reader.told()
        volatile = [seen.cursor for seen in reader.seen if not seen.is_durable]
        assert len(volatile) == len(set(volatile)), reader.told()
    return told
