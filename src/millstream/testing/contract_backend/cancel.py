"""A cancel that says `cancelled` is true, whatever the job was doing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from millstream import Job, JobCancelledError, JobNotFoundError, JobState, approval, flow, sleep
from millstream.clock import new_id
from millstream.errors import ClosedError
from millstream.execution import cancel as cancelling
from millstream.testing.contract_attempts import flaky
from millstream.testing.contract_backend.limits import is_gone
from millstream.testing.contract_backend.stage import BackendCase, Stage, of_one_process, with_settings
from millstream.testing.contract_tasks import (
    ShopError,
    block_at,
    echo,
    note,
    outcome,
    stubborn,
    wait_at,
    waiting_within,
)
from millstream.testing.room import Room

CANCELLED = JobState.CANCELLED


@flow
def fan_at_gate(room: str, count: int) -> Any:
    """Coroutines that wait, and one that comes after them."""
    last = note.options(id="last")(room, "never")
    [wait_at(room, "gate") for _ in range(count)] >> last


@flow
def mapped_at_gate(room: str, count: int) -> Any:
    """Items that wait, a few at a time."""
    return wait_at.options(id="item", in_flight=5).map([room] * count, ["gate"] * count)


@flow
async def conducts_gate(room: str) -> Any:
    """Await two calls at once."""
    try:
        return await asyncio.gather(wait_at(room, "gate"), block_at["thread"](room, "thread"))
    finally:
        note_directly(room, "body left")


@flow
def sleeps(room: str) -> Any:
    """Sleep an hour."""
    after = note.options(id="after")(room, "never")
    sleep(3600) >> after


@flow
def asks(room: str) -> Any:
    """Wait for a person."""
    return note.options(id="after")(room, approval("really?"))


@flow
def some_steps(count: int) -> Any:
    """A chain that ends soon."""
    value = echo(0)
    for _ in range(count):
        value = echo(value)
    return value


def note_directly(room: str, text: str) -> None:
    """Leave a note without being a task."""
    Room(room).note(text)


@flow
def threads_at_gate(room: str) -> Any:
    """Threads that wait."""
    return [block_at["thread"](room, "gate", i) for i in range(6)]


class CancelContract(BackendCase):
    """Cancels."""

    # ---------------------------------------------------------------------------------- of what runs
    async def test_a_coroutine_has_cleaned_up_when_the_cancel_returns(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(fan_at_gate, room.path, 3)
        await room.noted("at gate", times=3)
        assert await self.cancelled(stage, job) is CANCELLED
        assert room.notes() == [*["at gate"] * 3, *["cancelled at gate", "left gate"] * 3]
        assert await stage.states(job) == dict.fromkeys(("wait_at", "wait_at-2", "wait_at-3"), "cancelled")
        with pytest.raises(JobCancelledError, match="cancel"):
            await stage.soon(job.result())

    async def test_a_thread_is_dropped(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(block_at["thread"], room.path, "gate")
        await room.noted("at gate")
        assert await self.cancelled(stage, job) is CANCELLED
        record, events = await job.record(), await stage.events(job)
        room.open("gate")
        await room.noted("left gate; cancelled")
        assert await stage.run(echo, "others go on") == "others go on"
        assert (await job.record(), await stage.events(job)) == (record, events)

    async def test_a_process_is_killed(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(block_at["process"], room.path, "gate")
        await room.noted("at gate")
        assert await self.cancelled(stage, job) is CANCELLED
        assert is_gone(int(room.notes()[0].removeprefix("pid ")))

    async def test_the_items_of_a_map_are_stopped_and_no_more_begin(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(mapped_at_gate, room.path, 50)
        await room.noted("at gate", times=5)
        assert await self.cancelled(stage, job) is CANCELLED
        room.open("gate")
        assert room.notes() == [*["at gate"] * 5, *["cancelled at gate", "left gate"] * 5]
        assert await stage.states(job) == dict.fromkeys(["item", *(f"item[{i}]" for i in range(5))], "cancelled")

    async def test_what_is_nested_is_stopped(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(waiting_within, room.path, "gate")
        await room.noted("at gate")
        assert await self.cancelled(stage, job) is CANCELLED
        assert room.notes() == ["at gate", "cancelled at gate", "left gate"]
        assert set((await stage.states(job)).values()) == {"cancelled"}

    async def test_a_conducting_flow_is_stopped_with_its_calls(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(conducts_gate, room.path)
        await room.noted("at gate")
        await room.noted("at thread")
        assert await self.cancelled(stage, job) is CANCELLED
        room.open("thread")
        await room.noted("left thread; cancelled")
        assert {"cancelled at gate", "body left"} <= set(room.notes())
        assert set((await stage.states(job)).values()) == {"cancelled"}

    @pytest.mark.parametrize("waiting", [sleeps, asks], ids=["a sleep", "an approval"])
    async def test_a_flow_that_waits_is_stopped(self, stage: Stage, room: Room, waiting: Any) -> None:
        job = await stage.submit(waiting, room.path)
        await stage.until(job, "waiting")
        assert await self.cancelled(stage, job) is CANCELLED
        await stage.clock.advance(7200)
        assert not await stage.app.approve(job.id, "approval", "yes")
        assert room.notes() == []

    async def test_a_node_that_waits_for_its_next_attempt_is_stopped(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(flaky["loop"], room.path, 3)
        await stage.until(job, "node_retried")
        assert await self.cancelled(stage, job) is CANCELLED
        await stage.clock.advance(7200)
        assert room.notes() == ["attempt 1"]

    async def test_a_coroutine_that_does_not_want_to_stop_is_asked_again(
        self, stage: Stage, room: Room, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cancelling, "ANSWER_SECONDS", 0.05)
        job = await stage.submit(stubborn, room.path, "gate")
        await room.noted("at gate")
        assert await stage.soon(job.cancel()) is JobState.RUNNING
        assert (await job.record()).cancel_requested
        room.open("gate")
        assert await stage.end(job) == await job.record()
        assert room.notes().count("refused") > 1

    # ---------------------------------------------------------------------------------- of what does not run yet
    @with_settings(max_segments=1)
    async def test_a_job_that_has_not_started_never_starts(self, stage: Stage, room: Room) -> None:
        blocker = await stage.submit(wait_at, room.path, "gate")
        job = await stage.submit(note, room.path, "never")
        behind = await stage.submit(note, room.path, "behind")
        await room.noted("at gate")
        assert await self.cancelled(stage, job) is CANCELLED
        assert await stage.kinds(job) == ["planned", "ended"]
        assert (await job.record()).started_at is None
        room.open("gate")
        assert await stage.drive(behind.result()) == "behind"
        assert await stage.drive(blocker.wait()) is JobState.SUCCEEDED
        assert "never" not in room.notes()

    @of_one_process("elsewhere it may have ended by then")
    async def test_a_job_that_is_cancelled_right_after_its_submission_has_no_effect(
        self, stage: Stage, room: Room
    ) -> None:
        job = await stage.submit(note, room.path, "never")
        assert await self.cancelled(stage, job) is CANCELLED
        assert room.notes() == []

    @with_settings(max_segments=1)
    async def test_a_cancel_frees_the_slot(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(wait_at, room.path, "gate")
        following = await stage.submit(echo, "next")
        await room.noted("at gate")
        assert await self.cancelled(stage, job) is CANCELLED
        assert await stage.drive(following.result()) == "next"

    # ---------------------------------------------------------------------------------- twice, too late, at once
    @with_settings(max_segments=1)
    @pytest.mark.parametrize("is_queued", [False, True], ids=["running", "queued"])
    async def test_a_hundred_cancels_at_once_end_it_once(self, stage: Stage, room: Room, *, is_queued: bool) -> None:
        jobs = [await stage.submit(wait_at, room.path, "gate") for _ in range(2)]
        await room.noted("at gate")
        job = jobs[1 if is_queued else 0]
        answers = await stage.soon(asyncio.gather(*(job.cancel() for _ in range(100))))
        assert set(answers) == {CANCELLED}
        await stage.check(job)
        room.open("gate")
        await stage.drive(jobs[0].wait())
        await stage.drive(jobs[1].wait())

    @pytest.mark.parametrize("turns", range(0, 60, 2))
    async def test_the_answer_is_the_truth_when_a_cancel_meets_the_end(self, stage: Stage, turns: int) -> None:
        job = await stage.submit(some_steps, 3)
        for _ in range(turns // 4):
            await asyncio.sleep(0)
        answer = await self.cancelled(stage, job)
        record = await job.record()
        assert answer is record.state
        assert record.state in (CANCELLED, JobState.SUCCEEDED)
        assert record.result == (0 if answer is JobState.SUCCEEDED else None)

    async def test_the_answer_is_the_truth_when_cancel_meets_the_end_of_many_threads(
        self, stage: Stage, room: Room
    ) -> None:
        jobs = [await stage.submit(threads_at_gate, room.path) for _ in range(5)]
        await room.noted("at gate", times=30)
        room.open("gate")
        for turns, job in enumerate(jobs):
            await asyncio.sleep(0.002 * turns)
            answer = await self.cancelled(stage, job)
            record = await job.record()
            assert answer is record.state
            assert record.result == (list(range(6)) if answer is JobState.SUCCEEDED else None)

    async def test_a_job_that_has_ended_stays_as_it_ended(self, stage: Stage) -> None:
        good, bad = await stage.submit(echo, 7), await stage.submit(outcome["loop"], "shop")
        await stage.drive(asyncio.gather(good.wait(), bad.wait()))
        before = [await good.record(), await bad.record()]
        assert await stage.soon(good.cancel()) is JobState.SUCCEEDED
        assert await stage.soon(bad.cancel()) is JobState.FAILED
        assert [await good.record(), await bad.record()] == before
        assert await stage.soon(good.result()) == 7
        with pytest.raises(ShopError):
            await stage.soon(bad.result())

    async def test_who_waits_for_a_cancelled_job_is_told(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(wait_at, room.path, "gate")
        waiting = [asyncio.ensure_future(job.result()) for _ in range(10)]
        reading = [asyncio.ensure_future(stage.events(job)) for _ in range(10)]
        await room.noted("at gate")
        assert await self.cancelled(stage, job) is CANCELLED
        for result in await stage.soon(asyncio.gather(*waiting, return_exceptions=True)):
            assert isinstance(result, JobCancelledError)
        for events in await stage.soon(asyncio.gather(*reading)):
            assert events[-1].data == {"state": "cancelled", "reason": "cancel"}

    async def test_other_jobs_are_not_disturbed(self, stage: Stage, room: Room) -> None:
        jobs = [await stage.submit(wait_at, room.path, "gate", i) for i in range(5)]
        await room.noted("at gate", times=5)
        assert await self.cancelled(stage, jobs[2]) is CANCELLED
        room.open("gate")
        others = [job for i, job in enumerate(jobs) if i != 2]
        assert await stage.drive(asyncio.gather(*(job.result() for job in others))) == [0, 1, 3, 4]

    async def test_an_unknown_job_is_an_error(self, stage: Stage) -> None:
        with pytest.raises(JobNotFoundError):
            await stage.app.cancel(new_id())

    async def test_who_closes_the_app_ends_what_runs_and_what_waits(self, stage: Stage, room: Room) -> None:
        app = self.make(stage.clock, max_segments=1)
        async with app:
            running, queued = await app.submit(wait_at, room.path, "gate"), await app.submit(echo, 1)
            waiting = [asyncio.ensure_future(job.result()) for job in (running, queued)]
            await room.noted("at gate")
        for result in await stage.soon(asyncio.gather(*waiting, return_exceptions=True)):
            assert isinstance(result, ClosedError if self.keeps_jobs else JobCancelledError)
        if self.executes_elsewhere:  # where it goes on
            room.open("gate")
            await room.noted("left gate")
            assert room.notes() == ["at gate", "left gate"]
        else:
            assert room.notes() == ["at gate", "cancelled at gate", "left gate"]

    @staticmethod
    async def cancelled(stage: Stage, job: Job) -> JobState:
        """Cancel a job, check that the answer is true, and return it."""
        answer = await stage.soon(job.cancel())
        assert await job.state() is answer
        if answer.is_final:
            await stage.check(job)
        return answer
