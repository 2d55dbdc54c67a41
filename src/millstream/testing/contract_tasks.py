"""The tasks and flows that the suite of backends runs: at the top level of a module, so that any process finds them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from millstream import Retry, Skip, SoftTimeLimitExceeded, Task, ctx, flow, task
from millstream.testing.room import Room

PLACES = ("loop", "thread", "process")
"""Where a task can run."""


def everywhere(**policy: Any) -> Callable[[Callable[..., Any]], dict[str, Task[..., Any]]]:
    """Make three tasks of one plain function: a coroutine on the loop, one in a thread, one in a process."""

    def make(function: Callable[..., Any]) -> dict[str, Task[..., Any]]:
        @wraps(function)
        async def on_loop(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        name = f"{function.__module__}.{function.__name__}"
        return {
            "loop": task(name=f"{name}-loop", **policy)(on_loop),
            "thread": task(name=f"{name}-thread", **policy)(function),
            "process": task(name=f"{name}-process", run_in="process", **policy)(function),
        }

    return make


class ShopError(Exception):
    """An exception of the user's own, with arguments."""


class ClosedShopError(ShopError):
    """A descendant of it."""


class WeirdError(BaseException):
    """What nobody should raise, and somebody does."""


class Unpicklable:
    """A value that cannot leave its process."""

    def __reduce__(self) -> Any:
        raise TypeError("this one stays here")


class UnreadableError(Exception):
    """An exception whose arguments cannot leave the process."""

    def __init__(self, what: str) -> None:
        super().__init__(what, Unpicklable())

    def __str__(self) -> str:
        return "unreadable"


# ------------------------------------------------------------------------------------------------ plain values
@task
async def add(x: Any, y: Any) -> Any:
    """Add on the loop."""
    return x + y


@task
def add_in_thread(x: Any, y: Any) -> Any:
    """Add in a thread."""
    return x + y


@task
async def echo(value: Any = None) -> Any:
    """Return what it is given."""
    return value


@task
async def total(values: list[Any]) -> Any:
    """Return the sum of a list."""
    return sum(value for value in values if value is not None)


def _give(value: Any) -> Any:
    return value


def _outcome(how: str) -> str:
    match how:
        case "ok":
            return how
        case "skip":
            raise Skip("not today")
        case "retry":
            raise Retry("once more")
        case "exit":
            raise SystemExit(3)
        case "cancel":
            raise asyncio.CancelledError("of its own")
        case "weird":
            raise WeirdError("weird")
        case "stop":
            raise StopIteration(3)
        case "closed":
            raise ClosedShopError("at night", 22)
    raise ShopError(how)


give = everywhere()(_give)
outcome = everywhere()(_outcome)


@task
async def note(room: str, text: str) -> str:
    """Leave a note."""
    Room(room).note(text)
    return text


@task(effect="once")
async def note_once(room: str, text: str) -> str:
    """Leave a note that must not be left twice."""
    Room(room).note(text)
    return text


# --------------------------------------------------------------------------------------------------- long work
@task
async def wait_at(room: str, gate: str, value: Any = None) -> Any:
    """Wait at a gate in a coroutine; notes tell how it ended."""
    try:
        await Room(room).wait(gate)
    except asyncio.CancelledError:
        Room(room).note(f"cancelled at {gate}")
        raise
    finally:
        Room(room).note(f"left {gate}")
    return value


def _block_at(room: str, gate: str, value: Any = None) -> Any:
    Room(room).note(f"pid {os.getpid()}")
    Room(room).block(gate)
    Room(room).note(f"left {gate}; {'cancelled' if ctx.cancelled else 'wanted'}")
    ctx.emit("late", gate)
    return value


block_at = {place: block for place, block in everywhere()(_block_at).items() if place != "loop"}


@task
async def stubborn(room: str, gate: str) -> str:
    """Wait at a gate, and take no notice of being cancelled for a while."""
    waiting = asyncio.ensure_future(Room(room).wait(gate))
    while not waiting.done():
        try:
            await asyncio.shield(waiting)
        except asyncio.CancelledError:
            Room(room).note("refused")
    return "done all the same"


def _about_me() -> dict[str, Any]:
    ctx.progress(1, 2, message="half way")
    ctx.log("a line", level="warning", rows=3)
    ctx.emit("token", {"text": "é"})
    return {
        "job": ctx.job_id,
        "node": ctx.node,
        "task": ctx.task_id,
        "attempt": ctx.attempt,
        "deadline": ctx.deadline,
        "cancelled": ctx.cancelled,
        "chance": 0 <= ctx.random() < 1,
        "uuid": len(ctx.uuid()),
        "pid": os.getpid(),
    }


about_me = everywhere(timeout=50)(_about_me)


def _chatter(number: int) -> str:
    for part in range(3):
        ctx.emit("token", [number, part])
    return ctx.node


chatter = everywhere()(_chatter)


# ---------------------------------------------------------------------------------------------------- attempts
def _flaky(room: str, failures: int, kind: str = "shop") -> int:
    """Fail so many times, then return the attempt that went well."""
    Room(room).note(f"attempt {ctx.attempt}")
    if ctx.attempt <= failures:
        _outcome(kind)
    return ctx.attempt


flaky = everywhere(retries=5, retry_backoff=3600, retry_backoff_max=4 * 3600, retry_jitter=False)(_flaky)
flaky_for_closed = everywhere(retries=3, retry_for=ClosedShopError)(_flaky)
flaky_for_shop = everywhere(retries=3, retry_for=(ShopError, OSError))(_flaky)


@task(retries=1)
async def ask_again(delay: float | None) -> int:
    """Ask for one more attempt."""
    if ctx.attempt == 1:
        raise Retry("not ready", delay=delay)
    return ctx.attempt


@task(retries=1, retry_backoff=10)
async def jittery(number: int) -> int:
    """Fail once, and be repeated after a random delay."""
    if ctx.attempt == 1:
        raise ShopError(number)
    return number


# --------------------------------------------------------------------------------------------------- time-outs
@task(timeout=10)
async def too_long(room: str, gate: str) -> None:
    """Wait at a gate for too long."""
    try:
        await Room(room).wait(gate)
    finally:
        Room(room).note(f"left {gate}")


@task(timeout=10)
async def deaf(room: str, gate: str) -> str:
    """Wait at a gate for too long, and return all the same when it is cancelled."""
    try:
        await Room(room).wait(gate)
    except asyncio.CancelledError:
        Room(room).note("heard")
    return "all is well"


@task(timeout=10)
async def rude(room: str, gate: str) -> None:
    """Wait at a gate for too long, and answer with an exception of its own."""
    try:
        await Room(room).wait(gate)
    except asyncio.CancelledError:
        raise ShopError("how dare you") from None


@task
async def cancels_itself() -> None:
    """Cancel what it runs in, which is the engine's."""
    current = asyncio.current_task()
    if current is not None:
        current.cancel()
    await asyncio.sleep(0)


def _stuck(room: str, gate: str) -> str:
    return str(_block_at(room, gate, "late"))


stuck = everywhere(timeout=10)(_stuck)


@task(timeout=10, retries=1)
async def slow_at_first(room: str, gate: str) -> int:
    """Take too long in the first attempt only."""
    if ctx.attempt == 1:
        await Room(room).wait(gate)
    return ctx.attempt


@task(soft_timeout=5, timeout=10)
async def soft_on_loop(room: str, gate: str, *, is_deaf: bool = False) -> str:
    """Clean up when the soft time-out is over; a deaf one goes on waiting."""
    try:
        await Room(room).wait(gate)
    except SoftTimeLimitExceeded:
        Room(room).note("soft")
        if is_deaf:
            await Room(room).wait(gate)
    return "cleaned up"


def _soft(room: str) -> str:
    room_ = Room(room)
    room_.note("begun")
    try:
        for _ in range(10_000):
            time.sleep(0.001)
    except SoftTimeLimitExceeded:
        room_.note("soft")
        return "cleaned up"
    return "never stopped"


soft_in_thread = task(name="soft_in_thread", soft_timeout=5)(_soft)
soft_in_process = task(name="soft_in_process", soft_timeout=0.05, run_in="process")(_soft)  # there by real time


@task(soft_timeout=5)
async def soft_and_lost(room: str, gate: str) -> None:
    """Do not catch the soft time-out."""
    await Room(room).wait(gate)


# ---------------------------------------------------------------------------------------------------- processes
@task(run_in="process")
def die(how: str) -> None:
    """End the process."""
    if how == "exit":
        os._exit(7)
    os.kill(os.getpid(), 9)


@task(run_in="process")
def return_unpicklable() -> Any:
    """Return what cannot leave the process."""
    return Unpicklable()


@task(run_in="process")
def raise_unreadable() -> None:
    """Raise what cannot leave the process."""
    raise UnreadableError("x")


@task(run_in="process")
def process_id(_: Any = None) -> int:
    """Return the id of the process."""
    return os.getpid()


@task(run_in="process")
async def coroutine_in_process(x: int) -> int:
    """Be a coroutine function, and run in a process."""
    await asyncio.sleep(0)
    return x + 1


# ------------------------------------------------------------------------------------------------------ cached
@task(cache_ttl=60)
async def cached(room: str, x: Any) -> Any:
    """Note each real call."""
    Room(room).note(f"called {x}")
    return x


@task(cache_ttl=60, idempotency_key="order-{order}")
async def cached_by_key(room: str, order: int, how: str = "ok") -> str:
    """Note each real call; the key is the order's alone."""
    Room(room).note(f"called {order} {how}")
    return f"{order} {_outcome(how)}"


# ------------------------------------------------------------------------------------------------ several at once
@task
async def meet(room: str, count: int, value: Any = None) -> Any:
    """Wait until `count` are here at once."""
    await Room(room).meet("met", count)
    return value


@task
def meet_in_thread(room: str, count: int, value: Any = None) -> Any:
    """Wait in a thread until `count` are here at once."""
    Room(room).meet_blocking("met", count)
    return value


# --------------------------------------------------------------------------------------------------- sub-flows
@flow
def doubled(x: Any) -> Any:
    """Draw two nodes."""
    return add(x, x)


@flow
def quadrupled(x: Any) -> Any:
    """Draw a sub-flow in a sub-flow."""
    return doubled(doubled(x))


@flow
async def climbed(x: int, steps: int) -> int:
    """Conduct some calls, one after the other."""
    for _ in range(steps):
        x = await add(x, 1)
    return x


@flow
def failing_within(how: str) -> Any:
    """Draw a sub-flow that fails inside."""
    return echo(outcome["loop"](how))


@flow
def waiting_within(room: str, gate: str) -> Any:
    """Draw a sub-flow whose inner sub-flow waits at a gate."""
    return echo(_inner_wait(room, gate))


@flow
def _inner_wait(room: str, gate: str) -> Any:
    return wait_at(room, gate)
