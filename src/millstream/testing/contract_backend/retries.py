"""Attempts: which failures are repeated, how often, and after how long."""

from __future__ import annotations

from typing import Any

import pytest

from millstream import Event, Job, JobState, Retry, TaskTimeoutError, ctx, flow
from millstream.testing.contract_attempts import (
    ask_again,
    flaky,
    flaky_for_closed,
    flaky_for_shop,
    jittery,
    slow_at_first,
)
from millstream.testing.contract_backend.stage import BackendCase, Stage
from millstream.testing.contract_tasks import PLACES, ClosedShopError, ShopError, outcome
from millstream.testing.room import Room

HOUR = 3600.0


@flow
async def conducts_flaky(room: str) -> Any:
    """Await a task that is repeated."""
    return await flaky["loop"](room, 2)


@flow(retries=2, retry_backoff=60, retry_jitter=False)
async def repeated_body(room: str) -> Any:
    """Conduct, fail behind a call, and be repeated as a whole."""
    first = await flaky["loop"](room, 0)
    if ctx.attempt < 3:
        await outcome["loop"]("shop")
    return first, ctx.attempt


@flow
def mapped_flaky(room: str) -> Any:
    """Each item fails twice."""
    return flaky["loop"].map([room] * 5, [0, 1, 2, 1, 0])


@flow
def mapped_jittery(count: int) -> Any:
    """Each item fails once."""
    return jittery.map(list(range(count)))


class RetriesContract(BackendCase):
    """Retries, by the virtual clock."""

    @pytest.mark.parametrize("place", PLACES)
    async def test_an_attempt_is_repeated_after_a_delay_that_doubles(
        self, stage: Stage, room: Room, place: str
    ) -> None:
        begun = stage.clock.now()
        job = await stage.submit(flaky[place], room.path, 4)
        assert await stage.drive(job.result()) == 5
        retried = await self.retries(stage, job)
        assert [event.data["attempt"] for event in retried] == [1, 2, 3, 4]
        assert [event.data["delay"] / HOUR for event in retried] == [1, 2, 4, 4]
        assert [(event.at - begun) / HOUR for event in retried] == [0, 1, 3, 7]
        assert stage.clock.monotonic() == 11 * HOUR
        assert room.notes() == [f"attempt {number}" for number in range(1, 6)]
        (node,) = await job.nodes()
        assert node.attempt == 5

    @pytest.mark.parametrize("place", PLACES)
    async def test_the_last_failure_is_raised_when_no_attempt_is_left(
        self, stage: Stage, room: Room, place: str
    ) -> None:
        job = await stage.submit(flaky_for_shop[place], room.path, 99, "closed")
        with pytest.raises(ClosedShopError):
            await stage.drive(job.result())
        assert room.notes() == [f"attempt {number}" for number in range(1, 5)]
        (node,) = await job.nodes()
        assert (node.attempt, node.state.label) == (4, "failed")
        assert len(await self.retries(stage, job)) == 3

    @pytest.mark.parametrize("place", PLACES)
    async def test_only_the_named_exceptions_and_their_descendants_are_repeated(
        self, stage: Stage, room: Room, place: str
    ) -> None:
        assert await stage.run(flaky_for_shop[place], room.path, 1, "closed") == 2
        assert await stage.run(flaky_for_closed[place], room.path, 1, "closed") == 2
        job = await stage.submit(flaky_for_closed[place], room.path, 1, "shop")
        with pytest.raises(ShopError):
            await stage.drive(job.result())
        assert await self.retries(stage, job) == []

    @pytest.mark.parametrize("how", ["exit", "cancel", "weird"])
    async def test_what_is_no_ordinary_exception_is_not_repeated(self, stage: Stage, room: Room, how: str) -> None:
        job = await stage.submit(flaky["loop"], room.path, 1, how)
        assert (await stage.end(job)).state is JobState.FAILED
        assert room.notes() == ["attempt 1"]

    async def test_an_attempt_without_back_off_is_repeated_at_once(self, stage: Stage, room: Room) -> None:
        assert await stage.run(flaky_for_shop["loop"], room.path, 3) == 4
        assert stage.clock.monotonic() == 0.0

    @pytest.mark.parametrize(("delay", "passed"), [(7200.0, 7200.0), (0.0, 0.0), (None, 0.0)])
    async def test_a_task_can_ask_for_another_attempt(self, stage: Stage, delay: float | None, passed: float) -> None:
        job = await stage.submit(ask_again, delay)
        assert await stage.drive(job.result()) == 2
        assert stage.clock.monotonic() == passed
        (event,) = await self.retries(stage, job)
        assert event.data["error"].message == "not ready"

    async def test_asking_does_not_give_more_attempts_than_there_are(self, stage: Stage, room: Room) -> None:
        with pytest.raises(Retry):
            await stage.run(flaky_for_shop["loop"], room.path, 99, "retry")
        assert len(room.notes()) == 4

    async def test_jitter_stays_between_nothing_and_the_delay(self, stage: Stage) -> None:
        count = 20 if self.executes_elsewhere else 200  # each is an instant at which processes have to be calm
        job = await stage.submit(mapped_jittery, count)
        assert await stage.drive(job.result()) == list(range(count))
        delays = [event.data["delay"] for event in await self.retries(stage, job)]
        assert len(delays) == count
        assert min(delays) >= 0
        assert max(delays) <= 10
        assert max(delays) - min(delays) > 5
        assert stage.clock.monotonic() == pytest.approx(max(delays), abs=1e-3)

    async def test_each_item_of_a_map_has_its_own_attempts(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(mapped_flaky, room.path)
        assert await stage.drive(job.result()) == [1, 2, 3, 2, 1]
        retried = [str(event.node) for event in await self.retries(stage, job)]
        assert sorted(retried) == ["_flaky-loop[1]", "_flaky-loop[2]", "_flaky-loop[2]", "_flaky-loop[3]"]

    async def test_a_time_out_is_repeated_like_any_failure(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(slow_at_first, room.path, "never")
        await room.noted("at never")
        await stage.clock.advance(10)
        assert await stage.drive(job.result()) == 2
        (event,) = await self.retries(stage, job)
        assert event.data["error"].short_type == TaskTimeoutError.__name__

    async def test_a_conducted_call_is_repeated(self, stage: Stage, room: Room) -> None:
        assert await stage.run(conducts_flaky, room.path) == 3
        assert stage.clock.monotonic() == 3 * HOUR

    async def test_a_conducting_flow_is_repeated_as_a_whole(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(repeated_body, room.path)
        assert await stage.drive(job.result()) == (1, 3)
        assert room.notes() == ["attempt 1"] * 3
        assert stage.clock.monotonic() == 60 + 120
        assert len(await job.nodes()) == 3 + 2 + 1

    @staticmethod
    async def retries(stage: Stage, job: Job) -> list[Event]:
        """Return the events that tell of repeated attempts."""
        return [event for event in await stage.events(job) if event.type == "node_retried"]
