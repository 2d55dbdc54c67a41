"""Tasks that are meant for workers, or for a queue of their own: they keep every promise, wherever they run."""

from __future__ import annotations

from typing import Any

import pytest

from millstream import JobState, ctx, flow, task
from millstream.authoring.canvas.primitives import chord, group
from millstream.testing.contract_backend.stage import BackendCase, Stage, with_settings
from millstream.testing.contract_tasks import ShopError, cancels_itself


@task(run_in="worker")
def add_away(first: int, second: int) -> int:
    """Add."""
    return first + second


@task(run_in="worker", bind=True)
async def tell_away(self: Any) -> list[Any]:
    """Tell what the request says."""
    told = self.request
    return [told.id, told.root_id, told.task, told.retries, told.headers, told.delivery_info["routing_key"]]


@task(run_in="worker", retries=2, retry_backoff=3600.0, retry_jitter=False)
def fail_twice_away() -> int:
    """Succeed in the third attempt."""
    if ctx.attempt < 3:
        raise ShopError("closed", 1)
    return ctx.attempt


@task(run_in="worker")
def refuse_away() -> None:
    """Fail."""
    raise ShopError("closed", 7)


@task(run_in="worker")
def total_away(numbers: list[int]) -> int:
    """Sum up."""
    return sum(numbers)


@task(run_in="worker", bind=True)
def fan_away(self: Any, depth: int) -> int:
    """Give way to three of its own kind and their sum, some levels deep."""
    if not depth:
        return 1
    return self.replace(chord([fan_away.s(depth - 1)] * 3, total_away.s()))  # type: ignore[no-any-return]


@flow
def maps_away(count: int, chunk: int) -> Any:
    """Items that workers run, some at a time."""
    return total_away(add_away.options(chunk=chunk).map(list(range(count)), [1] * count))


@flow
async def conducts_away(count: int) -> int:
    """Call workers one after the other."""
    result = 0
    for number in range(count):
        result = await add_away(result, number)
    return result


@task
def letters(count: int) -> str:
    """Return so many."""
    return "x" * count


@task(run_in="worker")
def count_away(text: str) -> int:
    """Count letters."""
    return len(text)


@flow
def counts_away(count: int, size: int) -> Any:
    """Count the same letters on workers, all at once."""
    text = letters(size)
    return total_away([count_away(text) for _ in range(count)])


class HandingOutContract(BackendCase):
    """What is handed out."""

    async def test_a_task_for_workers_gives_its_result(self, stage: Stage) -> None:
        assert await stage.run(add_away, 1, 2) == 3

    async def test_nested_fan_outs_of_tasks_for_workers_end(self, stage: Stage) -> None:
        assert await stage.run(fan_away, 3) == 27

    @pytest.mark.parametrize("chunk", [1, 4])
    async def test_a_map_over_workers_keeps_its_order(self, stage: Stage, chunk: int) -> None:
        assert await stage.run(maps_away, 10, chunk) == 55

    async def test_a_conducting_flow_calls_workers(self, stage: Stage) -> None:
        assert await stage.run(conducts_away, 5) == 10

    async def test_a_task_for_workers_knows_what_it_is_called(self, stage: Stage) -> None:
        job = await stage.submit(group(tell_away.s().set(headers={"tenant": "a"}), tell_away.s()))
        told, _ = await stage.drive(job.result())
        assert told[0] in {f"{job.id}.{node.path}" for node in await job.nodes()}
        assert told[1:] == [job.id, tell_away.name, 0, {"tenant": "a"}, "celery"]

    async def test_its_retries_wait_as_long_as_the_policy_says(self, stage: Stage) -> None:
        assert await stage.run(fail_twice_away) == 3

    async def test_its_failure_is_raised_as_what_it_was(self, stage: Stage) -> None:
        with pytest.raises(ShopError, match="closed"):
            await stage.run(refuse_away)

    @pytest.mark.parametrize("settings", [{}, {"conduct_linger": 0}], ids=["stays", "laid-down"])
    async def test_a_task_for_workers_that_cancels_what_it_runs_in_cancels_its_job(self, stage: Stage) -> None:
        job = await stage.submit(chord([add_away.s(1, 2), cancels_itself.s().set(run_in="worker")], total_away.s()))
        record = await stage.end(job)
        assert (record.state, record.reason, record.error) == (JobState.CANCELLED, "cancel", None)

    @with_settings(max_value_bytes=4000)
    async def test_tasks_whose_arguments_are_too_large_together_run(self, stage: Stage) -> None:
        assert await stage.run(counts_away, 24, 3000) == 24 * 3000

    async def test_a_job_with_another_queue_is_executed_where_all_queues_are(self, stage: Stage) -> None:
        job = await stage.submit(add_away.s(1, 2).set(queue="heavy"))
        assert await stage.drive(job.result()) == 3
        assert (await job.record()).queue == "heavy"
