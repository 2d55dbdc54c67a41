"""`async def` flows: calls are recorded under keys that do not depend on timing; what is given up is taken back."""

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from millstream import DefinitionError, Millstream, ctx, flow, sleep, task
from millstream.authoring.conduct import RecordLimitError
from millstream.model.job import JobState


@task
async def double(x: int) -> int:
    return 2 * x


@task
def plain_double(x: int) -> int:
    return 2 * x


@task
async def fail(message: str) -> None:
    raise ValueError(message)


@task
async def nap(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@flow
def drawn_sum(xs: list[int]) -> Any:
    return total(double.map(xs))


@task
def total(xs: list[int]) -> int:
    return sum(xs)


async def run(definition: Any, *args: Any, **inputs: Any) -> Any:
    async with Millstream() as app:
        return await (await app.submit(definition, *args, **inputs)).result()


async def paths_of(definition: Any, *args: Any) -> list[str]:
    async with Millstream() as app:
        job = await app.submit(definition, *args)
        await job.result()
        return [result.path for result in await job.nodes()]


async def test_the_body_runs_with_real_values_while_its_job_runs() -> None:
    @flow
    async def growing(limit: int) -> int:
        x = 1
        while x < limit:
            x = await double(x)
        return x

    assert await run(growing, limit=100) == 128


async def test_calls_run_side_by_side_where_the_body_says_so() -> None:
    @flow
    async def gathering() -> list[int]:
        return list(await asyncio.gather(double(1), plain_double(2), double.map([3, 4]), drawn_sum([5])))

    assert await run(gathering) == [2, 4, [6, 8], 10]


async def test_keys_follow_the_order_of_spawning_not_of_calling() -> None:
    @flow
    async def crossing() -> None:
        late_may_go = asyncio.Event()

        async def late() -> None:
            await late_may_go.wait()
            await double(1)

        async def early() -> None:
            await double(2)
            late_may_go.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(late())
            group.create_task(early())
        await double(3)

    paths = await paths_of(crossing)
    prefix = crossing.name.rpartition(".")[2]
    assert paths == [f"{prefix}#1.0/double", f"{prefix}#0.0/double", f"{prefix}#0/double", prefix]


async def test_a_failed_call_raises_its_own_class_in_the_body() -> None:
    @flow
    async def catching() -> str:
        try:
            await fail("no rows")
        except ValueError as error:
            return str(error)
        return "not raised"

    assert await run(catching) == "no rows"


async def test_a_failure_that_the_body_lets_through_fails_the_job() -> None:
    @flow
    async def failing() -> None:
        await fail("no rows")

    with pytest.raises(ValueError, match="no rows"):
        await run(failing)


async def test_a_call_that_is_given_up_is_really_cancelled(tmp_path: Path) -> None:
    gone = tmp_path / "gone"

    @task
    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            gone.touch()

    @flow
    async def impatient() -> str:
        try:
            async with asyncio.timeout(0.01):
                await endless()
        except TimeoutError:
            return f"gave up, gone: {gone.exists()}"
        return "not given up"

    async with Millstream() as app:
        job = await app.submit(impatient)
        await job.result()
        assert gone.exists()
        assert any(
            result.path.endswith("/endless") and result.state.label == "cancelled" for result in await job.nodes()
        )


async def test_calls_that_the_body_left_behind_do_not_outlive_it() -> None:
    @flow
    async def careless() -> str:
        forgotten = [asyncio.ensure_future(nap(3600)), asyncio.ensure_future(sleep(3600))]
        await double(1)
        for one in forgotten:
            one.cancel()
        return "done"

    assert await run(careless) == "done"


async def test_a_thread_that_a_call_gave_up_is_dropped() -> None:
    release = threading.Event()

    @task
    def stuck() -> None:
        release.wait(30)

    @flow
    async def impatient() -> str:
        try:
            async with asyncio.timeout(0.01):
                await stuck()
        except TimeoutError:
            return "gave up"
        return "not given up"

    try:
        assert await run(impatient) == "gave up"
    finally:
        release.set()


async def test_time_chance_and_ids_are_recorded() -> None:
    @flow
    async def chancy() -> tuple[float, float, str]:
        return ctx.now(), ctx.random(), ctx.uuid()

    async with Millstream() as app:
        job = await app.submit(chancy)
        values = await job.result()
        noted = [event.data["value"] async for event in job.events() if event.type == "noted"]
    assert tuple(noted) == values


async def test_the_record_of_one_flow_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream.authoring.conduct.MAX_CALLS", 3)

    @flow
    async def endless() -> None:
        while True:
            await double(1)

    with pytest.raises(RecordLimitError, match="has recorded 3 calls"):
        await run(endless)


async def test_cancel_reaches_what_a_body_awaits() -> None:
    started = asyncio.Event()

    @task
    async def endless() -> None:
        started.set()
        await asyncio.Event().wait()

    @flow
    async def waiting() -> None:
        await endless()

    async with Millstream() as app:
        job = await app.submit(waiting)
        await started.wait()
        assert await job.cancel() is JobState.CANCELLED


async def test_the_body_of_one_flow_does_not_number_the_tasks_of_another() -> None:
    @flow
    async def inner() -> int:
        return sum(await asyncio.gather(double(1), double(2)))

    @flow
    async def outer() -> list[int]:
        return list(await asyncio.gather(inner(), inner()))

    assert await run(outer) == [6, 6]


async def test_a_process_task_runs_in_another_process_for_a_conducting_flow_too() -> None:
    @flow
    async def pids() -> Any:
        return await process_id()

    assert await run(pids) != os.getpid()


@task(run_in="process")
def process_id() -> int:
    return os.getpid()


@flow
def drawn_without_end() -> Any:
    return drawn_without_end()


@flow
async def conducted_without_end() -> Any:
    return await conducted_without_end()


@pytest.mark.parametrize("endless", [drawn_without_end, conducted_without_end])
async def test_a_flow_that_calls_itself_without_end_is_stopped(endless: Any) -> None:
    with pytest.raises(DefinitionError, match="nested over 100 deep"):
        await run(endless)


def test_a_script_that_starts_work_when_it_is_imported_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from millstream import task, flow\n"
        "@task(run_in='process')\n"
        "def square(x): return x * x\n"
        "@flow\n"
        "def squares(): return square(3)\n"
        "print(squares.run())\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "put the start under `if __name__" in done.stderr
