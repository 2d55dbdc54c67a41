"""What the suite of backends stands on: an app on a virtual clock, and the truth about each job that ran on it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from millstream import Event, Job, JobState, Millstream
from millstream.clock import Clock
from millstream.model.event import START, TERMINAL
from millstream.model.job import JobRecord
from millstream.testing.clock import VirtualClock
from millstream.testing.room import Room

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

GUARD_SECONDS = 120.0
"""What takes longer than this will never come; by real time."""

ENDS = ("node_succeeded", "node_failed", "node_skipped", "node_upstream_failed", "node_cancelled")


class Stage:
    """An app, its clock, and the jobs that were submitted through it.

    Attributes:
        app: The app, on the backend under test.
        clock: Its clock.
        jobs: The jobs so far.
    """

    def __init__(self, app: Millstream, clock: VirtualClock) -> None:
        self.app = app
        self.clock = clock
        self.jobs: list[Job] = []

    async def submit(self, work: Any, /, *args: Any, **inputs: Any) -> Job:
        """Submit, and remember the job."""
        job = await self.app.submit(work, *args, **inputs)
        self.jobs.append(job)
        return job

    async def run(self, work: Any, /, *args: Any, **inputs: Any) -> Any:
        """Submit, drive the clock to the end, and return the result or raise what failed the job."""
        return await self.drive((await self.submit(work, *args, **inputs)).result())

    async def end(self, job: Job) -> JobRecord:
        """Drive the clock to a job's end, and return what is recorded of it."""
        await self.drive(job.wait())
        return await job.record()

    async def drive(self, work: Awaitable[T]) -> T:
        """Await something while the clock is driven; what never comes fails the test."""
        async with asyncio.timeout(GUARD_SECONDS):
            return await self.clock.drive(work)

    async def soon(self, work: Awaitable[T]) -> T:
        """Await something while the clock stands still; what never comes fails the test."""
        async with asyncio.timeout(GUARD_SECONDS):
            return await work

    async def until(self, job: Job, kind: str, node: str | None = None) -> Event:
        """Wait for an event, and return it."""

        async def find() -> Event:
            async for event in job.events():
                if event.type == kind and node in (None, event.node):
                    return event
            raise AssertionError(f"{job!r} ended without an event {kind} of {node or 'any node'}")

        return await self.soon(find())

    async def until_waiting(self, job: Job) -> None:
        """Wait until a job is paused."""

        async def look() -> None:
            while await job.state() is not JobState.WAITING:  # noqa: ASYNC110  no event says that it was laid down
                await asyncio.sleep(0.001)

        await self.soon(look())

    async def events(self, job: Job) -> list[Event]:
        """Return all events of a job that has ended."""
        return await self.soon(self._read(job))

    async def kinds(self, job: Job, node: str | None = None) -> list[str]:
        """Return the types of an ended job's durable events, or of those about a node."""
        return [event.type for event in await self.events(job) if node in (None, event.node) and event.is_durable]

    async def states(self, job: Job) -> dict[str, str]:
        """Return how each node ended."""
        return {result.path: result.state.label for result in await job.nodes()}

    async def check(self, job: Job) -> None:
        """Hold an ended job to what holds for each: one terminal event, the last, equal to its state, and no hole."""
        record, events = await job.record(), await self.events(job)
        durable = [event for event in events if event.is_durable]
        assert [event.seq for event in durable] == list(range(1, len(durable) + 1))
        assert [event.cursor for event in events] == sorted({event.cursor for event in events})
        assert [event.type for event in events].count(TERMINAL) == 1
        assert events[-1].type == TERMINAL
        assert events[-1].data == {"state": record.state.value, "reason": record.reason}
        ends = Counter(event.node for event in durable if event.type in ENDS)
        assert not ends or max(ends.values()) == 1
        assert set(ends) == {result.path for result in await job.nodes()}
        assert (record.error is not None) == (record.state is JobState.FAILED)

    async def check_all(self) -> None:
        """Check every job that has ended."""
        for job in self.jobs:
            if (await job.state()).is_final:
                await self.check(job)

    async def _read(self, job: Job) -> list[Event]:
        return [event async for event in job.events(START)]


def of_one_process(why: str) -> Callable[[F], F]:
    """Mark a test that speaks of what only the process knows that executes; it is skipped, with the reason, elsewhere.

    Args:
        why: The reason.
    """

    def mark(test: F) -> F:
        vars(test)["of_one_process"] = why
        return test

    return mark


class BackendCase:
    """What every part of the suite has: the factory to override, and the fixtures.

    Attributes:
        keeps_jobs: Whether jobs outlive the app.
        executes_elsewhere: Whether other processes execute them: those share one ledger and one clock with the test.
        executors: How many processes execute them.
    """

    keeps_jobs = False
    executes_elsewhere = False
    executors = 1

    def make(self, clock: Clock, **settings: Any) -> Millstream:
        """Return an app on the backend under test, with these settings; nothing of it is started."""
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def executor(self, request: pytest.FixtureRequest) -> None:
        """Skip what cannot be told of other processes."""
        why = getattr(request.function, "of_one_process", None)
        if why and self.executes_elsewhere:
            pytest.skip(f"of one process: {why}")

    async def leave(self, stage: Stage) -> None:
        """End what a test leaves behind, where that outlives its app."""

    @pytest.fixture
    def clock(self) -> VirtualClock:
        """The clock that the app goes by."""
        return VirtualClock()

    @pytest.fixture
    def settings(self) -> dict[str, Any]:
        """The settings of the app; `@pytest.mark.parametrize("settings", ...)` gives others."""
        return {}

    @pytest.fixture
    async def stage(self, clock: VirtualClock, settings: dict[str, Any]) -> AsyncIterator[Stage]:
        """The app under test; every job is checked when the test is over, and that nothing of it is left behind."""
        before = asyncio.all_tasks()
        async with self.make(clock, **settings) as app:
            stage = Stage(app, clock)
            yield stage
            await stage.check_all()
            await self.leave(stage)
        await asyncio.sleep(0)
        left = [found for found in asyncio.all_tasks() - before if "TestRunner" not in repr(found)]  # AnyIO's own
        assert not left

    @pytest.fixture
    def room(self, tmp_path: Path) -> Room:
        """Where the test and its tasks meet."""
        return Room(tmp_path)


def with_settings(**settings: Any) -> pytest.MarkDecorator:
    """Return a mark that lets a test have an app with these settings."""
    return pytest.mark.parametrize("settings", [settings], ids=[",".join(f"{k}={v}" for k, v in settings.items())])
