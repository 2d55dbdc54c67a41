"""Tasks whose results the tests look at; also imported by the processes that they start."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from millstream import AsyncResult, Ignore, Reject, ctx, task
from millstream.authoring import current
from millstream.authoring.results.rules import allow_join_result

GATES: dict[str, threading.Event] = {}
SEEN: dict[str, Any] = {}
SECONDS = 120.0


def gate(name: str) -> threading.Event:
    """Return a gate of this process."""
    return GATES.setdefault(name, threading.Event())


def until(holds: Callable[[], Any]) -> None:
    """Return when a condition holds; fail when it does not for long."""
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end, "the condition never held"
        time.sleep(0.005)


@task
def add(x: int, y: int) -> int:
    return x + y


@task
async def add_soon(x: int, y: int) -> int:
    return x + y


@task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@task
def pair(x: Any) -> tuple[Any, set[int]]:
    return x, {1, 2}


@task
def fail(x: Any = None) -> None:
    raise ValueError(f"no {x}")


@task
def wait_at(name: str, value: Any = None) -> Any:
    assert gate(name).wait(SECONDS)
    return value


@task
async def sleep_long() -> None:
    await asyncio.sleep(3600)


@task
def loop_until_cancelled() -> None:
    until(lambda: ctx.cancelled)


@task(run_in="process")
def block(path: str) -> None:
    Path(path).touch()
    time.sleep(3600)


@task(retries=2)
def pass_third(value: int) -> int:
    if ctx.attempt < 3:
        raise ConnectionError("not yet")
    return value


@task(retries=1, retry_backoff=3600)
def fail_and_wait() -> None:
    raise ConnectionError("not yet")


@task(bind=True)
def tell(self: Any, name: str, meta: Any) -> str:
    self.update_state(state="PROGRESS", meta=meta)
    assert gate(name).wait(SECONDS)
    return "told"


@task
def ignore() -> None:
    raise Ignore("nothing to do")


@task
def reject() -> None:
    raise Reject("cannot be done")


@task(expires=0.001)
def expire() -> None: ...


@task
def submit_from_thread(x: int) -> str:
    SEEN["thread"] = current.app()
    return str(add.delay(x, 1).id)


@task
async def submit_from_loop(x: int) -> str:
    SEEN["loop"] = current.app()
    app: Any = current.app()
    job = await app.submit(add.s(x, 1))
    return str(job.id)


@task
async def deliver_on_loop() -> None:
    add.delay(1, 1)


@task(run_in="process")
def submit_from_process() -> None:
    add.delay(1, 1)


@task
def get_inside(task_id: str, *, is_refused: bool) -> Any:
    return AsyncResult(task_id).get(timeout=SECONDS, disable_sync_subtasks=is_refused)


@task
def join_inside(task_id: str) -> Any:
    with allow_join_result():
        return AsyncResult(task_id).get(timeout=SECONDS)


@task(bind=True)
def claim_state(self: Any, name: str, state: str) -> str:
    self.update_state(state=state, meta={"said": state})
    assert gate(name).wait(SECONDS)
    return "really"


@task(bind=True)
def claim_state_and_ignore(self: Any, state: str) -> None:
    self.update_state(state=state, meta={"said": state})
    raise Ignore("has said so itself")
