"""The suite that every `Activity` passes.

Example:
    class TestRedisActivity(ActivityContract):
        @asynccontextmanager
        async def open(self):
            yield RedisActivity(link, keys)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import pytest

from millstream.clock import new_id
from millstream.ledger.activity import Activity, Look, Sighting

ALL_LOOKS = [Look(is_open, is_polled) for is_open in (False, True) for is_polled in (False, True)]


class ActivityContract:
    """Subclass it as `Test…` and override `open`; each test gets an activity of its own."""

    def open(self) -> AbstractAsyncContextManager[Activity]:
        """Return a context manager that gives an activity in which nobody has said anything."""
        raise NotImplementedError

    @pytest.fixture
    async def activity(self) -> AsyncIterator[Activity]:
        """The activity under test."""
        async with self.open() as activity:
            yield activity

    async def test_what_a_process_says_is_seen_as_it_said_it(self, activity: Activity) -> None:
        looks = {new_id(): look for look in ALL_LOOKS}
        await activity.touch("one", looks)
        found = await activity.seen(looks)
        assert {job: [(said.process, said.look) for said in found[job]] for job in looks} == {
            job: [("one", look)] for job, look in looks.items()
        }

    async def test_of_a_job_that_nobody_looked_at_nothing_is_seen(self, activity: Activity) -> None:
        job, other = new_id(), new_id()
        await activity.touch("one", {job: Look(is_open=True)})
        assert set(await activity.seen([job, other])) == {job}
        assert await activity.seen([]) == {}

    async def test_what_is_said_later_counts_and_each_process_speaks_for_itself(self, activity: Activity) -> None:
        job = new_id()
        for process in ("one", "two"):
            await activity.touch(process, {job: Look(is_open=True)})
        await activity.touch("one", {job: Look(is_open=False, is_polled=True)})
        found = {said.process: said.look for said in (await activity.seen([job]))[job]}
        assert found == {"one": Look(is_open=False, is_polled=True), "two": Look(is_open=True)}

    async def test_it_ages_until_it_is_said_again(self, activity: Activity) -> None:
        job = new_id()
        await activity.touch("one", {job: Look(is_open=True)})
        while (await self._said(activity, job)).age < 0.1:  # noqa: ASYNC110  time passes by itself
            await asyncio.sleep(0.01)
        old = (await self._said(activity, job)).age
        await activity.touch("one", {job: Look(is_open=True)})
        assert (await self._said(activity, job)).age < old + 0.1

    async def test_many_jobs_are_told_of_and_asked_for_at_once(self, activity: Activity) -> None:
        looks = {new_id(): ALL_LOOKS[number % 4] for number in range(1200)}
        await activity.touch("one", looks)
        found = await activity.seen(looks)
        assert {job: found[job][0].look for job in looks} == looks

    async def _said(self, activity: Activity, job: str) -> Sighting:
        (said,) = (await activity.seen([job]))[job]
        return said
