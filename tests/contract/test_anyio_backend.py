"""The backend in this process keeps every backend's promises, with jobs in memory and with jobs on disk."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from millstream import JobState, Millstream, Settings, task
from millstream.clock import Clock
from millstream.testing import SegmentBackendContract


class TestAnyIOSegmentBackend(SegmentBackendContract):
    def make(self, clock: Clock, **settings: Any) -> Millstream:
        return Millstream(clock=clock, settings=Settings(durability="off", **settings))


class OnDisk(SegmentBackendContract):
    keeps_jobs = True
    url = ""

    def make(self, clock: Clock, **settings: Any) -> Millstream:
        return Millstream(clock=clock, settings=Settings(durability="full", database_url=self.url, **settings))


class TestAnyIOSegmentBackendOnSqlite(OnDisk):
    @pytest.fixture(autouse=True)
    def where(self, tmp_path: Path) -> None:
        self.url = f"sqlite:///{tmp_path}/ledger.db"


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


@task
async def wait_for_ever() -> None:
    await asyncio.Event().wait()
