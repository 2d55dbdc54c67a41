"""What the jobs of the server's tests run."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from millstream import approval, ctx, flow, task

_gates: dict[str, threading.Event] = {}


def gate(name: str) -> threading.Event:
    """Return the gate of a name, at which `stand` waits; server and test are one process."""
    return _gates.setdefault(name, threading.Event())


@task
async def double(n: int) -> int:
    return 2 * n


@task
async def stand(name: str) -> str:
    gate(f"{name} is there").set()
    while not gate(name).is_set():  # noqa: ASYNC110  the gate is opened by a thread
        await asyncio.sleep(0.005)
    return name


@task
def fail(text: str = "on purpose") -> None:
    raise ValueError(text)


@task
async def report(text: str) -> str:
    ctx.log(text)
    ctx.progress(1, 2, message=text)
    return text


@task(bind=True)
async def move(self: Any, name: str) -> str:
    self.update_state(state="PROGRESS", meta={"done": 1})
    return str(await stand(name))


@task(retries=1, retry_backoff=False)
async def stumble(n: int) -> int:
    if ctx.attempt == 1:
        raise OSError("a stone")
    return n


@flow
def ask(question: str) -> Any:
    return double(approval(question))


@flow
def steps(n: int) -> Any:
    return double(stumble(n))


@flow
def failing(n: int) -> Any:
    return [double(n), fail()]


@task
async def chatter(name: str, count: int) -> str:
    for number in range(count):
        ctx.log(f"line {number}\u2028 of {count}")
    return str(await stand(name))


@flow
def chain(n: int, length: int) -> Any:
    for _ in range(length):
        n = double(n)
    return n
