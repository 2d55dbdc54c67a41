"""More tasks for the suite of backends: those that are repeated, take too long, or whose results are used again."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from millstream import Retry, SoftTimeLimitExceeded, ctx, task
from millstream.testing.contract_tasks import ClosedShopError, ShopError, block_until, end_as, everywhere
from millstream.testing.room import Room


# ---------------------------------------------------------------------------------------------------- attempts
def _flaky(room: str, failures: int, kind: str = "shop") -> int:
    """Fail so many times, then return the attempt that went well."""
    Room(room).note(f"attempt {ctx.attempt}")
    if ctx.attempt <= failures:
        end_as(kind)
    return ctx.attempt


flaky = everywhere(retries=5, retry_backoff=3600, retry_backoff_max=4 * 3600, retry_jitter=False)(_flaky)
flaky_for_closed = everywhere("flaky_for_closed", retries=3, retry_for=ClosedShopError)(_flaky)
flaky_for_shop = everywhere("flaky_for_shop", retries=3, retry_for=(ShopError, OSError))(_flaky)


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


def _stuck(room: str, gate: str) -> str:
    return str(block_until(room, gate, "late"))


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
    try:
        room_.note("begun")
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


# ------------------------------------------------------------------------------------------------------ cached
@task(effect="once", retries=3, timeout=10)
async def pay(room: str, how: str) -> int:
    """Do what must not be done twice, unless it is known not to have been done."""
    Room(room).note(f"pay {ctx.attempt}")
    if how == "slow":
        await Room(room).wait("gate")
    elif ctx.attempt == 1:
        end_as(how)
    return ctx.attempt


@task(cache_ttl=60)
async def cached(room: str, x: Any) -> Any:
    """Note each real call."""
    Room(room).note(f"called {x}")
    return x


@task(cache_ttl=60, idempotency_key="order-{order}")
async def cached_by_key(room: str, order: int, how: str = "ok") -> str:
    """Note each real call; the key is the order's alone."""
    Room(room).note(f"called {order} {how}")
    return f"{order} {end_as(how)}"
