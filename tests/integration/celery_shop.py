"""Tasks and flows for workers in tests."""

from __future__ import annotations

import asyncio
import os
import time

from millstream import flow, task


@task
def add(a: int, b: int) -> int:
    return a + b


@flow
def total() -> object:
    return add(add(1, 2), add(3, 4))


@task
async def rest(seconds: float) -> int:
    await asyncio.sleep(seconds)
    return os.getpid()


@task
def block(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


@task(retries=1, retry_backoff=0.01)
def fails(why: str) -> None:
    raise ValueError(why)


@task
def grows(megabytes: int) -> int:
    _KEPT.append(b"x" * (megabytes << 20))
    return os.getpid()


_KEPT: list[bytes] = []
