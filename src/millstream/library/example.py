"""A task to try things out with: it takes as long as it is told."""

from __future__ import annotations

import asyncio

from millstream.authoring.task import task

MOST_SECONDS = 86_400.0


@task(effect="pure")
async def long_running_task(duration: float = 5.0) -> str:
    """Wait, and say how long.

    Args:
        duration: Seconds, 0 to a day.

    Raises:
        ValueError: It is out of range.

    >>> asyncio.run(long_running_task(0))
    'Task completed in 0 seconds'
    """
    if not 0 <= duration <= MOST_SECONDS:
        raise ValueError(f"duration is {duration!r}, but must be a number of seconds from 0 to {MOST_SECONDS:g}")
    await asyncio.sleep(duration)
    return f"Task completed in {duration:g} seconds"
