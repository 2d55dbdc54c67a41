"""The backend in this process keeps every backend's promises."""

import asyncio
from typing import Any

from millstream import JobState, Millstream, Settings, task
from millstream.clock import Clock
from millstream.testing import TaskBackendContract


class TestAnyIOBackend(TaskBackendContract):
    def make(self, clock: Clock, **settings: Any) -> Millstream:
        return Millstream(clock=clock, settings=Settings(**settings))


async def test_nothing_is_kept_of_a_job_that_was_cancelled_before_its_start() -> None:
    async with Millstream(settings=Settings(max_segments=1)) as app:
        blocker = await app.submit(wait_for_ever)
        jobs = [await app.submit(wait_for_ever) for _ in range(3)]
        for job in (*jobs, blocker):
            assert await job.cancel() is JobState.CANCELLED
        assert app._process is not None
        assert app._process.segments._drawn == {}
        assert app._process.segments._runs == {}


@task
async def wait_for_ever() -> None:
    await asyncio.Event().wait()
