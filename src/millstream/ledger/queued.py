"""What a ledger says of queued segments to those who tell workers of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import msgspec


class Queued(msgspec.Struct, frozen=True):
    """A segment that may be claimed.

    Attributes:
        job: Id of its job.
        segment: Its number in the job.
        attempt: How often it was claimed so far.
        queue: Its queue; `None` for the default one.
        flow: The claim key of the job's flow or task.
    """

    job: str
    segment: int
    attempt: int
    queue: str | None
    flow: str


class QueuedSegments(Protocol):
    """The part of a shared ledger that says what is queued, and whose turn it is to tell of it."""

    async def waiting(self, most: int, jobs: Collection[str] | None = None) -> list[Queued]:
        """Return the segments that may be claimed now, in the order in which they are claimed.

        Args:
            most: At most so many of each flow in each queue, so that none of them hides another; 1 or more.
            jobs: Only queued ones of these jobs; all without.
        """

    async def backlog(self, most: int) -> int:
        """Return how many segments may be claimed now, counted up to `most`."""

    async def take_turn(self, turn: str, process: str, seconds: float) -> bool:
        """Return whether it is this process that does what one at a time does for all of them.

        Who has the turn keeps it by taking it again in time. Else it is anybody's: it needs no giving back, and whoever
        dies with it delays the others by no more than these seconds.

        Args:
            turn: The name of what is done.
            process: Any id of who would do it; it need not be a member.
            seconds: For how long, more than 0; the same for all who take this turn.
        """
