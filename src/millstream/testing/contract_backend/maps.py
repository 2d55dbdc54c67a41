"""Maps: one node over many items."""

from __future__ import annotations

from itertools import accumulate, product
from typing import Any

import pytest

from millstream import DefinitionError, JobState, fixed, flow, task
from millstream.testing.contract_backend.stage import BackendCase, Stage
from millstream.testing.contract_tasks import (
    PLACES,
    SUB_FLOWS,
    ShopError,
    add,
    climbed,
    doubled,
    echo,
    failing_within,
    give,
    note,
    outcome,
    total,
)
from millstream.testing.room import Room


@task
async def triple(x: Any, y: Any, z: Any = 0) -> tuple[Any, Any, Any]:
    """Return the arguments."""
    return x, y, z


@task
async def count_to(n: int) -> range:
    """Return what can be mapped over."""
    return range(n)


@flow
def mapped(options: dict[str, Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Map `triple`."""
    return triple.options(id="item", **options).map(*args, **kwargs)


@flow
def mapped_outcomes(hows: list[str]) -> Any:
    """Items that end in different ways, and what comes after them."""
    return echo.options(id="after")(outcome["loop"].options(id="item").map(hows))


@flow
def mapped_in(place: str, values: list[Any], chunk: int) -> Any:
    """Map in a place."""
    return give[place].options(id="item", chunk=chunk).map(values)


@flow
def over_a_result() -> Any:
    """Map over what a task returns."""
    return total(add.map(count_to(10), fixed(1)))


@flow
def over_a_map() -> Any:
    """Map over what a map returns."""
    return add.map(doubled.map([1, 2, 3]), [10, 20, 30])


@flow
def over_nothing(empty: Any) -> Any:
    """Map over no item."""
    return echo(echo.options(id="item").map(empty))


@flow
def many_items(count: int) -> Any:
    """Map over many items."""
    return total(add.map(list(range(count)), fixed(1)))


@task
async def pass_through(room: str, count: int, value: int) -> int:
    """Wait until `count` are here at once; notes tell who comes and goes."""
    Room(room).note("in")
    await Room(room).meet("met", count)
    Room(room).note("out")
    return value


@flow
def bounded(room: str) -> Any:
    """Four at once, and never more."""
    return pass_through.options(in_flight=4).map([room] * 40, [4] * 40, list(range(40)))


@flow
def one_by_one(room: str) -> Any:
    """One at a time."""
    return note.options(in_flight=1).map([room] * 20, [str(i) for i in range(20)])


@flow
def mapped_flow(kind: str, args: list[Any]) -> Any:
    """Map a flow."""
    return SUB_FLOWS[kind].options(id="sub").map(*args)


@flow
def mapped_flow_that_fails() -> Any:
    """Map a flow that fails for one of the items."""
    return failing_within.options(id="sub").map(["ok", "closed"])


class MapsContract(BackendCase):
    """Maps."""

    # ------------------------------------------------------------------------------------------- which items
    async def test_several_arguments_are_paired(self, stage: Stage) -> None:
        assert await stage.run(mapped, {}, [[1, 2, 3], ["a", "b", "c"]], {}) == [(1, "a", 0), (2, "b", 0), (3, "c", 0)]
        assert await stage.run(mapped, {}, [(1, 2)], {"y": range(2)}) == [(1, 0, 0), (2, 1, 0)]

    async def test_a_fixed_argument_is_the_same_for_every_item(self, stage: Stage) -> None:
        result = await stage.run(mapped, {}, [[1, 2]], {"y": fixed([7, 8]), "z": fixed("z")})
        assert result == [(1, [7, 8], "z"), (2, [7, 8], "z")]

    async def test_a_product_takes_every_combination_the_last_argument_turning_fastest(self, stage: Stage) -> None:
        x, y, z = [1, 2], ["a", "b", "c"], [True, False]
        assert await stage.run(mapped, {"product": True}, [x, y], {"z": z}) == list(product(x, y, z))

    @pytest.mark.parametrize("chunk", [1, 3, 7, 100])
    @pytest.mark.parametrize("place", PLACES)
    async def test_items_can_share_an_attempt(self, stage: Stage, place: str, chunk: int) -> None:
        values = list(range(7))
        job = await stage.submit(mapped_in, place, values, chunk)
        assert await stage.drive(job.result()) == values
        attempts = [node for node in await stage.states(job) if node.startswith("item[")]
        assert len(attempts) == -(-7 // chunk)

    async def test_a_product_can_be_chunked(self, stage: Stage) -> None:
        result = await stage.run(mapped, {"product": True, "chunk": 4}, [[1, 2, 3], ["a", "c"]], {"z": [0, 1]})
        assert result == list(product([1, 2, 3], ["a", "c"], [0, 1]))

    async def test_a_result_can_be_mapped_over(self, stage: Stage) -> None:
        assert await stage.run(over_a_result) == sum(range(11))

    async def test_a_map_s_result_can_be_mapped_over(self, stage: Stage) -> None:
        assert await stage.run(over_a_map) == [12, 24, 36]

    @pytest.mark.parametrize("empty", [[], (), range(0)], ids=repr)
    async def test_over_nothing_there_is_nothing_to_do(self, stage: Stage, empty: Any) -> None:
        job = await stage.submit(over_nothing, empty)
        assert await stage.drive(job.result()) == []
        assert await stage.states(job) == {"item": "succeeded", "echo": "succeeded"}

    @pytest.mark.parametrize(
        ("args", "message"),
        [([[1, 2], [3]], "different lengths"), ([5, [1]], "not a list"), (["ab", [1]], "not a list")],
    )
    async def test_what_cannot_be_mapped_over_fails_the_node(self, stage: Stage, args: list[Any], message: str) -> None:
        job = await stage.submit(mapped, {}, args, {})
        with pytest.raises((TypeError, ValueError), match=message):
            await stage.drive(job.result())
        assert await stage.states(job) == {"item": "failed"}

    # ------------------------------------------------------------------------------------------- how many
    async def test_ten_thousand_items(self, stage: Stage) -> None:
        assert await stage.run(many_items, 10_000) == sum(range(10_001))

    async def test_no_more_items_are_open_than_allowed(self, stage: Stage, room: Room) -> None:
        assert await stage.run(bounded, room.path) == list(range(40))
        assert max(accumulate(1 if text == "in" else -1 for text in room.notes())) == 4

    async def test_one_at_a_time_is_in_order(self, stage: Stage, room: Room) -> None:
        assert await stage.run(one_by_one, room.path) == room.notes() == [str(i) for i in range(20)]

    # ------------------------------------------------------------------------------------------- what goes wrong
    async def test_an_item_that_fails_fails_its_map_when_all_have_ended(self, stage: Stage) -> None:
        job = await stage.submit(mapped_outcomes, ["ok", "shop", "ok", "closed", "ok"])
        with pytest.raises(ShopError, match="shop"):
            await stage.drive(job.result())
        states = await stage.states(job)
        assert [states[f"item[{i}]"] for i in range(5)] == ["succeeded", "failed", "succeeded", "failed", "succeeded"]
        assert (states["item"], states["after"]) == ("failed", "upstream_failed")
        record = await job.record()
        assert record.state is JobState.FAILED
        assert record.error is not None
        assert record.error.node == "item[1]"

    async def test_an_item_that_is_skipped_leaves_a_gap(self, stage: Stage) -> None:
        job = await stage.submit(mapped_outcomes, ["ok", "skip", "ok"])
        assert await stage.drive(job.result()) == ["ok", None, "ok"]
        assert (await stage.states(job))["item[1]"] == "skipped"

    # ------------------------------------------------------------------------------------------- of flows
    @pytest.mark.parametrize(
        ("kind", "args", "expected"),
        [("drawn", [[1, 2, 3]], [2, 4, 6]), ("nested", [[1, 2]], [4, 8]), ("conducted", [[1, 2], [3, 4]], [4, 6])],
    )
    async def test_a_flow_can_be_mapped(self, stage: Stage, kind: str, args: list[Any], expected: list[int]) -> None:
        job = await stage.submit(mapped_flow, kind, args)
        assert await stage.drive(job.result()) == expected
        states = await stage.states(job)
        assert [states[f"sub[{i}]"] for i in range(len(expected))] == ["succeeded"] * len(expected)
        assert len([path for path in states if path.startswith("sub[0]") and path != "sub[0]"]) >= 1

    @pytest.mark.parametrize("sub", [doubled, climbed], ids=["drawn", "conducted"])
    async def test_the_items_of_a_mapped_flow_cannot_share_an_attempt(self, stage: Stage, sub: Any) -> None:
        @flow
        def chunked() -> Any:
            return sub.options(chunk=2).map([1, 2, 3])

        with pytest.raises(DefinitionError, match="cannot have chunk"):
            await stage.submit(chunked)

    async def test_a_failure_within_a_mapped_flow_is_its_item_s(self, stage: Stage) -> None:
        job = await stage.submit(mapped_flow_that_fails)
        with pytest.raises(ShopError, match="night"):
            await stage.drive(job.result())
        states = await stage.states(job)
        assert (states["sub[0]"], states["sub[1]"], states["sub"]) == ("succeeded", "failed", "failed")
