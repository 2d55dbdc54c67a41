"""The tasks and flows that the suite of backends runs: at the top level of a module, so that any process finds them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import wraps
from typing import Any

from millstream import Retry, Skip, Task, ctx, flow, task
from millstream.testing.room import Room

PLACES = ("loop", "thread", "process")
"""Where a task can run."""


def everywhere(called: str = "", **policy: Any) -> Callable[[Callable[..., Any]], dict[str, Task[..., Any]]]:
    """Make three tasks of one plain function: a coroutine on the loop, one in a thread, one in a process.

    Args:
        called: What they are called, where several are made of the function.
        policy: Their policy.
    """

    def make(function: Callable[..., Any]) -> dict[str, Task[..., Any]]:
        @wraps(function)
        async def on_loop(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        name = f"{function.__module__}.{called or function.__name__}"
        return {
            "loop": Task(on_loop, name=f"{name}-loop", **policy),
            "thread": Task(function, name=f"{name}-thread", **policy),
            "process": Task(function, name=f"{name}-process", run_in="process", **policy),
        }

    return make


class ShopError(Exception):
    """An exception of the user's own, with arguments."""


class ClosedShopError(ShopError):
    """A descendant of it."""


class ClosedToday(Skip):
    """A skip of the user's own."""


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


def end_as(how: str) -> str:
    """End in the way that is asked for."""
    match how:
        case "ok":
            return how
        case "skip":
            raise ClosedToday("not today")
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
outcome = everywhere()(end_as)


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


@task
async def cancels_itself() -> None:
    """Cancel what it runs in, which is the engine's."""
    current = asyncio.current_task()
    if current is not None:
        current.cancel()
    await asyncio.sleep(0)


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


def block_until(room: str, gate: str, value: Any = None) -> Any:
    """Block at a gate; notes tell where that is, and how it ended."""
    Room(room).note(f"pid {os.getpid()}")
    Room(room).block(gate)
    Room(room).note(f"left {gate}; {'cancelled' if ctx.cancelled else 'wanted'}")
    ctx.emit("late", gate)
    return value


block_at = {place: block for place, block in everywhere()(block_until).items() if place != "loop"}


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


SUB_FLOWS = {"drawn": doubled, "nested": quadrupled, "conducted": climbed}
"""Sub-flows of all kinds."""


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
