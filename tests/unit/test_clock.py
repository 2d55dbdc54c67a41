"""The machine's clock, and the virtual one: order, jumps, and what is never jumped over."""

import asyncio
import threading
import time
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream import Millstream, ctx, flow, sleep, task
from millstream.clock import Clock, SystemClock, new_id
from millstream.testing import VirtualClock

HOUR = 3600.0


async def sleep_on(clock: Clock, seconds: float) -> None:
    over = asyncio.Event()
    timer = clock.call_later(seconds, over.set)
    try:
        await over.wait()
    finally:
        timer.cancel()


# ----------------------------------------------------------------------------------------------- the machine's clock
async def test_the_machine_s_clock_tells_the_time_and_rings() -> None:
    clock = SystemClock()
    rung = asyncio.Event()
    assert abs(clock.now() - time.time()) < 60
    assert clock.monotonic() <= clock.monotonic()
    clock.call_later(0.0, rung.set)
    await asyncio.wait_for(rung.wait(), 10)


async def test_the_machine_s_clock_cannot_be_held() -> None:
    clock = SystemClock()
    hold = clock.hold()
    await sleep_on(clock, 0.0)
    hold.cancel()
    hold.cancel()


def test_ids_differ_and_are_sorted_by_time() -> None:
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert ids == sorted(ids)


# -------------------------------------------------------------------------------------------------- virtual: reading
def test_it_starts_where_it_is_told() -> None:
    assert VirtualClock().now() == VirtualClock().now() == datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    assert VirtualClock(start=12.5).now() == 12.5
    assert VirtualClock(start=datetime(2030, 5, 4, tzinfo=UTC)).now() == datetime(2030, 5, 4, tzinfo=UTC).timestamp()
    assert VirtualClock(start=12.5).monotonic() == 0.0
    assert "12.5" in repr(VirtualClock(start=12.5))


def test_a_start_without_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        VirtualClock(start=datetime(2030, 5, 4))  # noqa: DTZ001  the point


async def test_it_stands_still_by_itself() -> None:
    clock = VirtualClock()
    rung: list[str] = []
    clock.call_later(0.001, lambda: rung.append("late"))
    await asyncio.sleep(0.01)
    assert clock.monotonic() == 0.0
    assert not rung


# ----------------------------------------------------------------------------------------------- virtual: advance
async def test_advance_rings_what_is_due_in_order_each_at_its_time() -> None:
    clock = VirtualClock()
    rung: list[tuple[str, float]] = []
    for name, due in (("c", 30.0), ("a", 10.0), ("d", 31.0), ("b", 10.0)):
        clock.call_later(due, lambda name=name: rung.append((name, clock.monotonic())))  # type: ignore[misc]
    await clock.advance(30)
    assert rung == [("a", 10.0), ("b", 10.0), ("c", 30.0)]
    assert clock.monotonic() == 30.0
    await clock.advance(timedelta(seconds=1))
    assert rung[-1] == ("d", 31.0)


async def test_what_a_timer_starts_can_set_further_timers_in_the_same_advance() -> None:
    clock = VirtualClock()
    seen: list[float] = []

    async def naps() -> None:
        for _ in range(3):
            await sleep_on(clock, 10.0)
            seen.append(clock.monotonic())

    napping = asyncio.create_task(naps())
    await clock.advance(25)
    assert seen == [10.0, 20.0]
    await clock.advance(5)
    await napping
    assert seen == [10.0, 20.0, 30.0]


async def test_a_cancelled_timer_does_not_ring() -> None:
    clock = VirtualClock()
    rung: list[str] = []
    timer = clock.call_later(1.0, lambda: rung.append("cancelled"))
    clock.call_later(2.0, lambda: rung.append("kept"))
    timer.cancel()
    timer.cancel()
    await clock.advance(5)
    assert rung == ["kept"]


async def test_no_time_at_all_means_at_once() -> None:
    clock = VirtualClock()
    rung: list[str] = []
    clock.call_later(0.0, lambda: rung.append("now"))
    clock.call_later(-1.0, lambda: rung.append("overdue"))
    clock.call_later(0.0, lambda: rung.append("cancelled")).cancel()
    await asyncio.sleep(0)
    assert rung == ["now", "overdue"]


async def test_time_does_not_run_backwards() -> None:
    clock = VirtualClock()
    with pytest.raises(ValueError, match="backwards"):
        await clock.advance(-1)


async def test_a_timer_sees_the_context_of_whoever_set_it() -> None:
    clock = VirtualClock()
    who: ContextVar[str] = ContextVar("who", default="nobody")
    seen: list[str] = []
    who.set("me")
    clock.call_later(1.0, lambda: seen.append(who.get()))
    who.set("another")
    await clock.advance(1)
    assert seen == ["me"]


@given(st.lists(st.floats(0.001, 1000), max_size=30), st.lists(st.floats(0, 500), max_size=8))
async def test_however_time_is_cut_every_timer_rings_once_and_in_order(delays: list[float], steps: list[float]) -> None:
    clock = VirtualClock()
    rung: list[float] = []
    for delay in delays:
        clock.call_later(delay, lambda delay=delay: rung.append(delay))  # type: ignore[misc]
    for step in steps:
        await clock.advance(step)
    assert rung == sorted(delay for delay in delays if delay <= clock.monotonic())
    await clock.advance(1000)
    assert rung == sorted(delays)


# -------------------------------------------------------------------------------------------------- virtual: drive
async def test_drive_passes_days_in_no_time() -> None:
    clock = VirtualClock()

    async def work() -> str:
        for _ in range(48):
            await sleep_on(clock, HOUR)
        return "done"

    assert await clock.drive(work()) == "done"
    assert clock.monotonic() == 48 * HOUR


async def test_drive_goes_no_further_than_it_must() -> None:
    clock = VirtualClock()
    clock.call_later(HOUR, lambda: None)
    assert await clock.drive(asyncio.sleep(0, "done")) == "done"
    assert clock.monotonic() == 0.0


async def test_drive_raises_what_the_work_raises() -> None:
    clock = VirtualClock()

    async def work() -> None:
        await sleep_on(clock, 1.0)
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        await clock.drive(work())


async def test_drive_raises_what_a_timer_raises_and_cancels_the_work() -> None:
    clock = VirtualClock()
    ended: list[str] = []

    def broken() -> None:
        raise ZeroDivisionError

    async def work() -> None:
        try:
            await sleep_on(clock, 2.0)
        finally:
            ended.append("cleaned up")

    clock.call_later(1.0, broken)
    with pytest.raises(ZeroDivisionError):
        await clock.drive(work())
    assert ended == ["cleaned up"]


async def test_who_cancels_drive_cancels_the_work() -> None:
    clock = VirtualClock()
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    driving = asyncio.create_task(clock.drive(work()))
    await begun.wait()
    driving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await driving
    assert ended.is_set()


async def test_it_is_driven_by_one_at_a_time_and_can_be_driven_again() -> None:
    clock = VirtualClock()
    with pytest.raises(RuntimeError, match="driven already"):
        await clock.drive(clock.drive(asyncio.sleep(0)))
    await clock.drive(sleep_on(clock, HOUR))
    assert clock.monotonic() == HOUR


async def test_advance_works_inside_of_what_is_driven() -> None:
    clock = VirtualClock()

    async def work() -> float:
        await clock.advance(7)
        return clock.monotonic()

    assert await clock.drive(work()) == 7.0


# -------------------------------------------------------------------------- virtual: what drive never jumps over
async def test_drive_waits_for_a_hold() -> None:
    clock = VirtualClock()
    steps: list[str] = []

    async def real_work() -> None:
        with clock.hold():
            await asyncio.to_thread(time.sleep, 0.02)
            steps.append("real")

    async def timed() -> None:
        await sleep_on(clock, HOUR)
        steps.append("virtual")

    await clock.drive(asyncio.gather(real_work(), timed()))
    assert steps == ["real", "virtual"]


async def test_drive_waits_for_a_sleep_by_the_loop_s_own_clock() -> None:
    clock = VirtualClock()
    steps: list[str] = []

    async def real_sleep() -> None:
        await asyncio.sleep(0.02)
        steps.append("real")

    async def timed() -> None:
        await sleep_on(clock, HOUR)
        steps.append("virtual")

    await clock.drive(asyncio.gather(real_sleep(), timed()))
    assert steps == ["real", "virtual"]


async def test_a_far_timer_of_the_loop_does_not_hold_drive_up() -> None:
    clock = VirtualClock()
    async with asyncio.timeout(120):
        await clock.drive(sleep_on(clock, HOUR))
    assert clock.monotonic() == HOUR


async def test_drive_does_not_jump_over_a_thread() -> None:
    @task(timeout=HOUR)
    def slow() -> str:
        time.sleep(0.02)
        return "in time"

    clock = VirtualClock()
    async with Millstream(clock=clock) as app:
        assert await clock.drive((await app.submit(slow)).result()) == "in time"
    assert clock.monotonic() == 0.0


async def test_drive_does_not_jump_over_a_process() -> None:
    clock = VirtualClock()
    async with Millstream(clock=clock) as app:
        assert await clock.drive((await app.submit(in_a_process)).result()) == "in time"
    assert clock.monotonic() == 0.0


@task(run_in="process", timeout=HOUR)
def in_a_process() -> str:
    time.sleep(0.02)
    return "in time"


async def test_drive_does_not_jump_over_a_drawing() -> None:
    @task
    async def echo(text: str) -> str:
        return text

    @flow
    def drawn() -> Any:
        time.sleep(0.02)
        return echo("drawn")

    @flow(timeout=HOUR)
    async def conducted() -> Any:
        return await drawn()

    clock = VirtualClock()
    async with Millstream(clock=clock) as app:
        assert await clock.drive(_submit_and_wait(app, drawn)) == "drawn"
        assert await clock.drive(_submit_and_wait(app, conducted)) == "drawn"
    assert clock.monotonic() == 0.0


async def _submit_and_wait(app: Millstream, work: Any) -> Any:
    return await (await app.submit(work)).result()


async def test_a_thread_that_was_given_up_does_not_hold_the_clock() -> None:
    release, begun = threading.Event(), threading.Event()

    @task(timeout=10)
    def stuck() -> None:
        begun.set()
        release.wait(30)

    @flow
    async def goes_on() -> float:
        try:
            await stuck()
        except TimeoutError:
            await sleep(HOUR)
        return ctx.now()

    clock = VirtualClock(start=0)
    async with Millstream(clock=clock) as app:
        job = await app.submit(goes_on)
        while not begun.is_set():  # noqa: ASYNC110  a thread sets it
            await asyncio.sleep(0.001)
        await clock.advance(10)
        assert await clock.drive(job.result()) == 10 + HOUR
        release.set()


def test_the_virtual_clock_needs_nothing_that_only_tests_have(tmp_path: Path) -> None:
    import subprocess  # noqa: PLC0415
    import sys  # noqa: PLC0415

    program = "import sys, millstream.testing; assert 'pytest' not in sys.modules and 'hypothesis' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)


def test_what_testing_does_not_have_is_an_attribute_error() -> None:
    import millstream.testing  # noqa: PLC0415

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = millstream.testing.nothing
