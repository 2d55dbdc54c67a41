"""What the tasks do that run on workers, ours and Celery's: plain functions, of which each side makes its tasks."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

WAIT_SECONDS = 0.1
_EVER = 3600.0


async def step_async(x: int = 0) -> int:
    return x + 1


def wait(x: int) -> int:
    time.sleep(WAIT_SECONDS)
    return x + 1


async def wait_async(x: int) -> int:
    await asyncio.sleep(WAIT_SECONDS)
    return x + 1


def burn(x: int, seconds: float) -> int:
    """Compute for so many seconds of processor time, however often others get their turn meanwhile."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass
    return x + 1


def hold(told: str) -> None:
    """Say that it runs, by a file, and go on until it is stopped."""
    Path(told).touch()
    time.sleep(_EVER)


async def hold_async(told: str) -> None:
    Path(told).touch()  # noqa: ASYNC240  once, at the beginning
    await asyncio.sleep(_EVER)
