"""What shapes a flow beside its tasks: loops, branches, waits, sub-flows, and bodies that conduct."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from millstream import JobState, approval, branch, ctx, flow, loop, short_circuit, sleep, task
from millstream.errors import DrawingError, LoopLimitError
from millstream.testing.contract_backend.stage import BackendCase, Stage
from millstream.testing.contract_tasks import (
    SUB_FLOWS,
    ClosedShopError,
    add,
    add_in_thread,
    doubled,
    echo,
    failing_within,
    note,
    outcome,
)
from millstream.testing.room import Room


@task
async def at_least(x: int, limit: int) -> bool:
    """Compare."""
    return x >= limit


@task
async def swap(pair: list[Any]) -> list[Any]:
    """Turn two values around."""
    return [pair[1], pair[0]]


@flow
def climbs_to(limit: int, max_turns: int = 1000) -> Any:
    """A loop with one value as its state."""
    return loop(lambda x: add(x, 1), 0, until=lambda x: at_least(x, limit), max_turns=max_turns)


@flow
def fibonacci(limit: int) -> Any:
    """A loop with two values as its state, and a constant inside."""
    return loop(lambda a, b: (b, add_in_thread(a, b)), 0, 1, until=lambda a, _b: at_least(a, limit))


@flow
def loop_that_fails() -> Any:
    """A turn that fails."""
    return loop(lambda x: outcome["loop"].options(id="turn")(x), "closed", until=lambda x: echo(x))  # noqa: PLW0108


@flow
def by_truth(value: Any, room: str) -> Any:
    """Two ways."""
    return branch(echo(value), lambda: note(room, "yes"), lambda: note(room, "no"))


@flow
def by_value(value: Any, *, has_default: bool) -> Any:
    """Ways by value."""
    ways = {"a": lambda: echo("was a"), 2: lambda: doubled(2), "plain": lambda: "a plain value"}
    return branch(echo(value), ways, (lambda: echo("was else")) if has_default else None)


@flow
def one_way(value: Any, room: str) -> Any:
    """Only a way for true; what comes after it takes what there is."""
    return echo(branch(echo(value), lambda: note(room, "yes")))


@flow
def short(value: Any, room: str) -> Any:
    """Go on only if it is true."""
    here = note.options(id="before")(room, "before")
    after = note.options(id="after")(room, "after")
    last = note.options(id="last")(room, "last")
    gate = short_circuit(echo(value))
    gate >> after >> last
    return here


@flow
def sleeps_for(length: Any) -> Any:
    """Sleep between two nodes."""
    before, after = moment.options(id="before")(), moment.options(id="after")()
    before >> sleep(length) >> after
    return [before, after]


@task
async def moment() -> float:
    """Return the time."""
    return ctx.now()


@flow
def asks(question: Any) -> Any:
    """Wait for two people."""
    return [approval(question), approval(echo("computed"), id="second")]


@flow
def holds_a_flow(kind: str, args: list[Any]) -> Any:
    """A flow between nodes."""
    return add(SUB_FLOWS[kind].options(id="sub")(*(echo(arg) for arg in args)), 100)


@flow
def holds_a_flow_that_fails() -> Any:
    """A flow that fails, and what comes after it."""
    return echo.options(id="after")(failing_within.options(id="sub")("closed"))


@flow
def cannot_be_drawn(x: Any) -> Any:
    """Fail while it is drawn."""
    raise KeyError(x)


@flow
def holds_a_flow_that_cannot_be_drawn() -> Any:
    """A flow that turns out to be none."""
    return cannot_be_drawn.options(id="sub")(echo(1))


class ShapesContract(BackendCase):
    """Loops, branches, waits and sub-flows."""

    # ------------------------------------------------------------------------------------------------- loops
    async def test_a_loop_turns_until_its_condition_holds(self, stage: Stage) -> None:
        job = await stage.submit(climbs_to, 5)
        assert await stage.drive(job.result()) == 5
        states = await stage.states(job)
        assert [f"loop[{turn}]/add" in states for turn in range(6)] == [True] * 5 + [False]

    async def test_a_loop_s_state_can_be_several_values(self, stage: Stage) -> None:
        assert await stage.run(fibonacci, 100) == (144, 233)

    async def test_a_loop_can_turn_often(self, stage: Stage) -> None:
        assert await stage.run(climbs_to, 900) == 900

    async def test_a_loop_that_does_not_end_fails(self, stage: Stage) -> None:
        job = await stage.submit(climbs_to, 5, max_turns=4)
        with pytest.raises(LoopLimitError, match="4 turns"):
            await stage.drive(job.result())
        assert (await stage.states(job))["loop"] == "failed"
        assert await stage.run(climbs_to, 5, max_turns=5) == 5

    async def test_a_failure_in_a_turn_fails_the_loop(self, stage: Stage) -> None:
        job = await stage.submit(loop_that_fails)
        with pytest.raises(ClosedShopError):
            await stage.drive(job.result())
        assert await stage.states(job) == {
            "loop[0]/turn": "failed",
            "loop[0]/echo": "upstream_failed",
            "loop": "failed",
        }

    # ------------------------------------------------------------------------------------------------- branches
    @pytest.mark.parametrize(
        ("value", "way"), [(True, "yes"), ([0], "yes"), ("no", "yes"), (False, "no"), ([], "no"), (None, "no")]
    )
    async def test_a_branch_by_truth_takes_one_way(self, stage: Stage, room: Room, value: Any, way: str) -> None:
        job = await stage.submit(by_truth, value, room.path)
        assert await stage.drive(job.result()) == way
        assert room.notes() == [way]
        assert sorted((await stage.states(job)).values()).count("skipped") == 1

    @pytest.mark.parametrize(
        ("value", "result"), [("a", "was a"), (2, 4), ("2", 4), ("plain", "a plain value"), ("b", "was else")]
    )
    async def test_a_branch_by_value_takes_the_way_of_that_value(self, stage: Stage, value: Any, result: Any) -> None:
        assert await stage.run(by_value, value, has_default=True) == result

    async def test_a_value_without_a_way_is_a_clear_failure(self, stage: Stage) -> None:
        job = await stage.submit(by_value, "b", has_default=False)
        with pytest.raises(ValueError, match=r"no way for 'b'; it has a, 2, plain"):
            await stage.drive(job.result())
        assert (await stage.states(job))["branch"] == "failed"

    @pytest.mark.parametrize(("value", "result"), [(1, "yes"), (0, None)])
    async def test_a_branch_may_have_one_way_only(
        self, stage: Stage, room: Room, value: Any, result: str | None
    ) -> None:
        job = await stage.submit(one_way, value, room.path)
        assert await stage.drive(job.result()) == result
        assert (await job.record()).state is JobState.SUCCEEDED

    @pytest.mark.parametrize(("value", "notes"), [(True, ["after", "before", "last"]), (0, ["before"])])
    async def test_a_short_circuit_skips_what_is_behind_it(
        self, stage: Stage, room: Room, value: Any, notes: list[str]
    ) -> None:
        job = await stage.submit(short, value, room.path)
        assert await stage.drive(job.result()) == "before"
        assert sorted(room.notes()) == notes
        states = await stage.states(job)
        assert {states["after"], states["last"]} == ({"succeeded"} if value else {"skipped"})

    # ------------------------------------------------------------------------------------------------- waits
    @pytest.mark.parametrize(
        ("length", "seconds"),
        [(7200, 7200), (0.5, 0.5), (timedelta(days=30), 30 * 86400), (0, 0), (-5, 0)],
        ids=str,
    )
    async def test_a_sleep_takes_its_time(self, stage: Stage, length: Any, seconds: float) -> None:
        before, after = await stage.run(sleeps_for, length)
        assert after - before == seconds

    async def test_a_sleep_can_end_at_an_instant(self, stage: Stage) -> None:
        instant = datetime.fromtimestamp(stage.clock.now(), UTC) + timedelta(hours=5)
        _, after = await stage.run(sleeps_for, instant)
        assert after == instant.timestamp()

    async def test_a_sleep_of_nonsense_fails(self, stage: Stage) -> None:
        with pytest.raises(ValueError, match="a wait takes seconds"):
            await stage.run(sleeps_for, "a while")

    async def test_a_job_that_sleeps_tells_so(self, stage: Stage) -> None:
        job = await stage.submit(sleeps_for, 60)
        event = await stage.until(job, "waiting")
        assert (event.node, event.data) == ("sleep", {"reason": "timer", "until": stage.clock.now() + 60})
        assert stage.clock.monotonic() == 0
        assert (await stage.end(job)).state is JobState.SUCCEEDED

    async def test_an_approval_waits_for_its_answer(self, stage: Stage) -> None:
        job = await stage.submit(asks, {"amount": 7})
        first = await stage.until(job, "waiting", "approval")
        second = await stage.until(job, "waiting", "second")
        assert first.data == {"reason": "approval", "question": {"amount": 7}}
        assert second.data["question"] == "computed"
        await stage.clock.advance(86400)
        await stage.until_waiting(job)
        record = await job.record()
        assert (record.state, record.reason) == (JobState.WAITING, "approval")
        assert not await job.approve("nobody", "x")
        assert await job.approve("second", {"by": "me"})
        assert not await job.approve("second", "again")
        assert await job.approve("approval")
        assert await stage.drive(job.result()) == [True, {"by": "me"}]
        assert not await job.approve("approval")

    # ------------------------------------------------------------------------------------------------- sub-flows
    @pytest.mark.parametrize(
        ("kind", "args", "result"), [("drawn", [4], 8), ("nested", [4], 16), ("conducted", [4, 2], 6)]
    )
    async def test_a_flow_can_stand_in_a_flow(self, stage: Stage, kind: str, args: list[Any], result: int) -> None:
        job = await stage.submit(holds_a_flow, kind, args)
        assert await stage.drive(job.result()) == 100 + result
        assert (await stage.states(job))["sub"] == "succeeded"

    async def test_a_failure_within_is_the_sub_flow_s_failure(self, stage: Stage) -> None:
        job = await stage.submit(holds_a_flow_that_fails)
        with pytest.raises(ClosedShopError):
            await stage.drive(job.result())
        states = await stage.states(job)
        assert (states["sub"], states["sub/echo"], states["after"]) == ("failed", "upstream_failed", "upstream_failed")
        record = await job.record()
        assert record.error is not None
        assert record.error.node == "sub/end_as-loop"

    async def test_a_sub_flow_that_cannot_be_drawn_fails_its_node(self, stage: Stage) -> None:
        job = await stage.submit(holds_a_flow_that_cannot_be_drawn)
        with pytest.raises(DrawingError, match="KeyError"):
            await stage.drive(job.result())
        assert (await stage.states(job))["sub"] == "failed"
