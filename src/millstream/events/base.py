"""What every event log promises. The contract suite in `testing/` holds each adapter to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from millstream.errors import MillstreamError
from millstream.model.event import Cursor, Draft, Event


class CursorLostError(MillstreamError):
    """Raised when a reader's position can no longer be served without a gap."""


class EventLog(Protocol):
    """Carries the events of jobs to readers. The ledger holds the truth; a log may be filled from it again."""

    def append(self, job_id: str, first: int, drafts: Sequence[Draft], attempt: int = 1, segment: int = 1) -> int:
        """Append events in order, and return the number of the last durable one that the log then has.

        Durable drafts are numbered from `first` on. Those the log has already are dropped; where one would leave a hole
        behind it, nothing is appended from there on, and the number returned tells from where to fill up. Volatile
        drafts are numbered by the log behind the durable one before them. Nothing is taken after the terminal event.

        Args:
            job_id: Whose events they are.
            first: Number of the first durable draft.
            drafts: The events.
            attempt: The attempt of the segment that they come from. Volatile events of an attempt older than the
                newest one seen of that segment are refused.
            segment: Which segment of the job that is, from 1.
        """

    def read(self, job_id: str, after: Cursor) -> AsyncIterator[Sequence[Event]]:
        """Yield the events after a cursor in batches, as they come; ends behind the terminal event.

        Any number of readers read at once, each gets everything. A cursor that lies ahead waits.

        Raises:
            CursorLostError: What follows the cursor is gone.
        """

    async def wait_end(self, job_id: str) -> None:
        """Wait until the job's terminal event is there."""

    def lacks(self, job_id: str, number: int) -> bool:
        """Return whether a durable event of a job that runs here is missing, so that it has to be appended again.

        A log that fills its holes from the ledger by itself lacks nothing.
        """

    def forget(self, job_id: str) -> None:
        """Drop a job's events; readers that wait end."""
