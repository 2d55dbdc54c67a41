"""The event log of processes that share Redis: what happens here goes there, and what is read here comes from there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING

from millstream.events.memory import MemoryEventLog
from millstream.model.event import TERMINAL, Cursor, Draft, Event

if TYPE_CHECKING:
    from millstream.events.redis.outgoing import Outgoing


class RedisEventLog:
    """Carries the events of shared jobs by Redis; see `EventLog` for what its methods promise.

    Nothing here waits for Redis: what is appended is buffered, holes that turn out later are filled from the
    ledger, and while Redis is away readers get what is durable from there.

    Args:
        view: What this process's readers see.
        is_private: Says of a job whether it is nobody's business beside this process's: its events stay in the view.
    """

    def __init__(self, view: MemoryEventLog, is_private: Callable[[str], bool]) -> None:
        """Carry nothing yet: until `carry` is called, readers here see what is appended here."""
        self._view, self._is_private = view, is_private
        self._outgoing: Outgoing | None = None

    def carry(self, outgoing: Outgoing | None) -> None:
        """Have what is appended from now on go out by this; `None` for by nothing any more."""
        self._outgoing = outgoing

    def append(self, job_id: str, first: int, drafts: Sequence[Draft], attempt: int = 1, segment: int = 1) -> int:
        """Append events; see `EventLog.append`. The number returned is that of the last durable one among them."""
        if self._outgoing is None or self._is_private(job_id):
            return self._view.append(job_id, first, drafts, attempt, segment)
        if first == 1 and drafts:
            self._view.begin(job_id)
        self._outgoing.take(job_id, first, drafts, attempt, segment)
        if drafts and drafts[-1][1] == TERMINAL and drafts[-1][0]:
            self._view.conclude(job_id)
        return first - 1 + sum(draft[0] for draft in drafts)

    def read(self, job_id: str, after: Cursor) -> AsyncIterator[Sequence[Event]]:
        """Yield events in batches; see `EventLog.read`."""
        return self._view.read(job_id, after)

    async def wait_end(self, job_id: str) -> None:
        """Wait for the end of a job; of one that runs here it does not wait for Redis."""
        await self._view.wait_end(job_id)

    def lacks(self, job_id: str, number: int) -> bool:
        """Return whether an event has to be appended again; see `EventLog.lacks`."""
        is_here = self._outgoing is None or self._is_private(job_id)
        return is_here and self._view.lacks(job_id, number)

    def forget(self, job_id: str) -> None:
        """Drop a job's events, here and in Redis; see `EventLog.forget`."""
        self._view.forget(job_id)
        if self._outgoing is not None and not self._is_private(job_id):
            self._outgoing.forget(job_id)
