"""What a running task can ask and say through `ctx`, wherever it runs, and how its events reach readers."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from millstream import Cursor, Event, JobState, ctx, flow
from millstream.testing.contract_backend.stage import BackendCase, Stage, of_one_process
from millstream.testing.contract_tasks import PLACES, about_me, block_at, chatter, echo, wait_at
from millstream.testing.room import Room


@flow
def named(place: str) -> Any:
    """One node with a name."""
    return about_me[place].options(id="me")()


@flow
def many_chatter(place: str, count: int) -> Any:
    """Many nodes that say something and return their names."""
    return chatter[place].options(id="chat").map(list(range(count)))


@flow
def told(room: str) -> Any:
    """Events, then a wait, then more events."""
    first = chatter["loop"].options(id="first")(0)
    wait = wait_at.options(id="wait")(room, "gate")
    last = chatter["loop"].options(id="last")(1)
    first >> wait >> last
    return last


class ContextContract(BackendCase):
    """`ctx`, and events."""

    # -------------------------------------------------------------------------------------------------- asking
    @pytest.mark.parametrize("place", PLACES)
    async def test_a_task_knows_where_it_is(self, stage: Stage, place: str) -> None:
        job = await stage.submit(named, place=place)
        told = await stage.drive(job.result())
        assert (told["job"], told["node"], told["task"]) == (job.id, "me", f"{job.id}.me")
        assert (told["attempt"], told["cancelled"], told["chance"], told["uuid"]) == (1, False, True, 36)
        assert told["deadline"] == stage.clock.now() + 50
        assert (told["pid"] == os.getpid()) == (place != "process" and not self.executes_elsewhere)

    @pytest.mark.parametrize("place", PLACES)
    async def test_nodes_that_run_at_once_do_not_mix(self, stage: Stage, place: str) -> None:
        count = 5 if place == "process" else 100
        assert await stage.run(many_chatter, place=place, count=count) == [f"chat[{i}]" for i in range(count)]

    async def test_outside_of_a_task_there_is_no_context(self) -> None:
        with pytest.raises(LookupError, match="inside a running task"):
            _ = ctx.job_id

    @pytest.mark.parametrize("place", ["thread", "process"])
    async def test_a_task_can_notice_that_its_job_was_cancelled(self, stage: Stage, room: Room, place: str) -> None:
        job = await stage.submit(block_at[place], room.path, "gate")
        await room.noted("at gate")
        assert await stage.soon(job.cancel()) is JobState.CANCELLED
        room.open("gate")
        if place == "thread":
            await room.noted("left gate; cancelled")
        else:
            assert len(room.notes()) == 2  # it was killed

    # -------------------------------------------------------------------------------------------------- saying
    @of_one_process("what is not durable is heard in the process that runs the node")
    @pytest.mark.parametrize("place", PLACES)
    async def test_what_a_task_says_arrives_in_order_before_its_end(self, stage: Stage, place: str) -> None:
        job = await stage.submit(named, place=place)
        await stage.drive(job.result())
        mine = [event for event in await stage.events(job) if event.node == "me"]
        assert [event.type for event in mine] == ["node_started", "progress", "log", "token", "node_succeeded"]
        assert mine[1].data == {"done": 1, "total": 2, "message": "half way"}
        assert mine[2].data == {"level": "warning", "message": "a line", "rows": 3}
        assert mine[3].data == {"text": "é"}
        assert not any(event.is_durable for event in mine[:4])

    @of_one_process("what is not durable is heard in the process that runs the node")
    @pytest.mark.parametrize("place", PLACES)
    async def test_nothing_that_tasks_say_is_lost_or_late(self, stage: Stage, place: str) -> None:
        count = 5 if place == "process" else 300
        job = await stage.submit(many_chatter, place=place, count=count)
        await stage.drive(job.result())
        by_node: dict[str, list[Event]] = {}
        for event in await stage.events(job):
            if event.node is not None:
                by_node.setdefault(event.node, []).append(event)
        for number in range(count):
            events = by_node[f"chat[{number}]"]
            assert [event.type for event in events] == ["node_started", *["token"] * 3, "node_succeeded"]
            assert [event.data for event in events[1:4]] == [[number, part] for part in range(3)]

    @of_one_process("what is not durable is heard in the process that runs the node")
    async def test_a_task_says_things_while_it_runs(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(told, room=room.path)
        event = await stage.until(job, "token", "first")
        assert event.data == [0, 0]
        assert await job.state() is JobState.RUNNING
        room.open("gate")
        await stage.drive(job.result())

    # -------------------------------------------------------------------------------------------------- reading
    async def test_every_reader_gets_the_same_story_however_late(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(told, room=room.path)
        early = [asyncio.ensure_future(stage.events(job)) for _ in range(20)]
        await room.noted("at gate")
        middle = [asyncio.ensure_future(stage.events(job)) for _ in range(20)]
        room.open("gate")
        await stage.drive(job.wait())
        late = [asyncio.ensure_future(stage.events(job)) for _ in range(10)]
        stories = await stage.soon(asyncio.gather(*early, *middle, *late))
        assert stories == [stories[0]] * 50

    async def test_reading_goes_on_after_any_cursor(self, stage: Stage) -> None:
        job = await stage.submit(many_chatter, place="loop", count=10)
        await stage.drive(job.wait())
        events = await stage.events(job)
        for place, event in enumerate(events):
            rest = [following async for following in job.events(after=str(event.cursor))]
            assert rest == events[place + 1 :]
        assert [event async for event in job.events(after=Cursor(10_000))] == []

    async def test_a_reader_that_leaves_does_not_disturb_the_job(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(told, room=room.path)
        async for event in job.events():
            if event.type == "node_succeeded":
                break
        leaving = asyncio.ensure_future(stage.events(job))
        await room.noted("at gate")
        leaving.cancel()
        await asyncio.wait({leaving})
        room.open("gate")
        assert await stage.drive(job.result()) == "last"

    async def test_the_record_and_the_story_agree(self, stage: Stage) -> None:
        job = await stage.submit(many_chatter, place="thread", count=20)
        await stage.drive(job.wait())
        told = {e.node: e.data["value"] for e in await stage.events(job) if e.type == "node_succeeded"}
        assert told == {result.path: result.value for result in await job.nodes()}

    async def test_an_event_tells_when_it_happened(self, stage: Stage) -> None:
        await stage.clock.advance(1000)
        job = await stage.submit(echo, 1)
        await stage.drive(job.wait())
        assert {event.at for event in await stage.events(job)} == {stage.clock.now()}
