"""The backend in this process keeps every backend's promises, with jobs in memory and with jobs on disk."""

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from millstream import JobState, Millstream, Settings, approval, ctx, flow, task
from millstream.backends import anyio
from millstream.backends.role import Role
from millstream.clock import Clock, SystemClock, Timer
from millstream.testing import SegmentBackendContract


class TestAnyIOSegmentBackend(SegmentBackendContract):
    def make(self, clock: Clock, **settings: Any) -> Millstream:
        return Millstream(clock=clock, settings=Settings(durability="off", **settings))


class OnDisk(SegmentBackendContract):
    keeps_jobs = True
    url = ""

    def make(self, clock: Clock, **settings: Any) -> Millstream:
        return Millstream(clock=clock, settings=Settings(durability="full", database_url=self.url, **settings))


@pytest.mark.long  # it is in memory and the ledger's own contract is on SQLite that `make quick` runs
class TestAnyIOSegmentBackendOnSqlite(OnDisk):
    @pytest.fixture(autouse=True)
    def where(self, tmp_path: Path) -> None:
        self.url = f"sqlite:///{tmp_path}/ledger.db"


@pytest.mark.matrix  # a durable backend is held to it on SQLite, and PostgreSQL to all that a ledger promises
class TestAnyIOSegmentBackendOnPostgres(OnDisk):
    @pytest.fixture(autouse=True)
    def where(self, postgres_url: str) -> None:
        self.url = postgres_url


async def test_nothing_is_kept_of_a_job_that_was_cancelled_before_its_start() -> None:
    async with Millstream(settings=Settings(durability="off", max_segments=1)) as app:
        blocker = await app.submit(wait_for_ever)
        jobs = [await app.submit(wait_for_ever) for _ in range(3)]
        for job in (*jobs, blocker):
            assert await job.cancel() is JobState.CANCELLED
        assert app._home.process is not None
        segments = app._home.process.segments
        assert segments._drawn == {}
        assert segments.running() == set()


async def test_what_a_function_returns_because_it_sees_the_cancel_is_dropped() -> None:
    async with Millstream(settings=Settings(durability="off")) as app:
        job = await app.submit(look_out)
        await asyncio.to_thread(begun.wait)
        assert app._home.process is not None
        app._home.process.segments.cancel(job.id)  # and the loop stands still, so that the function is quicker
        while not app._home.process._services.threads._results:
            time.sleep(0.001)  # noqa: ASYNC251
        assert await job.wait() is JobState.CANCELLED


@pytest.mark.parametrize("turns", range(24))
async def test_a_body_that_has_returned_leaves_nobody_waiting_for_a_call(turns: int) -> None:
    async with Millstream(settings=Settings(durability="off")) as app:
        busy = asyncio.ensure_future(keep_busy())  # an idle loop tells bodies of ends at once
        assert await (await app.submit(returns_first, turns)).result() == turns
        await asyncio.sleep(0)
        assert listening.pop().done()
        busy.cancel()


async def test_who_was_called_takes_what_comes_next_without_being_called_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anyio, "_LINGER", 60.0)
    settings = Settings(durability="full", database_url=f"sqlite:///{tmp_path}/ledger.db")
    worker = Millstream(settings=settings, imports=[__name__], executes=True)
    worker._home.employ(Role(executes=True, is_gated=True))
    async with worker, Millstream(settings=settings, executes=False) as client:
        first = await client.submit(answer)
        assert worker._home.process is not None
        serving = asyncio.ensure_future(worker._home.process.serve())
        assert await first.result() == 42
        assert await (await client.submit(answer)).result() == 42
        assert not serving.done()
        serving.cancel()


@task
async def answer() -> int:
    return 42


listening: list[asyncio.Task[int]] = []


@flow
async def returns_first(turns: int) -> int:
    """Return after so many turns of the loop, whether or not a call has been answered."""
    listening.append(asyncio.ensure_future(answer()))
    for _ in range(turns):
        await asyncio.sleep(0)
    return turns


async def keep_busy() -> None:
    while True:  # noqa: ASYNC110  it waits for nothing
        await asyncio.sleep(0)


async def test_a_body_whose_own_time_is_over_on_a_busy_loop_is_not_stopped() -> None:
    async with Millstream(settings=Settings(durability="off", conduct_linger=0.05)) as app:
        job = await app.submit(asks_while_the_loop_stands_still)
        async with asyncio.timeout(30):
            assert await job.result() == "nobody answered"


async def test_a_process_that_lingers_for_nobody_has_nothing_to_do_while_a_body_waits_for_a_time_of_its_own() -> None:
    clock = CountingClock()
    async with Millstream(clock=clock, settings=Settings(durability="off", conduct_linger=0)) as app:
        assert await (await app.submit(asks_for_a_while)).result() == "nobody answered"
    assert clock.timers < 50


class CountingClock(SystemClock):
    timers = 0

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        self.timers += 1
        return super().call_later(seconds, callback)


@flow
async def asks_for_a_while() -> str:
    try:
        return str(await asyncio.wait_for(approval("well?"), timeout=0.3))
    except TimeoutError:
        return "nobody answered"


@flow
async def asks_while_the_loop_stands_still() -> str:
    asyncio.get_running_loop().call_later(0.02, time.sleep, 0.2)  # its own time and that to linger are over together
    try:
        return str(await asyncio.wait_for(approval("well?"), timeout=0.05))
    except TimeoutError:
        return "nobody answered"


@task
async def wait_for_ever() -> None:
    await asyncio.Event().wait()


begun = threading.Event()


@task
def look_out() -> str:
    begun.set()
    while not ctx.cancelled:
        time.sleep(0.001)
    return "seen"
