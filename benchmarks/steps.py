"""A process that takes part in a ledger, to be killed: `python -m benchmarks.steps DIRECTORY [submit] [apart]`.

With `submit` it hands a job in and executes it; without, it stands by. With `apart` it proves its life by its lease
alone, as on another machine. Each node leaves a line in the directory's file `told`: who, and when.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from millstream import Millstream, flow, task
from millstream.ledger import proof
from millstream.settings import Settings


@task
async def step(number: int, told: str) -> int:
    line = f"{os.getpid()} {time.monotonic()}\n"
    with Path(told).open("a", encoding="utf-8") as file:  # noqa: ASYNC230  it is the effect that is measured
        file.write(line)
    await asyncio.sleep(0.01)
    return number + 1


@flow
def steps(told: str) -> object:
    number = step(0, told)
    for _ in range(1000):
        number = step(number, told)
    return number


async def main(directory: Path, *, submits: bool) -> None:
    settings = Settings(database_url=f"sqlite:///{directory / 'ledger.db'}", imports=("benchmarks.steps",))
    async with Millstream(settings=settings) as app:
        if submits:
            await app.submit("benchmarks.steps.steps", told=str(directory / "told"))
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    if "apart" in sys.argv:
        proof._place = lambda: None  # noqa: SLF001  there is no second machine here
    asyncio.run(main(Path(sys.argv[1]), submits="submit" in sys.argv))
