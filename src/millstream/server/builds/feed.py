"""A job's lines for all who read them in this process: encoded once, within bounds, read at each one's own pace."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final

from millstream.model.event import Cursor
from millstream.server.builds.lines import Line

FIRST_SECONDS: Final = 1.0
"""How long a reader that waits for less waits for the first lines: they are there, and only have to be read."""

Lines = AsyncGenerator[Sequence[Line], None]

KEPT_BYTES: Final = 4 << 20
"""What a feed keeps at most of its newest lines; who reads further back reads the job's events for itself."""

BATCH_BYTES: Final = 64 << 10
"""What a reader is given at once, unless a single line is longer."""


class Feed:
    """The lines of one job.

    Args:
        lines: Gives the job's lines from its first one on, as they come; called anew for each reader that has fallen
            behind what is kept.
        kept_bytes: See `KEPT_BYTES`.

    Attributes:
        readers: How many read.
        has_begun: Whether its first lines are here; each job has some.
        is_over: Whether no line follows.
        has_end: Whether the build's last line is here, so that this is not for another reason.
    """

    def __init__(self, lines: Callable[[], Lines], kept_bytes: int = KEPT_BYTES) -> None:
        """Have no line yet; `pump` brings them."""
        self._source = lines
        self._kept_bytes = kept_bytes
        self._lines: list[Line] = []
        self._dropped = 0
        self._size = 0
        self._waiters: set[asyncio.Future[bool]] = set()
        self.readers = 0
        self.has_begun = self.is_over = self.has_end = False

    @property
    def size(self) -> int:
        """Bytes of the lines that are kept."""
        return self._size

    async def pump(self) -> None:
        """Bring the lines as they come, until none follows.

        Raises:
            MillstreamError: The job's events cannot be read any more.
        """
        try:
            async for lines in self._source():
                self.has_begun = True
                self._lines += lines
                self._size += sum(len(line.body) for line in lines)
                self.has_end = lines[-1].is_end
                if self._size > self._kept_bytes:
                    self._trim()
                self._wake()
        finally:
            self.is_over = True
            self._wake()

    def read(self, after: Cursor) -> Reader:
        """Return a new reader of what follows a cursor; close it."""
        return Reader(self, after)

    def replay(self) -> Lines:
        """Return the job's lines from its first one on, for one reader."""
        return self._source()

    def position(self, after: Cursor) -> int:
        """Return the number of the first line after a cursor; below `first` where that is not kept any more."""
        found = bisect_right(self._lines, after, key=_cursor)
        return -1 if self._dropped and not found else self._dropped + found

    def has_all_after(self, cursor: Cursor) -> bool:
        """Whether all that follows a cursor is kept, as far as it is there."""
        return self.position(cursor) >= self._dropped

    @property
    def first(self) -> int:
        """The number of the first line that is kept; lines are numbered from 0."""
        return self._dropped

    @property
    def last(self) -> int:
        """The number that the next line to come will have."""
        return self._dropped + len(self._lines)

    def at(self, position: int) -> list[Line]:
        """Return the lines from a number on that are there, up to `BATCH_BYTES` or one line, and whole events."""
        start = position - self._dropped
        end, size = start, 0
        while end < len(self._lines) and (size < BATCH_BYTES or not self._lines[end - 1].is_last):
            size += len(self._lines[end].body)
            end += 1
        return self._lines[start:end]

    async def wait(self, waiter: asyncio.Future[bool], seconds: float | None) -> bool:
        """Wait until there is news, or whoever holds the future sets it; return whether that was in time."""
        timer = None if seconds is None else waiter.get_loop().call_later(seconds, _give_up, waiter)
        self._waiters.add(waiter)
        try:
            return await waiter
        finally:
            self._waiters.discard(waiter)
            if timer is not None:
                timer.cancel()

    def _trim(self) -> None:
        """Let go of the older half, so that this is seldom done."""
        gone = 0
        while self._size > self._kept_bytes // 2 and gone < len(self._lines) - 1:
            self._size -= len(self._lines[gone].body)
            gone += 1
        del self._lines[:gone]
        self._dropped += gone

    def _wake(self) -> None:
        for waiter in self._waiters:
            _tell(waiter)


class Reader:
    """One who reads a feed; all it holds is its position.

    Args:
        feed: The feed.
        after: Where it goes on.

    Attributes:
        cursor: Behind which event it stands.
    """

    def __init__(self, feed: Feed, after: Cursor) -> None:
        """Begin to read."""
        self._feed = feed
        self._position = feed.position(after)
        self._behind: Lines | None = None
        self._waiter: asyncio.Future[bool] | None = None
        self._is_stopped = self._is_closed = False
        self.cursor = after
        feed.readers += 1

    @property
    def is_over(self) -> bool:
        """Whether it is given nothing more: all was read, or it was stopped."""
        has_all = self._behind is None and self._position >= self._feed.last
        return self._is_stopped or (self._feed.is_over and has_all)

    def stop(self) -> None:
        """Give it nothing more, and end its wait; may be called twice."""
        self._is_stopped = True
        if self._waiter is not None:
            _tell(self._waiter)

    def close(self) -> None:
        """Read no more; may be called twice."""
        if not self._is_closed:
            self._is_closed = True
            self._feed.readers -= 1

    async def next(self, seconds: float | None = None) -> Sequence[Line]:
        """Return the next lines, whole events of them; nothing when the time is over, or when it is over.

        Args:
            seconds: How long to wait for a line; `None` waits until there is one.

        Raises:
            MillstreamError: The job's events cannot be read any more.
        """
        began = asyncio.get_running_loop().time()
        while not self._is_stopped:
            is_behind = self._behind is not None or self._position < self._feed.first
            there = await self._catch_up() if is_behind else self._feed.at(self._position)
            if not is_behind:
                self._position += len(there)
            lines = [line for line in there if line.cursor > self.cursor]
            if lines:
                self.cursor = lines[-1].cursor
                return lines
            if there or is_behind:
                continue
            if self._feed.is_over or not await self._wait(began, seconds):
                break
        return ()

    async def _wait(self, began: float, seconds: float | None) -> bool:
        """Wait for news; return whether there is any within so many seconds of when the wait began."""
        if seconds is not None:
            least = 0.0 if self._feed.has_begun else FIRST_SECONDS
            seconds = max(0.0, began + max(seconds, least) - asyncio.get_running_loop().time())
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            return await self._feed.wait(self._waiter, seconds)
        finally:
            self._waiter = None

    async def _catch_up(self) -> Sequence[Line]:
        """Return lines that the feed has let go, from the job's events; the feed has what follows once it does."""
        if self._behind is None:
            self._behind = self._feed.replay()
        lines = await anext(self._behind, None)
        if lines is None or self._feed.has_all_after(lines[-1].cursor):
            behind, self._behind = self._behind, None
            await behind.aclose()
            self._position = self._feed.position(lines[-1].cursor if lines else self.cursor)
        return lines or ()


def _tell(waiter: asyncio.Future[bool]) -> None:
    if not waiter.done():
        waiter.set_result(True)


def _give_up(waiter: asyncio.Future[bool]) -> None:
    if not waiter.done():
        waiter.set_result(False)


def _cursor(line: Line) -> Cursor:
    return line.cursor
