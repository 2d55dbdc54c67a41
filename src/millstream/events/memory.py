"""The event log in memory: a list per job and one wake-up for all its readers."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence

from millstream.model.event import TERMINAL, Cursor, Draft, Event

_BATCH = 1000
"""Events that a reader gets at once, so that a slow one holds no more than these."""


class _Stream:
    """The events of one job."""

    __slots__ = ("attempt", "events", "head", "is_closed", "tail", "waiters")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.head = 0
        self.tail = 0
        self.attempt = 0
        self.is_closed = False
        self.waiters: list[asyncio.Future[None]] = []

    def wake(self) -> None:
        """Wake every reader."""
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done() and not waiter.get_loop().is_closed():
                waiter.set_result(None)

    async def wait(self) -> None:
        """Wait for the next change."""
        waiter = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        await waiter


class MemoryEventLog:
    """Keeps the events of this process's jobs; see `EventLog` for what its methods promise."""

    def __init__(self) -> None:
        """Start empty."""
        self._streams: dict[str, _Stream] = {}

    def append(self, job_id: str, first: int, drafts: Sequence[Draft], attempt: int = 1) -> int:
        """Append events; see `EventLog.append`."""
        stream = self._stream(job_id)
        events = stream.events
        is_current = attempt >= stream.attempt
        stream.attempt = max(attempt, stream.attempt)
        number = first
        for durable, kind, at, node, data in drafts:
            if stream.is_closed:
                break
            if not durable:
                if is_current:
                    stream.tail += 1
                    events.append(Event(stream.head, stream.tail, kind, at, node, data))
                continue
            if number > stream.head + 1:
                break
            if number == stream.head + 1:
                stream.head, stream.tail = number, 0
                events.append(Event(number, 0, kind, at, node, data))
                stream.is_closed = kind == TERMINAL
            number += 1
        stream.wake()
        return stream.head

    async def read(self, job_id: str, after: Cursor) -> AsyncIterator[Sequence[Event]]:
        """Yield events in batches; see `EventLog.read`."""
        stream = self._stream(job_id)
        position = bisect_right(stream.events, after, key=_cursor)
        while True:
            batch = stream.events[position : position + _BATCH]
            if batch:
                position += len(batch)
                batch = [event for event in batch if event.cursor > after] if batch[0].cursor <= after else batch
                if batch:
                    yield batch
            elif stream.is_closed:
                return
            else:
                await stream.wait()

    async def wait_end(self, job_id: str) -> None:
        """Wait for the terminal event; see `EventLog.wait_end`."""
        stream = self._stream(job_id)
        while not stream.is_closed:
            await stream.wait()

    def forget(self, job_id: str) -> None:
        """Drop a job's events; see `EventLog.forget`."""
        stream = self._streams.pop(job_id, None)
        if stream is not None:
            stream.is_closed = True
            stream.wake()

    def _stream(self, job_id: str) -> _Stream:
        stream = self._streams.get(job_id)
        if stream is None:
            stream = self._streams[job_id] = _Stream()
        return stream


def _cursor(event: Event) -> Cursor:
    return event.cursor
