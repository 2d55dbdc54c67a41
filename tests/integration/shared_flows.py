"""What the workers of the tests execute: steps that say in a file that they ran, and may wait for another file."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from millstream import approval, flow, task


def tell(log: str, *words: object) -> None:
    """Append a line in one write, which no other process's line comes between."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, " ".join(map(str, (*words, os.getpid()))).encode() + b"\n")
    os.close(file)


@task
async def step(log: str, name: str, gate: str = "", after: Any = None) -> int:  # noqa: ARG001  `after` is an edge
    tell(log, "begin", name)
    while gate and not await asyncio.to_thread(Path(gate).exists):  # noqa: ASYNC110  another process makes it
        await asyncio.sleep(0.01)
    tell(log, "end", name)
    return os.getpid()


@task
async def brief(log: str, name: str) -> str:
    tell(log, "begin", name)
    await asyncio.sleep(0.02)
    tell(log, "end", name)
    return name


@flow
def gated(log: str, gate: str) -> Any:
    first = step(log, "first")
    second = step(log, "second", gate, first)
    return step(log, "third", "", second)


@flow
def asking(log: str) -> Any:
    question = step(log, "asked")
    return answered(log, approval(question))


@task
async def answered(log: str, answer: Any) -> Any:
    tell(log, "begin", "answered")
    return answer
