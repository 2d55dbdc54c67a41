"""Tasks in processes of their own: what they are good for, and how they die."""

from __future__ import annotations

import os
from typing import Any

import pytest

from millstream import JobState, flow
from millstream.errors import NotSerializableError, ProcessDiedError
from millstream.testing.contract_backend.limits import is_gone
from millstream.testing.contract_backend.stage import BackendCase, Stage, of_one_process, with_settings
from millstream.testing.contract_tasks import (
    Unpicklable,
    UnreadableError,
    add,
    block_at,
    coroutine_in_process,
    die,
    give,
    process_id,
    raise_unreadable,
    return_unpicklable,
)
from millstream.testing.room import Room


@flow
def pids(count: int) -> Any:
    """Ask several processes, one after the other."""
    return process_id.map(list(range(count)))


class ProcessesContract(BackendCase):
    """Processes."""

    async def test_a_task_runs_in_another_process(self, stage: Stage) -> None:
        assert await stage.run(process_id) != os.getpid()

    async def test_a_coroutine_function_can_run_in_a_process(self, stage: Stage) -> None:
        assert await stage.run(coroutine_in_process, 1) == 2

    @with_settings(max_processes=2)
    async def test_processes_are_kept_and_no_more_are_started_than_allowed(self, stage: Stage) -> None:
        most = 2 * self.executors
        assert len(set(await stage.run(pids, 4 * most))) <= most

    @with_settings(max_processes=2)
    async def test_a_job_that_waits_for_a_process_holds_a_slot_and_starts_none(self, stage: Stage, room: Room) -> None:
        if self.executors > 1:
            pytest.skip("of one process: each of several has processes and slots of its own")
        jobs = [await stage.submit(block_at["process"], room.path, "gate") for _ in range(5)]
        await room.noted("at gate", times=2)
        for job in jobs:  # which hold no process yet, and a slot
            await stage.until(job, "started")
        assert len([text for text in room.notes() if text.startswith("pid")]) == 2
        room.open("gate")
        for job in jobs:
            assert await stage.drive(job.wait()) is JobState.SUCCEEDED
        assert len({text for text in room.notes() if text.startswith("pid")}) == 2

    @of_one_process("the processes that end with an app are those that it started")
    async def test_when_the_app_is_closed_its_processes_are_gone(self, stage: Stage, room: Room) -> None:
        async with self.make(stage.clock) as app:
            idle = await (await app.submit(process_id)).result()
            await app.submit(block_at["process"], room.path, "gate")
            await room.noted("at gate")
            assert not is_gone(idle)
        assert is_gone(idle)
        assert is_gone(int(room.notes()[0].removeprefix("pid ")))

    @pytest.mark.parametrize(("how", "said"), [("exit", "exit code 7"), ("kill", "signal 9")])
    async def test_a_process_that_dies_fails_its_node(self, stage: Stage, how: str, said: str) -> None:
        with pytest.raises(ProcessDiedError, match=said):
            await stage.run(die, how)
        assert await stage.run(coroutine_in_process, 1) == 2

    @pytest.mark.parametrize("argument", [Unpicklable(), lambda: None], ids=["no pickle", "a lambda"])
    async def test_an_argument_that_cannot_leave_is_one_clear_error(self, stage: Stage, argument: Any) -> None:
        with pytest.raises(NotSerializableError, match=r"argument of _give cannot be pickled|cannot be written down"):
            await stage.run(give["process"], argument)

    async def test_an_argument_that_cannot_arrive_is_one_clear_error(self, stage: Stage) -> None:
        with pytest.raises(Exception, match="here only"):
            await stage.run(give["process"], OnlyHere())
        assert await stage.run(coroutine_in_process, 1) == 2

    async def test_a_result_that_cannot_leave_is_one_clear_error(self, stage: Stage) -> None:
        with pytest.raises(TypeError, match=r"result .*Unpicklable.* cannot be pickled: this one stays here"):
            await stage.run(return_unpicklable)
        assert await stage.run(coroutine_in_process, 1) == 2

    async def test_an_exception_that_cannot_leave_is_told_in_words(self, stage: Stage) -> None:
        with pytest.raises(UnreadableError, match="unreadable") as caught:
            await stage.run(raise_unreadable)
        assert caught.value.args[0] == "unreadable"
        assert await stage.run(add, 1, 1) == 2


class OnlyHere:
    """A value that is pickled well, and cannot be read in another process."""

    def __init__(self) -> None:
        self.home = os.getpid()

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["home"] != os.getpid():
            raise RuntimeError("here only")
        self.home = state["home"]
