"""The event log in memory: a list per job and one wake-up for all its readers."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Sequence

from millstream.events.base import CursorLostError
from millstream.model.event import START, TERMINAL, Cursor, Draft, Event

KEPT_STREAMS = 1000
"""Jobs whose events are kept though they could be had again: the newest that nobody reads."""

MOST_UNREAD = 200
"""Events of a job that began here which are kept for its first reader, where they are to be had elsewhere too."""

_BATCH = 1000
"""Events that a reader gets at once, so that a slow one holds no more than these."""


class _Stream:
    """The events of one job."""

    __slots__ = (
        "attempts",
        "enders",
        "events",
        "head",
        "is_closed",
        "is_over",
        "is_whole",
        "oldest",
        "readers",
        "tail",
        "waiters",
    )

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.head = 0
        self.tail = 0
        self.attempts: dict[int, int] = {}
        self.readers = 0
        self.is_closed = False
        self.is_over = False
        self.is_whole = False
        self.oldest: Cursor | None = None
        self.waiters: list[asyncio.Future[None]] = []
        self.enders: list[asyncio.Future[None]] = []

    def wake(self) -> None:
        """Wake every reader, and when the job is over also those who wait for nothing else."""
        woken, self.waiters = self.waiters, []
        if self.is_over or self.is_closed:
            woken, self.enders = [*woken, *self.enders], []
        for waiter in woken:
            if not waiter.done() and not waiter.get_loop().is_closed():
                waiter.set_result(None)


class MemoryEventLog:
    """Keeps the events of this process's jobs; see `EventLog` for what its methods promise.

    Args:
        must_keep: Says of a job whether its events are nowhere else, or still come; those of others are forgotten when
            they become too many, and can be appended again.

    Where events are carried by something else between processes, this is one process's view of them: they come in by
    `place`, and `append` fills in from the ledger. Of a job that began here it is *whole*: all events come without
    being looked for, whether or not somebody reads, until there is a `doubt`.

    Attributes:
        on_watch: Called with a job's id when a reader begins to wait for events that are not there.
    """

    def __init__(self, must_keep: Callable[[str], bool] = lambda _: True) -> None:
        """Start empty."""
        self._must_keep = must_keep
        self._streams: dict[str, _Stream] = {}
        self._watched: dict[str, _Stream] = {}
        self._sweep_at = 2 * KEPT_STREAMS
        self.on_watch: Callable[[str], None] = lambda _: None

    def append(self, job_id: str, first: int, drafts: Sequence[Draft], attempt: int = 1, segment: int = 1) -> int:
        """Append events; see `EventLog.append`."""
        stream = self._stream(job_id)
        events = stream.events
        is_current = attempt >= stream.attempts.get(segment, 0)
        if is_current:
            stream.attempts[segment] = attempt
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

    def place(self, job_id: str, events: Sequence[Event]) -> int:
        """Take events that were numbered elsewhere, and return the number of the last durable one that is here then.

        Those that are not behind the last one here are dropped; where a durable one is missing, nothing is taken from
        there on.
        """
        stream = self._stream(job_id)
        for event in events:
            if stream.is_closed or event.seq > stream.head + (not event.k):
                break
            if event.cursor > (stream.head, stream.tail):
                stream.head, stream.tail = event.cursor
                stream.events.append(event)
                stream.is_closed = event.is_durable and event.type == TERMINAL
        if not stream.readers and len(stream.events) > MOST_UNREAD:
            stream.is_whole = False
        stream.wake()
        return stream.head

    def begin(self, job_id: str) -> None:
        """Take note that a job begins here: its events are here, or on their way, until that is doubted."""
        if job_id not in self._streams:
            self._stream(job_id).is_whole = True

    def doubt(self, job_id: str) -> None:
        """Take note that there may be events of a job that nobody brings here unasked."""
        stream = self._streams.get(job_id)
        if stream is not None:
            stream.is_whole = False

    def doubt_all(self) -> None:
        """Take note of that of every job."""
        for stream in self._streams.values():
            stream.is_whole = False

    def is_whole(self, job_id: str) -> bool:
        """Return whether all events of a job are here, or on their way, so that nobody has to look for them."""
        stream = self._streams.get(job_id)
        return stream is not None and stream.is_whole

    def conclude(self, job_id: str) -> None:
        """Take note that a job is over, though its last events are not here yet: who waits for that alone goes on."""
        stream = self._stream(job_id)
        stream.is_over = True
        stream.wake()

    def lose(self, job_id: str, oldest: Cursor) -> None:
        """Take note that what comes before a position is nowhere any more, unless it is here: go on behind it.

        Readers that have not come so far are told so.

        Args:
            job_id: The job.
            oldest: After which cursor there are events still.
        """
        stream = self._stream(job_id)
        stream.oldest = oldest
        stream.head, stream.tail = oldest
        stream.wake()

    async def read(self, job_id: str, after: Cursor) -> AsyncIterator[Sequence[Event]]:
        """Yield events in batches; see `EventLog.read`."""
        stream = self._stream(job_id)
        stream.readers += 1
        try:
            position = bisect_right(stream.events, after, key=_cursor)
            while True:
                if stream.oldest is not None and after < stream.oldest:
                    raise CursorLostError(
                        f"what follows {after} of job {job_id} is gone; the oldest position is {stream.oldest}"
                    )
                batch = stream.events[position : position + _BATCH]
                if batch:
                    position += len(batch)
                    batch = [event for event in batch if event.cursor > after] if batch[0].cursor <= after else batch
                    if batch:
                        yield batch
                        after = batch[-1].cursor
                elif stream.is_closed:
                    return
                else:
                    await self._wait(job_id, stream, stream.waiters)
        finally:
            self._leave(job_id, stream)

    def peek(self, job_id: str, after: Cursor) -> Sequence[Event]:
        """Return the events after a cursor that are here by now."""
        stream = self._streams.get(job_id)
        return () if stream is None else stream.events[bisect_right(stream.events, after, key=_cursor) :]

    async def wait_end(self, job_id: str) -> None:
        """Wait for the terminal event; see `EventLog.wait_end`."""
        stream = self._stream(job_id)
        stream.readers += 1
        try:
            while not (stream.is_over or stream.is_closed):
                await self._wait(job_id, stream, stream.enders)
        finally:
            self._leave(job_id, stream)

    def forget(self, job_id: str) -> None:
        """Drop a job's events; see `EventLog.forget`."""
        stream = self._streams.pop(job_id, None)
        if stream is not None:
            stream.is_closed = True
            stream.wake()

    def head(self, job_id: str) -> int:
        """Return the number of the last durable event that is here; 0 where there is none."""
        stream = self._streams.get(job_id)
        return 0 if stream is None else stream.head

    def lacks(self, job_id: str, number: int) -> bool:
        """Return whether a durable event of a job that runs here has to be appended again; see `EventLog.lacks`."""
        return self.head(job_id) < number

    def last(self, job_id: str) -> Cursor:
        """Return where the last event stands that is here; `START` where there is none."""
        stream = self._streams.get(job_id)
        return START if stream is None else Cursor(stream.head, stream.tail)

    def is_watched(self, job_id: str) -> bool:
        """Return whether readers wait for more of a job."""
        return job_id in self._watched

    def watched(self) -> dict[str, int]:
        """Return the jobs whose readers wait for more, each with the number of the last durable event that is here."""
        return {job_id: stream.head for job_id, stream in self._watched.items() if not stream.is_closed}

    async def _wait(self, job_id: str, stream: _Stream, among: list[asyncio.Future[None]]) -> None:
        """Wait to be woken, as one of those who wait for the same."""
        if job_id not in self._watched:
            self._watched[job_id] = stream
            self.on_watch(job_id)
        waiter = asyncio.get_running_loop().create_future()
        among.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in among:
                among.remove(waiter)
            raise

    def _leave(self, job_id: str, stream: _Stream) -> None:
        """Take note that a reader has gone."""
        stream.readers -= 1
        if not stream.readers and self._watched.get(job_id) is stream:
            del self._watched[job_id]

    def _stream(self, job_id: str) -> _Stream:
        stream = self._streams.get(job_id)
        if stream is None:
            stream = self._streams[job_id] = _Stream()
            if len(self._streams) > self._sweep_at:
                self._sweep(job_id)
        return stream

    def _sweep(self, newest: str) -> None:
        """Forget the older of the streams that can be had again; seldom, since it looks at all of them."""
        gone = [
            job_id
            for job_id, stream in self._streams.items()
            if not stream.readers and job_id != newest and not self._must_keep(job_id)
        ]
        for job_id in gone[:-KEPT_STREAMS]:
            del self._streams[job_id]
        self._sweep_at = len(self._streams) + KEPT_STREAMS


def _cursor(event: Event) -> Cursor:
    return event.cursor
