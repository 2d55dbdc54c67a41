"""What flows return, and what becomes of them when a task fails."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from millstream import JobState, TaskError, flow, group
from millstream.errors import InvalidInputError, UnknownNameError
from millstream.ledger.base import IdempotencyConflictError
from millstream.testing.contract_backend.stage import BackendCase, Stage
from millstream.testing.contract_tasks import (
    PLACES,
    ClosedShopError,
    ShopError,
    WeirdError,
    add,
    add_in_thread,
    cancels_itself,
    doubled,
    echo,
    give,
    meet,
    meet_in_thread,
    note,
    outcome,
    total,
    wait_at,
)
from millstream.testing.room import Room


@flow
def chain(x: int) -> Any:
    """One after the other, on the loop and in threads."""
    for _ in range(5):
        x = add_in_thread(add(x, 1), 1)
    return x


@flow
def fan(count: int) -> Any:
    """Many at once, then one."""
    return total([add(i, i) if i % 2 else add_in_thread(i, i) for i in range(count)])


@flow
def diamond(x: Any) -> Any:
    """One, two, one."""
    top = echo(x)
    return add(add(top, 1), add_in_thread(top, 10))


@flow
def containers() -> Any:
    """Handles inside of containers, and parts of results."""
    row = echo({"a": [1, {"b": 2}], "c": "x"})
    return {"list": [row["a"][0], 5], "tuple": (row["c"],), "deep": {"b": row["a"][1]["b"]}, "plain": None}


@flow
def three_ways(place: str, how: str) -> Any:
    """One that goes wrong beside one that goes well, each with a successor."""
    wrong = outcome[place].options(id="wrong")(how)
    right = echo.options(id="right")("fine")
    return [echo.options(id="after_wrong")(wrong), echo.options(id="after_right")(right)]


@flow
def missing_part(place: str) -> Any:
    """Ask for a part that a result does not have."""
    return give[place].options(id="picky")(echo({"a": 1})["b"])


@flow
def many_wrong() -> Any:
    """Several fail; the first of those that the result depends on is to blame."""
    first, second = outcome["loop"].options(id="first")("closed"), outcome["loop"].options(id="second")("shop")
    outcome["loop"].options(id="aside")("shop")
    return total([second, first])


@flow
def all_meet(room: str, count: int) -> Any:
    """Coroutines that wait for each other."""
    return total(meet.map([room] * count, [count] * count, [1] * count))


@flow
def all_meet_in_threads(room: str, count: int) -> Any:
    """Plain functions that wait for each other."""
    return total([meet_in_thread(room, count, i) for i in range(count)])


@flow
def fails_aside() -> Any:
    """Fail where the result does not depend on it."""
    outcome["loop"].options(id="aside")("shop")
    return echo("fine")


@flow
def cared_for() -> Any:
    """Fail, and clean up."""
    wrong = outcome["loop"].options(id="wrong")("shop")
    clean_up = echo.options(id="clean_up", join="all_done")("cleaned")
    wrong >> clean_up
    return clean_up


class ResultsContract(BackendCase):
    """Results and failures."""

    # ------------------------------------------------------------------------------------------------ results
    async def test_a_chain_passes_its_values_on(self, stage: Stage) -> None:
        assert await stage.run(chain, x=0) == 10

    async def test_a_fan_is_gathered(self, stage: Stage) -> None:
        assert await stage.run(fan, count=40) == 2 * sum(range(40))

    async def test_a_diamond_joins(self, stage: Stage) -> None:
        assert await stage.run(diamond, x=5) == 21

    async def test_handles_work_inside_of_containers(self, stage: Stage) -> None:
        assert await stage.run(containers) == {"list": [1, 5], "tuple": ("x",), "deep": {"b": 2}, "plain": None}

    @pytest.mark.parametrize("place", PLACES)
    async def test_a_task_can_be_submitted_by_itself(self, stage: Stage, place: str) -> None:
        value = {"rows": [1, 2.5, None, "é"]}
        job = await stage.submit(give[place], value)
        assert await stage.drive(job.result()) == value
        assert (await job.record()).result == value
        (node,) = await job.nodes()
        assert (node.value, node.attempt, node.error) == (value, 1, None)

    async def test_the_record_tells_the_story_of_a_job(self, stage: Stage) -> None:
        stage.clock.call_later(5, lambda: None)
        job = await stage.submit(diamond, x=5)
        record = await stage.end(job)
        assert (record.state, record.reason, record.result, record.error) == (JobState.SUCCEEDED, None, 21, None)
        assert (record.inputs, record.flow) == ({"x": 5}, diamond.name)
        assert record.created_at == record.started_at == record.ended_at == stage.clock.now()
        kinds = await stage.kinds(job)
        assert kinds == ["planned", "started", *["node_succeeded"] * 4, "ended"]

    async def test_jobs_run_beside_each_other_without_mixing(self, stage: Stage) -> None:
        jobs = [await stage.submit(diamond, x=x) for x in range(50)]
        results = await stage.drive(asyncio.gather(*(job.result() for job in jobs)))
        assert results == [2 * x + 11 for x in range(50)]

    async def test_results_can_be_had_again_and_by_anyone(self, stage: Stage) -> None:
        job = await stage.submit(diamond, x=1)
        waiting = [asyncio.ensure_future(job.result()) for _ in range(10)]
        assert await stage.drive(asyncio.gather(*waiting)) == [13] * 10
        assert await (await stage.app.job(job.id)).result() == 13

    # ------------------------------------------------------------------------------------------------ handing in
    async def test_one_key_makes_one_job(self, stage: Stage, room: Room) -> None:
        first = await stage.submit(note, room.path, "x", idempotency_key="k")
        again = await stage.submit(note, room.path, "x", idempotency_key="k")
        await stage.end(first)
        later = await stage.submit(note, room.path, "x", idempotency_key="k")
        assert {again.id, later.id} == {first.id}
        assert await stage.drive(later.result()) == "x"
        assert room.notes() == ["x"]
        with pytest.raises(IdempotencyConflictError):
            await stage.submit(note, room.path, "y", idempotency_key="k")

    async def test_what_cannot_be_submitted_is_refused_at_once(self, stage: Stage) -> None:
        before = await stage.app.jobs()  # of tests on the same ledger
        with pytest.raises(InvalidInputError, match="missing"):
            await stage.app.submit(add, 1)
        with pytest.raises(UnknownNameError):
            await stage.app.submit("no.such.task")
        assert await stage.app.jobs() == before

    # ------------------------------------------------------------------------------------------------ at once
    async def test_coroutines_wait_at_once(self, stage: Stage, room: Room) -> None:
        assert await stage.run(all_meet, room.path, 1000) == 1000

    async def test_that_coroutines_run_at_once_is_told(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(all_meet, room.path, 100)
        assert await stage.drive(job.result()) == 100
        if not self.executes_elsewhere:  # else nobody hears of a start
            assert peak(await stage.events(job)) == 100

    async def test_plain_functions_that_block_run_in_parallel(self, stage: Stage, room: Room) -> None:
        assert await stage.run(all_meet_in_threads, room.path, 8) == sum(range(8))

    # ------------------------------------------------------------------------------------------------- failures
    @pytest.mark.parametrize("place", PLACES)
    async def test_a_failure_fails_what_depends_on_it_and_the_job(self, stage: Stage, place: str) -> None:
        job = await stage.submit(three_ways, place=place, how="closed")
        with pytest.raises(ClosedShopError, match="22") as caught:
            await stage.drive(job.result())
        assert caught.value.args == ("at night", 22)
        assert "in node wrong" in caught.value.__notes__[0]
        assert "end_as" in caught.value.__notes__[0]
        assert await stage.states(job) == {
            "wrong": "failed",
            "right": "succeeded",
            "after_wrong": "upstream_failed",
            "after_right": "succeeded",
        }
        record = await job.record()
        assert (record.state, record.reason) == (JobState.FAILED, "error")
        assert record.error is not None
        assert (record.error.short_type, record.error.node) == ("ClosedShopError", "wrong")

    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize(
        ("how", "kind"),
        [("exit", TaskError), ("cancel", TaskError), ("stop", Exception), ("weird", WeirdError)],
    )
    async def test_whatever_a_task_raises_fails_its_node_and_nobody_else(
        self, stage: Stage, place: str, how: str, kind: type[BaseException]
    ) -> None:
        bystander = await stage.submit(diamond, x=1)
        job = await stage.submit(three_ways, place=place, how=how)
        with pytest.raises(kind):
            await stage.drive(job.result())
        assert (await stage.states(job))["wrong"] == "failed"
        assert (await stage.states(job))["after_right"] == "succeeded"
        assert await stage.drive(bystander.result()) == 13
        assert await stage.run(diamond, x=1) == 13

    async def test_a_task_that_cancels_what_it_runs_in_ends_no_job_but_its_own(self, stage: Stage, room: Room) -> None:
        bystander = await stage.submit(meet, room.path, 2)
        job = await stage.submit(cancels_itself)
        assert (await stage.end(job)).state is not JobState.SUCCEEDED
        assert await stage.drive(asyncio.gather((await stage.submit(meet, room.path, 2)).wait(), bystander.wait()))
        assert await bystander.state() is JobState.SUCCEEDED

    @pytest.mark.parametrize("place", ["loop", "process"])
    @pytest.mark.parametrize("order", [1, -1], ids=["first", "last"])
    async def test_a_task_among_others_that_cancels_what_it_runs_in_cancels_its_job(
        self, stage: Stage, room: Room, order: int, place: str
    ) -> None:
        cancels = cancels_itself.s().set(run_in="auto" if place == "loop" else place)
        job = await stage.submit(group([wait_at.s(room.path, "never"), cancels][::order]))
        record = await stage.end(job)
        assert (record.state, record.reason, record.error) == (JobState.CANCELLED, "cancel", None)

    async def test_of_several_failures_the_first_that_matters_is_raised(self, stage: Stage) -> None:
        with pytest.raises(ClosedShopError):
            await stage.run(many_wrong)

    async def test_a_failure_aside_fails_the_job_as_well(self, stage: Stage) -> None:
        with pytest.raises(ShopError):
            await stage.run(fails_aside)

    async def test_a_failure_that_somebody_takes_care_of_does_not_fail_the_job(self, stage: Stage) -> None:
        assert await stage.run(cared_for) == "cleaned"

    @pytest.mark.parametrize("place", PLACES)
    async def test_a_part_that_a_result_does_not_have_fails_the_node(self, stage: Stage, place: str) -> None:
        job = await stage.submit(missing_part, place=place)
        with pytest.raises(LookupError, match="nothing at 'b'"):
            await stage.drive(job.result())
        assert (await stage.states(job))["picky"] == "failed"
        assert (await job.record()).reason == "error"

    @pytest.mark.parametrize("place", PLACES)
    async def test_a_task_can_skip_itself(self, stage: Stage, place: str) -> None:
        job = await stage.submit(three_ways, place=place, how="skip")
        assert await stage.drive(job.result()) == [None, "fine"]
        states = await stage.states(job)
        assert (states["wrong"], states["after_wrong"]) == ("skipped", "skipped")
        skipped = await stage.until(job, "node_skipped", "wrong")
        assert skipped.data["message"] == "not today"

    async def test_a_sub_flow_s_failure_is_that_of_its_node(self, stage: Stage) -> None:
        job = await stage.submit(doubled, x=None)
        with pytest.raises(TypeError, match="NoneType"):
            await stage.drive(job.result())


def peak(events: list[Any]) -> int:
    """Return how many nodes ran at once at most, by a job's events."""
    most = now = 0
    for event in events:
        if event.type == "node_started":
            now += 1
            most = max(most, now)
        elif event.type in ("node_succeeded", "node_failed", "node_cancelled") and event.data:
            now -= 1
    return most
