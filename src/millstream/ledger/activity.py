"""Who looks at interactive jobs, in all processes: what is recorded of it, and how it is kept in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple, Protocol

from millstream.clock import Clock
from millstream.errors import MillstreamError


class ActivityUnavailableError(MillstreamError):
    """Raised when nobody can say who looks at a job: what keeps it is away."""


class Look(NamedTuple):
    """What one process knows of those who look at a job there.

    Attributes:
        is_open: Whether somebody reads it just now.
        is_polled: Whether it was ever polled.
    """

    is_open: bool
    is_polled: bool = False


class Sighting(NamedTuple):
    """What one process last said of those who look at a job there.

    Attributes:
        process: Which process.
        look: What it said.
        age: How long ago, in seconds; infinite where that was before the clock began anew.
    """

    process: str
    look: Look
    age: float


class Activity(Protocol):
    """Keeps what processes say of who looks at jobs; ages go by one clock for all of them: that of whatever keeps it.

    Example:
        >>> async def look(activity: Activity) -> bool:
        ...     await activity.touch("process 1", {"job": Look(is_open=True)})
        ...     return all(said.look.is_open for said in (await activity.seen(["job"]))["job"])
    """

    async def touch(self, process: str, looks: Mapping[str, Look]) -> None:
        """Take what a process says of some jobs now, in place of what it said of them before.

        Args:
            process: Any id of the process; each has its own.
            looks: What it says, by the jobs' ids.

        Raises:
            ActivityUnavailableError: It cannot be kept just now.
        """

    async def seen(self, job_ids: Collection[str]) -> dict[str, list[Sighting]]:
        """Return what all processes last said of some jobs; jobs of which nobody did are not in it.

        Raises:
            ActivityUnavailableError: It cannot be read just now.
        """


class MemoryActivity:
    """Keeps it in memory, for jobs that are no other process's business; see `Activity`.

    Args:
        clock: The clock that ages go by.
    """

    def __init__(self, clock: Clock) -> None:
        """Know of nobody yet."""
        self._clock = clock
        self._said: dict[str, dict[str, tuple[Look, float]]] = {}

    async def touch(self, process: str, looks: Mapping[str, Look]) -> None:
        """Take what a process says; see `Activity.touch`."""
        now = self._clock.monotonic()
        for job_id, look in looks.items():
            self._said.setdefault(job_id, {})[process] = look, now

    async def seen(self, job_ids: Collection[str]) -> dict[str, list[Sighting]]:
        """Return what was said; see `Activity.seen`."""
        now = self._clock.monotonic()
        return {
            job_id: [Sighting(process, look, now - at) for process, (look, at) in self._said[job_id].items()]
            for job_id in job_ids
            if job_id in self._said
        }
