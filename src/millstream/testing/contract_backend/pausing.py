"""Jobs that wait: they hold no slot, and go on where they stopped."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from millstream import JobState, approval, branch, ctx, fixed, flow, loop, sleep, task
from millstream.errors import RecordMismatchError
from millstream.testing.contract_backend.stage import BackendCase, Stage, with_settings
from millstream.testing.contract_tasks import ShopError, add, echo
from millstream.testing.room import Room

HOUR = 3600.0


@task
async def noted(room: str, name: str, value: Any = None) -> Any:
    """Note each real call."""
    Room(room).note(name)
    return value


@task(retries=2, retry_backoff=HOUR, retry_jitter=False)
async def flaky_by_the_hour(room: str) -> int:
    """Fail twice, an hour apart."""
    Room(room).note(f"attempt {ctx.attempt}")
    if ctx.attempt < 3:
        raise ShopError(ctx.attempt)
    return ctx.attempt


@task
async def one_more(room: str, number: int) -> int:
    """Count, noting it."""
    Room(room).note(f"turn {number}")
    return number + 1


@task
async def is_three(_room: str, number: int) -> bool:
    """Say whether the counting is over."""
    return number == 3


def _later(node: Any) -> Any:
    """Let a node wait for an hour."""
    sleep(HOUR) >> node
    return node


@flow
def drawn_inside(room: str, n: int) -> Any:
    """A sub-flow that waits between its nodes."""
    return _later(add(noted(room, f"inside {n}", n), 1))


@flow
def counts(room: str) -> Any:
    """A loop that waits in each turn."""
    return loop(lambda place, number: (place, _later(one_more(place, number))), room, 0, until=is_three)


@flow
def everything(room: str) -> Any:
    """Something of each kind before and after a long wait."""
    mapped = noted.map([room] * 3, ["m0", "m1", "m2"], [1, 2, 3])
    chosen = branch(
        noted(room, "chooses", value=True), lambda: noted(room, "yes", "yes"), lambda: noted(room, "no", "no")
    )
    inner = drawn_inside(room, 5)
    failed = fails_once_and_for_all(room)
    caught = noted.options(id="caught", join="one_failed")(room, "caught", failed)
    nap = sleep(2 * HOUR)
    last = noted.options(id="last")(room, "last", [mapped, chosen, inner])
    nap >> last
    return [last, caught]


@task
async def fails_once_and_for_all(room: str) -> None:
    """Fail, noting it."""
    Room(room).note("fails")
    raise ShopError(1)


@flow
async def naps(room: str, times: int) -> Any:
    """Conduct calls with long waits between them, and things that must not change when the body runs again."""
    chance, name, now = ctx.random(), ctx.uuid(), ctx.now()
    found = [await noted(room, "call 0", [chance, name, now])]
    for n in range(1, times):
        await sleep(HOUR)
        found.append(await noted(room, f"call {n}", [chance, name, now]))
    return found


@flow
async def naps_in_branches(room: str) -> Any:
    """Two branches that wait for different times."""

    async def side(name: str, hours: int) -> Any:
        await noted(room, f"{name} before")
        await sleep(hours * HOUR)
        return await noted(room, f"{name} after", name)

    return await asyncio.gather(side("a", 2), side("b", 1))


@flow
async def asks_and_catches(room: str) -> Any:
    """A call that failed before a wait is still failed after it."""
    try:
        await fails_once_and_for_all(room)
    except ShopError as error:
        caught = str(error)
    answer = await approval("may I?")
    return [caught, answer]


@flow
async def races(room: str) -> Any:
    """Follow up on whichever call ends first, and then wait."""

    async def side(name: str, hours: float) -> str:
        await sleep(hours * HOUR)
        return name

    sides = [asyncio.create_task(side("slow", 2)), asyncio.create_task(side("quick", 1))]
    found = [await noted(room, "follow up", await first) for first in asyncio.as_completed(sides)]
    await sleep(HOUR)
    return found


@flow
async def goes_by_how_many_ended(room: str) -> int:
    """Follow up on how many of three calls have ended when the first has, and then wait."""
    calls = [asyncio.ensure_future(echo(n)) for n in range(3)]
    done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    await noted(room, f"after {len(done)}")
    await asyncio.gather(*calls)
    await sleep(HOUR)
    return len(done)


@flow
async def counts_for_ever(room: str, number: int = 0) -> Any:
    """Begin anew again and again, with waits in between."""
    await noted(room, f"turn {number}")
    await sleep(HOUR)
    if number < 3:
        ctx.continue_as_new(room, number + 1)
    return number


@flow(retries=1, retry_backoff=HOUR, retry_jitter=False)
async def continues_and_fails(room: str, page: int = 0) -> Any:
    """Begin anew once, and fail in the first attempt after that."""
    await noted(room, f"attempt {ctx.attempt} page {page}")
    if page == 0:
        ctx.continue_as_new(room, 1)
    if ctx.attempt == 1:
        raise ShopError(page)
    await sleep(HOUR)
    return [ctx.attempt, page]


@flow
async def asks_in_time() -> Any:
    """Wait for an answer, but not for ever."""
    try:
        return await asyncio.wait_for(approval("well?"), timeout=0.2)
    except TimeoutError:
        return "nobody answered"


@flow
def over_a_set(room: str) -> Any:
    """Map over values that have no order, with a wait in between."""
    names = names_as_set()
    mapped = noted.options(in_flight=1).map(fixed(room), names, names)
    waited = flaky_by_the_hour(room)
    return [mapped, waited]


@task
async def names_as_set() -> set[str]:
    """Return a set."""
    return {f"name {number}" for number in range(20)}


class Fickle:
    """What a body reads that is not recorded."""

    turn = 0


@flow
async def changes_its_mind(room: str) -> Any:
    """Ask for another call each time the body runs."""
    Fickle.turn += 1
    await (noted(room, "first") if Fickle.turn == 1 else echo("first"))
    return await sleep(HOUR)


@flow
def asks_thrice() -> Any:
    """Ask three questions at once."""
    return [approval(number, id=f"ask_{number}") for number in range(3)]


@flow
def asks_to_go_on() -> Any:
    """Wait for somebody."""
    return approval("go on?")


class PausingContract(BackendCase):
    """A wait frees its slot; what was done before it is not done again."""

    @with_settings(max_segments=1)
    async def test_a_job_that_waits_holds_no_slot(self, stage: Stage) -> None:
        waiting = [await stage.submit(asks_to_go_on) for _ in range(5)]
        for job in waiting:
            await stage.until(job, "waiting")
        assert await stage.run(echo, 1) == 1
        for job in waiting:
            assert await job.approve("approval", "yes")
        assert [await stage.drive(job.result()) for job in waiting] == ["yes"] * 5

    async def test_nothing_that_was_done_before_a_wait_is_done_again(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(everything, room.path)
        assert await stage.drive(job.result()) == [[[1, 2, 3], "yes", 6], None]
        notes = room.notes()
        assert sorted(notes) == sorted(["m0", "m1", "m2", "chooses", "yes", "inside 5", "fails", "caught", "last"])
        assert notes[-1] == "last"
        states = await stage.states(job)
        assert (states["last"], states["caught"], states["fails_once_and_for_all"]) == ("succeeded",) * 2 + ("failed",)
        assert stage.clock.monotonic() == pytest.approx(2 * HOUR, abs=1)
        assert (await stage.kinds(job)).count("started") == 3  # once for each time at which there was something to do

    async def test_a_retry_that_is_due_later_holds_no_slot(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(flaky_by_the_hour, room.path)
        assert await stage.drive(job.result()) == 3
        assert room.notes() == ["attempt 1", "attempt 2", "attempt 3"]
        assert await stage.kinds(job, "flaky_by_the_hour") == [
            *["node_retried"] * 2,
            "node_succeeded",
        ]

    async def test_a_loop_goes_on_in_the_turn_in_which_it_waited(self, stage: Stage, room: Room) -> None:
        assert await stage.run(counts, room.path) == (room.path, 3)
        assert room.notes() == ["turn 0", "turn 1", "turn 2"]

    @pytest.mark.parametrize("settings", [{"conduct_linger": 30.0}, {"conduct_linger": 2 * HOUR}], ids=str)
    async def test_a_conducting_flow_goes_on_behind_its_recorded_calls(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(naps, room.path, 4)
        found = await stage.drive(job.result())
        assert room.notes() == ["call 0", "call 1", "call 2", "call 3"]
        assert len({str(value) for value in found}) == 1

    async def test_branches_of_a_conducting_flow_go_on_each_on_its_own(self, stage: Stage, room: Room) -> None:
        assert await stage.run(naps_in_branches, room.path) == ["a", "b"]
        assert sorted(room.notes()[:2]) == ["a before", "b before"]
        assert room.notes()[2:] == ["b after", "a after"]

    async def test_no_answer_is_missed_whenever_it_comes(self, stage: Stage) -> None:
        jobs = [await stage.submit(asks_thrice) for _ in range(10)]
        for job in jobs:
            await stage.until(job, "waiting", "ask_2")
        for turns, job in enumerate(jobs):
            for number in range(3):
                assert await job.approve(f"ask_{number}", number)
                for _ in range(turns):
                    await asyncio.sleep(0)
        assert [await stage.soon(job.result()) for job in jobs] == [[0, 1, 2]] * 10

    async def test_a_race_that_was_recorded_has_the_same_winner_again(self, stage: Stage, room: Room) -> None:
        assert await stage.run(races, room.path) == ["quick", "slow"]
        assert room.notes() == ["follow up"] * 2

    async def test_calls_that_end_together_are_heard_of_one_by_one_each_time(self, stage: Stage, room: Room) -> None:
        assert await stage.run(goes_by_how_many_ended, room.path) == 1
        assert room.notes() == ["after 1"]

    async def test_a_conducting_flow_can_begin_anew_without_end(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(counts_for_ever, room.path)
        assert await stage.drive(job.result()) == 3
        assert room.notes() == ["turn 0", "turn 1", "turn 2", "turn 3"]
        assert (await stage.kinds(job)).count("continued") == 3

    async def test_a_further_attempt_goes_on_where_the_flow_began_anew(self, stage: Stage, room: Room) -> None:
        assert await stage.run(continues_and_fails, room.path) == [2, 1]
        assert room.notes() == ["attempt 1 page 0", "attempt 1 page 1", "attempt 2 page 1"]

    @with_settings(conduct_linger=0.02)
    async def test_a_body_that_waits_for_a_time_of_its_own_is_not_stopped(self, stage: Stage) -> None:
        job = await stage.submit(asks_in_time)
        await stage.until(job, "waiting")
        await stage.clock.advance(60)
        assert await stage.soon(job.result()) == "nobody answered"

    async def test_what_is_mapped_has_one_order_in_every_run(self, stage: Stage, room: Room) -> None:
        mapped, _ = await stage.run(over_a_set, room.path)
        assert mapped == sorted(mapped, key=lambda name: (len(name), name))
        assert sorted(note for note in room.notes() if note.startswith("name")) == sorted(mapped)

    async def test_a_recorded_failure_is_raised_again(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(asks_and_catches, room.path)
        waiting = await stage.until(job, "waiting")
        await stage.clock.advance(HOUR)
        await stage.until_waiting(job)
        assert await job.approve(str(waiting.node), "you may")
        assert await stage.drive(job.result()) == ["1", "you may"]
        assert room.notes() == ["fails"]

    async def test_a_body_that_asks_for_another_call_than_its_record_says_fails(self, stage: Stage, room: Room) -> None:
        Fickle.turn = 0
        with pytest.raises(RecordMismatchError, match=r"calls \S*echo now, but its record says \S*noted"):
            await stage.run(changes_its_mind, room.path)

    async def test_a_job_that_waits_can_be_cancelled(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(everything, room.path)
        await stage.until_waiting(job)
        assert await job.cancel() is JobState.CANCELLED
        await stage.clock.advance(3 * HOUR)
        assert "last" not in room.notes()
