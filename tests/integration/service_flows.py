"""What the backends of the service run alike: all that is found by its module and name."""

import asyncio
import time
from pathlib import Path

from millstream import flow, task


def doubled(x: int) -> int:
    return 2 * x


async def doubled_later(x: int) -> int:
    return 2 * x


def failing() -> None:
    raise LookupError("nothing there")


async def endless(begun: str) -> None:
    await asyncio.to_thread(Path(begun).touch)
    await asyncio.Event().wait()


@task
def tripled(x: int) -> int:
    time.sleep(0)
    return 3 * x


@flow
def both(x: int) -> object:
    return [tripled(x), tripled(2 * x)]
