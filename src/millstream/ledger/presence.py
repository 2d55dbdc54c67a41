"""What a ledger says of the processes that share it."""

from __future__ import annotations

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
    """

    id: str
    host: str
    pid: int
    started_at: float
    lease_seconds: float
    executes: bool
    segments: int


class Presences(Protocol):
    """The part of a shared ledger that says who is there."""

    async def processes(self) -> list[Presence]:
        """Return the members that are not known to be dead, the oldest first."""
