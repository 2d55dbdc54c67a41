"""Waits for a job whose id was made a moment ago, and which the ledger does not have yet."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar
from uuid import UUID

import anyio

from millstream.clock import Clock
from millstream.errors import JobNotFoundError
from millstream.server.builds.works import is_id

T = TypeVar("T")

_LOOK_SECONDS: Final = 0.25
_TIMED: Final = 7


async def once_known(find: Callable[[], Awaitable[T]], job_id: str, seconds: float, clock: Clock) -> T:
    """Return what `find` finds; while it finds no job, it is asked again until the id is so many seconds old.

    A job that a server handed in is in the ledger before anybody learns its id. One that is handed in within a
    transaction of its owner's may be known before that is committed. Ids tell when they were made, so one that was
    guessed, or is of a job that was purged, is refused at once.

    Args:
        find: Looks for the job.
        job_id: Its id.
        seconds: How old the id may be.
        clock: The time.

    Raises:
        JobNotFoundError: There is no such job.
    """
    while True:
        try:
            return await find()
        except JobNotFoundError:
            if abs(_age(job_id, clock.now())) >= seconds:
                raise
        await anyio.sleep(_LOOK_SECONDS)


def _age(job_id: str, now: float) -> float:
    """Return how many seconds ago an id was made; less than 0 where this clock is behind."""
    number = UUID(job_id) if is_id(job_id) else None
    return math.inf if number is None or number.version != _TIMED else now - (number.int >> 80) / 1000
