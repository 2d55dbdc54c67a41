"""Flows whose body conducts: calls one after the other and at once, given up, left behind."""

from __future__ import annotations

import asyncio
from typing import Any

from millstream import approval, ctx, flow, sleep
from millstream.testing.contract_attempts import deaf
from millstream.testing.contract_backend.stage import BackendCase, Stage
from millstream.testing.contract_tasks import (
    ClosedShopError,
    add,
    add_in_thread,
    block_at,
    climbed,
    doubled,
    echo,
    note,
    outcome,
    quadrupled,
    total,
    wait_at,
)
from millstream.testing.room import Room


@flow
async def conducts_it_all(room: str) -> Any:
    """Use Python for everything."""
    numbers = await asyncio.gather(*(doubled(i) for i in range(3)))
    began = ctx.now()
    await sleep(60)
    while sum(numbers) < 20:
        numbers.append(await add_in_thread(numbers[-1], 1))
    try:
        await outcome["loop"]("closed")
    except ClosedShopError as error:
        numbers.append(await echo(error.args[1]))
    mapped = await add.map(numbers, [1] * len(numbers))
    passed = ctx.now() - began  # before the approval, which takes its time where the test is another process
    answer = await approval({"sum": sum(mapped)})
    await note(room, answer)
    return mapped, passed, await climbed(0, 3), await echo(quadrupled.name)


@flow
async def gives_up_a_call(room: str) -> Any:
    """Give up calls of all kinds once they wait, and go on."""
    calls = {
        "loop": wait_at(room, "loop"),
        "thread": block_at["thread"](room, "thread"),
        "process": block_at["process"](room, "process"),
        "sub": quick_then_slow(room),
        "nap": note_then_sleep(room),
    }
    told = []
    for gate, call in calls.items():
        waiting = asyncio.ensure_future(call)
        await Room(room).noted(f"at {gate}")
        waiting.cancel()
        await asyncio.wait({waiting})
        told.append(waiting.cancelled())
    return told, await echo("went on"), await asyncio.gather(*(add_in_thread(i, 1) for i in range(5)))


@flow
async def gives_up_a_fan(room: str, count: int) -> Any:
    """Give up a call of which some nodes have begun, and others are ready."""
    call = asyncio.ensure_future(fan_at_gate(room, count))
    while not Room(room).notes():  # noqa: ASYNC110  a turn at a time is the point
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait({call})
    return await echo("went on")


@flow
def fan_at_gate(room: str, count: int) -> Any:
    """Draw many nodes that wait."""
    return [wait_at(room, "gate") for _ in range(count)]


@flow
def quick_then_slow(room: str) -> Any:
    """Draw a quick node before a slow one."""
    first = echo("quick")
    slow = block_at["thread"](room, "sub")
    first >> slow
    return slow


@flow
def note_then_sleep(room: str) -> Any:
    """Draw a sleep."""
    first = note(room, "at nap")
    last = note(room, "never")
    first >> sleep(3600) >> last
    return last


@flow
async def deaf_within(room: str) -> Any:
    """Give up a conducting flow that takes no notice of it."""
    call = asyncio.ensure_future(deaf_body(room))
    await Room(room).noted("at gate")
    call.cancel()
    await asyncio.wait({call})
    return call.cancelled(), await echo("went on")


@flow
async def deaf_body(room: str) -> Any:
    """Go on when it is given up."""
    try:
        await wait_at(room, "gate")
    except asyncio.CancelledError:
        Room(room).note("deaf")
    return await note(room, "never")


@flow
async def leaves_calls_behind(room: str) -> str:
    """Return while calls are under way that nobody waits for."""
    calls = [asyncio.ensure_future(wait_at(room, "gate")), asyncio.ensure_future(sleep(3600))]
    await Room(room).noted("at gate")
    return f"left {len(calls)}"


@flow
def deaf_beside(room: str) -> Any:
    """A node that ends first, so that the job's first runner is free for the calls of the other."""
    return [wait_at(room, "first"), gives_up_deaf(room)]


@flow
async def gives_up_deaf(room: str) -> Any:
    """Give up a call that returns all the same, then make calls that fail."""
    await Room(room).noted("left first")
    call = asyncio.ensure_future(deaf.options(timeout=None)(room, "gate"))
    await Room(room).noted("at gate")
    call.cancel()
    await Room(room).noted("heard")
    told = []
    for how in ("shop", "cancel", "ok"):
        try:
            told.append(await outcome["loop"](how))
        except Exception as error:  # noqa: BLE001  which one is told
            told.append(type(error).__name__)
    return told


@flow
async def calls_many_times() -> Any:
    """Await three hundred calls at once, and as many in turn."""
    numbers = await asyncio.gather(*(add(i, 1) for i in range(300)))
    for _ in range(300):
        numbers = [*numbers[1:], await add(numbers[0], 1)]
    return await total(numbers)


class ConductingContract(BackendCase):
    """Conducting."""

    async def test_a_conducting_flow_uses_python_for_everything(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(conducts_it_all, room.path)

        async def answer() -> None:
            event = await stage.until(job, "waiting", "conducts_it_all#12/approval")
            assert await job.approve(event.node or "", f"sum is {event.data['question']['sum']}")

        result, _ = await stage.drive(asyncio.gather(job.result(), answer()))
        numbers = [0, 2, 4, 5, 6, 7, 22]
        assert result == ([n + 1 for n in numbers], 60, 3, quadrupled.name)
        assert room.notes() == [f"sum is {sum(numbers) + len(numbers)}"]

    async def test_a_body_that_gives_up_its_calls_goes_on(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(gives_up_a_call, room.path)
        assert await stage.soon(job.result()) == ([True] * 5, "went on", [1, 2, 3, 4, 5])
        room.open("thread")
        room.open("sub")
        await room.noted("left thread; cancelled")
        await room.noted("left sub; cancelled")
        await stage.clock.advance(7200)
        assert "cancelled at loop" in room.notes()
        assert not {"never", "left process; wanted"} & set(room.notes())
        states = await stage.states(job)
        assert [
            states[f"gives_up_a_call#{call}/{node}"]
            for call, node in (
                (0, "wait_at"),
                (1, "block_until-thread"),
                (2, "block_until-process"),
                (3, "quick_then_slow/echo"),
                (4, "note_then_sleep/sleep"),
            )
        ] == ["cancelled", "cancelled", "cancelled", "succeeded", "cancelled"]

    async def test_what_is_ready_of_a_call_that_is_given_up_does_not_begin(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(gives_up_a_fan, room.path, 200)
        assert await stage.soon(job.result()) == "went on"
        begun = room.notes().count("at gate")
        assert 0 < begun < 200
        assert room.notes().count("left gate") == begun

    async def test_a_body_that_takes_no_notice_of_being_given_up_gets_no_further(
        self, stage: Stage, room: Room
    ) -> None:
        job = await stage.submit(deaf_within, room.path)
        assert await stage.soon(job.result()) == (True, "went on")
        assert "deaf" in room.notes()
        assert "never" not in room.notes()

    async def test_a_body_that_returns_ends_the_calls_it_leaves_behind(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(leaves_calls_behind, room.path)
        assert await stage.soon(job.result()) == "left 2"
        assert {"cancelled at gate", "left gate"} <= set(room.notes())

    async def test_many_calls_at_once_and_in_turn(self, stage: Stage) -> None:
        assert await stage.run(calls_many_times) == sum(range(1, 301)) + 300

    async def test_a_call_that_takes_no_notice_of_being_given_up_does_not_disturb_the_next(
        self, stage: Stage, room: Room
    ) -> None:
        job = await stage.submit(deaf_beside, room.path)
        await room.noted("at first")
        room.open("first")
        assert await stage.soon(job.result()) == [None, ["ShopError", "TaskError", "ok"]]
