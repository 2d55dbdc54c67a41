"""The processes that share a ledger: how they become members, and what it says of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec


class Presence(msgspec.Struct, frozen=True):
    """A process that is a member of a ledger.

    Attributes:
        id: Its id as a member, by which jobs name who took them up.
        host: The machine.
        pid: Its process id there.
        started_at: When it became a member; seconds since the epoch, UTC.
        lease_seconds: Seconds until its lease runs out unless it renews it; below 0 where nobody has noticed yet.
        executes: Whether it claims queued segments.
        segments: How many it holds.
        jobs: Of how many jobs these are.
        job_queue: The event log that it uses; `None` where it is of a version that did not say.
    """

    id: str
    host: str
    pid: int
    started_at: float
    lease_seconds: float
    executes: bool
    segments: int
    jobs: int = 0
    job_queue: str | None = None


class Presences(Protocol):
    """The part of a shared ledger that lets processes in, and says who is there."""

    async def join(
        self, process: str, on_dead: Callable[[], None], *, executes: bool = True, job_queue: str | None = None
    ) -> None:
        """Become a member, under a new id; `on_dead` is called on the loop when the ledger says that it is dead.

        A second time it changes nothing but `on_dead`: the first answer may have been lost.

        Args:
            process: The id.
            on_dead: See above.
            executes: Whether it claims queued segments, and so counts among the `members`.
            job_queue: The event log that it uses; `None` where that is no matter.

        Raises:
            SettingsError: A member that is alive uses another event log.
        """

    async def agree(self, job_queue: str) -> None:
        """See that no member that is alive uses another event log; for those who are no members.

        Raises:
            SettingsError: One does; the message names both, and says what to do.
        """

    async def leave(self, process: str) -> None:
        """End a membership. What it still holds can be claimed at once, and does not count as a crash."""

    async def members(self) -> int:
        """Return how many processes are alive and execute segments of this ledger."""

    async def processes(self) -> list[Presence]:
        """Return the members that are not known to be dead, the oldest first."""
