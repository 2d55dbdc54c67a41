"""A Celery app whose worker runs in the async pool."""

# mypy: disable-error-code="untyped-decorator"
from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis
from celery import Celery, Task, current_task, shared_task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

app = Celery("pool", broker=os.environ["POOL_BROKER"], backend=os.environ["POOL_RESULTS"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 3600},
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_send_task_events=True,
    result_expires=3600,
    millstream_max_threads=8,
    millstream_max_processes=2,
)
notes = redis.Redis.from_url(os.environ["POOL_NOTES"], decode_responses=True)
"""Where tasks leave word for the tests."""


def note(name: str, text: object = "") -> None:
    notes.rpush(name, str(text))


@app.task
async def double(x: int) -> int:
    await asyncio.sleep(0)
    return 2 * x


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
def total(values: list[int]) -> int:
    return sum(values)


@app.task
async def atotal(values: list[int]) -> int:
    return sum(values)


@app.task
async def nap(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return threading.current_thread().name


@app.task
async def meets(name: str, others: int) -> int:
    """Return when so many of them have met here."""
    there, all_there = meetings.setdefault(name, ([], asyncio.Event()))
    there.append(None)
    if len(there) == others:
        all_there.set()
    await all_there.wait()
    return len(there)


@app.task
def where() -> tuple[str, int]:
    return threading.current_thread().name, os.getpid()


@app.task
async def awhere() -> tuple[str, int]:
    return threading.current_thread().name, os.getpid()


@app.task(run_in="process")
def where_process() -> tuple[str, int]:
    return threading.current_thread().name, os.getpid()


@app.task(bind=True)
async def who(self: Any, mark: str) -> dict[str, Any]:
    """Tell who it is, before and after others ran, and in what it starts."""

    async def child() -> Any:
        await asyncio.sleep(0.01)
        return self.request.id

    before = self.request.id
    await asyncio.sleep(0.05)
    in_children = await asyncio.gather(child(), child())
    in_thread = await asyncio.to_thread(lambda: self.request.id)
    return {
        "mark": mark,
        "ids": [before, self.request.id, current_task.request.id, *in_children, in_thread],
        "task": current_task.name,
        "args": self.request.args,
        "hostname": self.request.hostname,
        "headers": self.request.get("custom"),
    }


@app.task(bind=True, max_retries=2)
async def retries_itself(self: Any, fails: int) -> tuple[int, list[str]]:
    await asyncio.sleep(0)
    if self.request.retries < fails:
        raise self.retry(exc=OSError("not yet"), countdown=0.05)
    return self.request.retries, [threading.current_thread().name]


@app.task(autoretry_for=(OSError,), default_retry_delay=0, max_retries=2, bind=True)
async def autoretried(self: Any, fails: int) -> int:
    await asyncio.sleep(0)
    if self.request.retries < fails:
        raise OSError("not yet")
    return int(self.request.retries)


@app.task
async def fails(kind: str) -> None:
    await asyncio.sleep(0)
    if kind == "value":
        raise ValueError("wrong")
    if kind == "cancelled":
        raise asyncio.CancelledError("I stop")
    if kind == "exit":
        raise SystemExit(3)
    if kind == "ignore":
        raise Ignore
    if kind == "reject":
        raise Reject("no", requeue=False)


@app.task(ignore_result=True)
async def forgets() -> int:
    return 1


@app.task(soft_time_limit=0.2)
async def softly(catches: bool) -> str:  # noqa: FBT001
    try:
        await asyncio.sleep(30)
    except SoftTimeLimitExceeded:
        if not catches:
            raise
        await asyncio.sleep(0.01)
        return "cleaned up"
    return "?"


@app.task(time_limit=0.3)
async def hardly(name: str) -> None:
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        await asyncio.to_thread(note, name, "cancelled")
        raise


@app.task(bind=True)
async def waits(self: Any, name: str) -> None:
    await asyncio.to_thread(note, name, "began")
    try:
        await asyncio.sleep(300)
    except asyncio.CancelledError:
        note(name, f"cancelled {self.request.id}")  # at once: a worker that stops does not wait for long
        raise


@app.task
async def until(name: str) -> str:
    """Run until the test says so."""
    await asyncio.to_thread(note, f"{name}:began")
    await asyncio.to_thread(notes.blpop, [f"{name}:go"], 120)
    return "went"


@app.task(run_in="thread")
def until_in_thread(name: str) -> str:
    """Keep a thread until the test says so."""
    note(f"{name}:began")
    notes.blpop([f"{name}:go"], 120)
    return "went"


@app.task(soft_time_limit=0.2)
def softly_in_thread() -> str:
    try:
        while True:
            time.sleep(0.01)
    except SoftTimeLimitExceeded:
        return "cleaned up"


@app.task(time_limit=0.5)
def hardly_in_process(name: str) -> None:
    note(name, os.getpid())
    time.sleep(30)


@app.task(time_limit=20, soft_time_limit=0.2)
def softly_in_process() -> tuple[str, int]:
    try:
        time.sleep(30)
    except SoftTimeLimitExceeded:
        return "cleaned up", os.getpid()
    return "?", 0


@app.task(time_limit=0.2, run_in="thread")
def hardly_in_thread(name: str) -> None:
    note(name, "began")
    try:
        for _ in range(500):
            time.sleep(0.01)
    finally:
        note(name, "ended")


@app.task(run_in="process")
def killable(name: str) -> None:
    note(name, os.getpid())
    time.sleep(300)


@app.task(run_in="process")
def dies() -> None:
    os._exit(9)


@app.task(run_in="process", bind=True, max_retries=1)
def retried_in_process(self: Any) -> int:
    if not self.request.retries:
        raise self.retry(countdown=0)
    return int(self.request.retries)


@app.task(rate_limit="10/s")
async def limited() -> float:
    return time.time()


class InContext(Task):  # type: ignore[misc]
    """As the guides of web frameworks write it: something around each call."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with suppress(KeyError):
            return self.run(*args, **kwargs)
        return "KeyError was taken care of"


@app.task(base=InContext)
async def in_context(fails: bool) -> str:  # noqa: FBT001
    await asyncio.sleep(0)
    if fails:
        raise KeyError
    return "returned"


@app.task(bind=True)
async def progresses(self: Any, name: str) -> str:
    self.update_state(state="PROGRESS", meta={"done": 1})
    await asyncio.to_thread(notes.blpop, [f"{name}:go"], 120)
    return "done"


@app.task(bind=True)
async def replaced(self: Any, x: int) -> None:
    await asyncio.sleep(0)
    raise self.replace(add.s(x, 1))


@app.task
async def calls(x: int) -> list[int]:
    """Call other tasks as the functions that they are."""
    return [await double(x), add(x, 1)]


@shared_task
async def shared() -> str:
    return "shared"


@app.task
def registers(name: str) -> None:
    """Register two tasks that the worker did not know when it started."""

    @app.task(name=f"{name}.late")
    async def late() -> str:
        await asyncio.sleep(0)
        return threading.current_thread().name

    @app.task(name=f"{name}.plain")
    def plain() -> str:
        return threading.current_thread().name


@app.task(acks_late=True)
async def lately(name: str) -> None:
    await asyncio.to_thread(note, name, "began")
    await asyncio.sleep(0.2)


@app.task
def grows(megabytes: int) -> int:
    ballast.append(bytearray(os.urandom(1024) * 1024 * megabytes))
    return os.getpid()


@app.task
async def counted(name: str) -> int:
    await asyncio.sleep(0.01)
    await asyncio.to_thread(note, name, os.getpid())
    return os.getpid()


@app.task
async def ticks_until(path: str, stop: str) -> None:
    """Let a file grow until there is another one."""
    with Path(path).open("a", encoding="utf-8") as ticks:  # noqa: ASYNC230  what is on the loop must be seen to move
        while not Path(stop).exists():  # noqa: ASYNC240
            ticks.write(".")
            ticks.flush()
            await asyncio.sleep(0.005)


@app.task
async def ends(path: str) -> str:
    Path(path).touch()  # noqa: ASYNC240
    return "?"


meetings: dict[str, tuple[list[None], asyncio.Event]] = {}
ballast: list[bytearray] = []
