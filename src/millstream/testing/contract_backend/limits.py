"""Time-outs, soft and hard, expiry, priority, and what must run only once."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from millstream import (
    Decision,
    InvalidInputError,
    JobState,
    SoftTimeLimitExceeded,
    TaskTimeoutError,
    approval,
    flow,
    task,
)
from millstream.errors import ExpiredError, TaskError
from millstream.testing.contract_attempts import (
    deaf,
    pay,
    rude,
    soft_and_lost,
    soft_in_process,
    soft_in_thread,
    soft_on_loop,
    stuck,
    too_long,
)
from millstream.testing.contract_backend.stage import BackendCase, Stage, with_settings
from millstream.testing.contract_tasks import block_at, echo, note, note_once, process_id, wait_at
from millstream.testing.room import Room


@flow(timeout=10)
async def conducts_too_long(room: str, gate: str) -> Any:
    """Await a call that takes longer than the flow may."""
    return await wait_at(room, gate)


@flow
def asks_once() -> Any:
    """Wait for somebody."""
    return approval("well?")


@flow
def in_time(room: str) -> Any:
    """A chain under time-outs, each of which begins anew."""
    first = too_long.options(id="first")(room, "first")
    second = too_long.options(id="second", timeout=100)(room, "second")
    first >> second
    return second


@flow
def prioritised(room: str) -> Any:
    """Nodes that are ready together, with priorities."""
    for number, priority in enumerate([0, 5, 9, 5, 0]):
        note.options(id=f"n{number}", priority=priority)(room, f"n{number}")


@task(expires=10)
async def perishable(room: str) -> None:
    """Must start within ten seconds."""
    Room(room).note("started")


@flow
def perishable_later(room: str) -> Any:
    """A node that may come too late behind one that waits."""
    first = wait_at(room, "gate")
    last = perishable.options(id="last")(room)
    first >> last
    return last


@flow
def once_then(room: str) -> Any:
    """A node that runs once, between others."""
    return echo(note_once.options(id="once")(room, echo("paid")))


@flow
def too_long_twice(room: str) -> Any:
    """One that answers its time-out with an exception, and one that takes too long after it."""
    first = rude.options(id="first")(room, "gate")
    second = too_long.options(id="second", join="all_failed")(room, "gate")
    first >> second


@flow
def after_a_stuck_thread(room: str) -> Any:
    """Go on after a thread that takes too long."""
    wrong = stuck["thread"].options(id="wrong")(room, "gate")
    after = wait_at.options(join="all_failed")(room, "end", "fine")
    wrong >> after
    return after


@flow
def one_process_after_the_other(room: str) -> Any:
    """One that is quicker than its soft time-out, and one that blocks."""
    first = process_id.options(soft_timeout=0.05)()
    second = block_at["process"](room, "gate", "undisturbed")
    first >> second
    return second


class LimitsContract(BackendCase):
    """Limits on attempts, and on what is done twice."""

    # ----------------------------------------------------------------------------------------- hard time-outs
    async def test_a_coroutine_that_takes_too_long_is_stopped(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(too_long, room.path, "gate")
        await room.noted("at gate")
        await stage.clock.advance(9.9)
        assert await job.state() is JobState.RUNNING
        await stage.clock.advance(0.1)
        with pytest.raises(TaskTimeoutError, match="10 s"):
            await stage.soon(job.result())
        assert room.notes() == ["at gate", "left gate"]
        assert (await job.record()).reason == "timeout"
        assert issubclass(TaskTimeoutError, TimeoutError)

    async def test_a_coroutine_cannot_answer_its_time_out(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(deaf, room.path, "gate")
        await room.noted("at gate")
        await stage.clock.advance(10)
        with pytest.raises(TaskTimeoutError):
            await stage.soon(job.result())
        assert room.notes() == ["at gate", "heard"]

    async def test_an_exception_in_answer_to_a_time_out_does_not_hide_it(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(too_long_twice, room.path)
        await room.noted("at gate")
        await stage.clock.advance(10)
        await room.noted("at gate", times=2)
        await stage.clock.advance(10)
        assert (await stage.end(job)).reason == "timeout"
        errors = [result.error for result in await job.nodes()]
        assert [error.short_type for error in errors if error] == ["TaskTimeoutError"] * 2

    async def test_a_thread_that_takes_too_long_is_dropped(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(stuck["thread"], room.path, "gate")
        await room.noted("at gate")
        await stage.clock.advance(10)
        with pytest.raises(TaskTimeoutError):
            await stage.soon(job.result())
        record, events = await job.record(), await stage.events(job)
        room.open("gate")
        await room.noted("left gate; cancelled")
        assert await stage.run(echo, "others go on") == "others go on"
        assert await job.record() == record
        assert await stage.events(job) == events

    async def test_a_thread_that_comes_back_while_its_job_goes_on_changes_nothing(
        self, stage: Stage, room: Room
    ) -> None:
        job = await stage.submit(after_a_stuck_thread, room.path)
        await room.noted("at gate")
        await stage.clock.advance(10)
        await room.noted("at end")
        room.open("gate")
        await room.noted("left gate; cancelled")
        room.open("end")
        assert await stage.drive(job.result()) == "fine"
        assert await stage.kinds(job, "wrong") == ["node_failed"]

    async def test_a_process_that_takes_too_long_is_killed(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(stuck["process"], room.path, "gate")
        await room.noted("at gate")
        pid = int(room.notes()[0].removeprefix("pid "))
        await stage.clock.advance(10)
        with pytest.raises(TaskTimeoutError):
            await stage.soon(job.result())
        assert is_gone(pid)
        room.open("gate")
        assert room.notes() == [f"pid {pid}", "at gate"]

    async def test_a_conducting_flow_that_takes_too_long_is_stopped_with_its_calls(
        self, stage: Stage, room: Room
    ) -> None:
        job = await stage.submit(conducts_too_long, room.path, "gate")
        await room.noted("at gate")
        await stage.clock.advance(10)
        with pytest.raises(TaskTimeoutError):
            await stage.soon(job.result())
        assert room.notes() == ["at gate", "cancelled at gate", "left gate"]

    async def test_each_attempt_has_its_own_time(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(in_time, room.path)
        await room.noted("at first")
        await stage.clock.advance(9)
        room.open("first")
        await room.noted("at second")
        await stage.clock.advance(99)
        room.open("second")
        assert await stage.drive(job.wait()) is JobState.SUCCEEDED

    # ----------------------------------------------------------------------------------------- soft time-outs
    async def test_a_coroutine_can_clean_up_when_its_soft_time_out_is_over(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(soft_on_loop, room.path, "gate")
        await room.noted("at gate")
        await stage.clock.advance(5)
        assert await stage.soon(job.result()) == "cleaned up"
        assert room.notes() == ["at gate", "soft"]

    async def test_behind_the_soft_time_out_comes_the_hard_one(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(soft_on_loop, room.path, "gate", is_deaf=True)
        await room.noted("at gate")
        await stage.clock.advance(5)
        await room.noted("at gate", times=2)
        await stage.clock.advance(5)
        with pytest.raises(TaskTimeoutError):
            await stage.soon(job.result())
        assert room.notes() == ["at gate", "soft", "at gate"]

    async def test_a_soft_time_out_that_is_not_caught_fails_the_node(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(soft_and_lost, room.path, "gate")
        await room.noted("at gate")
        await stage.clock.advance(5)
        with pytest.raises(SoftTimeLimitExceeded):
            await stage.soon(job.result())

    async def test_a_thread_can_clean_up_when_its_soft_time_out_is_over(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(soft_in_thread, room.path)
        await room.noted("begun")
        await stage.clock.advance(5)
        assert await stage.soon(job.result()) == "cleaned up"
        assert await stage.run(echo, "the thread lives on") == "the thread lives on"

    async def test_a_process_can_clean_up_when_its_soft_time_out_is_over(self, stage: Stage, room: Room) -> None:
        assert await stage.run(soft_in_process, room.path) == "cleaned up"

    @with_settings(max_processes=1)
    async def test_a_soft_time_out_does_not_reach_the_next_task_of_its_process(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(one_process_after_the_other, room.path)
        await room.noted("at gate")
        await asyncio.sleep(0.1)
        room.open("gate")
        assert await stage.drive(job.result()) == "undisturbed"

    # ----------------------------------------------------------------------------------------- expiry
    @with_settings(max_segments=1)
    async def test_a_job_that_could_not_start_in_time_fails(self, stage: Stage, room: Room) -> None:
        blocker = await stage.submit(wait_at, room.path, "gate")
        late = await stage.submit(note, room.path, "late", expires=10)
        early = await stage.submit(note, room.path, "early", expires=1000)
        await room.noted("at gate")
        await stage.clock.advance(11)
        room.open("gate")
        await stage.drive(blocker.result())
        with pytest.raises(ExpiredError, match="10 s"):
            await stage.drive(late.result())
        assert (await late.record()).reason == "expired"
        assert await stage.drive(early.result()) == "early"
        assert "late" not in room.notes()

    async def test_a_node_that_could_not_start_in_time_fails(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(perishable_later, room.path)
        await room.noted("at gate")
        await stage.clock.advance(11)
        room.open("gate")
        with pytest.raises(ExpiredError):
            await stage.drive(job.result())
        assert "started" not in room.notes()
        assert await stage.kinds(job, "last") == ["node_failed"]

    # ----------------------------------------------------------------------------------------- priority, slots
    async def test_of_ready_nodes_the_higher_priority_goes_first(self, stage: Stage, room: Room) -> None:
        await stage.run(prioritised, room.path)
        assert room.notes() == ["n2", "n1", "n3", "n0", "n4"]

    @with_settings(max_segments=1)
    async def test_of_queued_jobs_the_higher_priority_goes_first_then_the_older(self, stage: Stage, room: Room) -> None:
        await stage.submit(wait_at, room.path, "gate")
        await room.noted("at gate")
        jobs = [await stage.submit(note, room.path, f"job {p}{n}", priority=p) for n, p in enumerate([0, 5, 9, 5, 0])]
        assert {await job.state() for job in jobs} == {JobState.QUEUED}
        room.open("gate")
        await stage.drive(asyncio.gather(*(job.result() for job in jobs)))
        assert [text for text in room.notes() if "job" in text] == ["job 92", "job 51", "job 53", "job 00", "job 04"]

    @with_settings(max_segments=3)
    async def test_no_more_jobs_run_at_once_than_there_are_slots(self, stage: Stage, room: Room) -> None:
        jobs = [await stage.submit(wait_at, room.path, f"gate{number}") for number in range(8)]
        for number in range(8):
            for begun in range(min(number + 3, 8)):
                await room.noted(f"at gate{begun}")
            states = [await job.state() for job in jobs]
            assert states.count(JobState.RUNNING) == min(3, 8 - number)
            room.open(f"gate{number}")
            await stage.drive(jobs[number].result())

    # ----------------------------------------------------------------------------------------- once
    async def test_the_start_of_what_must_run_once_is_recorded(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(once_then, room.path)
        assert await stage.drive(job.result()) == "paid"
        (start,) = [event for event in await stage.events(job) if event.type == "node_started" and event.is_durable]
        assert (start.node, start.data) == ("once", {"attempt": 1})
        assert await stage.kinds(job, "once") == ["node_started", "node_succeeded"]

    async def test_what_must_run_once_is_repeated_only_if_it_says_itself_that_it_failed(
        self, stage: Stage, room: Room
    ) -> None:
        assert await stage.run(pay, room.path, "shop") == 2
        assert room.notes() == ["pay 1", "pay 2"]

    @pytest.mark.parametrize(
        ("decision", "result"),
        [(Decision("repeat"), 2), (Decision("done", 7), 7), (Decision("fail"), TaskError)],
        ids=["repeat", "done", "fail"],
    )
    async def test_whether_what_must_run_once_has_run_is_for_people_to_decide(
        self, stage: Stage, room: Room, decision: Decision, result: Any
    ) -> None:
        job = await stage.submit(pay, room.path, "slow")
        await room.noted("at gate")
        await stage.clock.advance(10)
        waiting = await stage.until(job, "waiting")
        assert waiting.data["reason"] == "decision"
        assert waiting.data["error"].short_type == "TaskTimeoutError"
        room.open("gate")
        assert await job.approve(str(waiting.node), decision)
        if result is TaskError:
            with pytest.raises(TaskError, match="decided that it failed"):
                await stage.drive(job.result())
        else:
            assert await stage.drive(job.result()) == result
        assert room.notes()[:2] == ["pay 1", "at gate"]
        assert room.notes().count("pay 2") == (decision.what == "repeat")

    async def test_an_answer_is_no_decision_and_a_decision_no_answer(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(pay, room.path, "slow")
        await room.noted("at gate")
        await stage.clock.advance(10)
        await stage.until(job, "waiting")
        with pytest.raises(InvalidInputError, match="say Decision"):
            await job.approve("pay")
        assert await job.approve("pay", Decision("fail"))
        asked = await stage.submit(asks_once)
        await stage.until(asked, "waiting")
        with pytest.raises(InvalidInputError, match="not for a decision"):
            await asked.approve("approval", Decision("fail"))
        assert await asked.approve("approval", answer=False)
        assert await stage.drive(asked.result()) is False

    async def test_a_decision_counts_for_one_attempt(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(pay, room.path, "slow")
        for attempt in (1, 2):
            await room.noted(f"pay {attempt}")
            await room.noted("at gate", times=attempt)
            await stage.clock.advance(10)
            await stage.until_waiting(job)
            assert await job.approve("pay", Decision("repeat" if attempt == 1 else "fail"))
        with pytest.raises(TaskError, match="decided that it failed"):
            await stage.drive(job.result())
        assert room.notes() == ["pay 1", "at gate", "pay 2", "at gate"]


def is_gone(pid: int) -> bool:
    """Whether a process has ended, and was collected by its parent."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
