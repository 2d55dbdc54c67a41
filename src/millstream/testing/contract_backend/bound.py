"""Bound tasks: what they are told of themselves, how they retry, and the ends and states that they choose."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from millstream import JobState, Retry, flow
from millstream.errors import ExpiredError, MaxRetriesExceededError, Reject
from millstream.testing.contract_backend.stage import BackendCase, Stage
from millstream.testing.contract_bound import (
    HOUR,
    asks_in_process,
    asks_unbound,
    ending,
    hands_out_retry,
    retries_at,
    retrying,
    retrying_for,
    saying,
    says_what_stays,
    told,
    total,
)
from millstream.testing.contract_tasks import PLACES, ShopError, echo
from millstream.testing.room import Room


@flow
def tells(place: str) -> Any:
    """A bound task behind another, and one in a list that another task takes."""
    first = echo(1)
    second = told[place].options(id="second")(first, key="value")
    told[place].options(id="third")()
    return [second, total([first, first])]


@flow
def tells_of_each(place: str) -> Any:
    """Bound tasks as the items of maps."""
    return told[place].map([1, 2])


@flow
def tells_of_chunks(place: str) -> Any:
    """Bound tasks as the items of a map that share an attempt."""
    return told[place].options(chunk=2).map([1, 2])


@flow
def ends_before(place: str, room: str, how: str) -> Any:
    """A task behind one that chooses its end."""
    return echo(ending[place](room, how))


class BoundContract(BackendCase):
    """`@task(bind=True)`."""

    # ---------------------------------------------------------------------------------------------- the request
    @pytest.mark.parametrize("place", PLACES)
    async def test_a_bound_task_is_told_of_itself(self, stage: Stage, place: str) -> None:
        job = await stage.submit(tells, place)
        (request, _) = await stage.drive(job.result())
        assert request.pop("hostname")
        assert request.pop("delivery_info") == {
            "routing_key": "mail",
            "priority": 3,
            "redelivered": False,
            "is_eager": False,
        }
        assert request == {
            "id": f"{job.id}.second",
            "root_id": job.id,
            "parent_id": f"{job.id}.echo",
            "correlation_id": f"{job.id}.second",
            "job_id": job.id,
            "node": "second",
            "task": told[place].name,
            "retries": 0,
            "max_retries": 4,
            "args": (1,),
            "kwargs": {"key": "value"},
            "headers": None,
            "timelimit": (60.0, 50.0),
            "expires": None,
            "eta": None,
            "group": job.id,
            "group_index": 0,
            "chord": None,
            "owner": None,
            "stamps": {},
            "stamped_headers": None,
            "called_directly": False,
            "is_eager": False,
        }

    @pytest.mark.parametrize("place", PLACES)
    async def test_a_task_alone_has_no_parent_and_no_group(self, stage: Stage, place: str) -> None:
        job = await stage.submit(told[place], "a", key=2)
        request = await stage.drive(job.result())
        assert (request["parent_id"], request["group"], request["root_id"]) == (None, None, job.id)
        assert (request["args"], request["kwargs"]) == (("a",), {"key": 2})

    @pytest.mark.parametrize("place", PLACES)
    async def test_each_item_of_a_map_is_told_its_own_arguments(self, stage: Stage, place: str) -> None:
        job = await stage.submit(tells_of_each, place)
        requests = await stage.drive(job.result())
        assert [request["args"] for request in requests] == [(1,), (2,)]
        assert [request["id"] for request in requests] == [f"{job.id}._told-{place}[{item}]" for item in (0, 1)]

    @pytest.mark.parametrize("place", PLACES)
    async def test_items_that_share_an_attempt_are_told_no_arguments(self, stage: Stage, place: str) -> None:
        requests = await stage.run(tells_of_chunks, place)
        assert [request["args"] for request in requests] == [None, None]

    async def test_a_job_that_may_expire_tells_until_when(self, stage: Stage) -> None:
        job = await stage.submit(told["loop"].signature(expires=HOUR))
        request = await stage.drive(job.result())
        assert datetime.fromisoformat(request["expires"]) == datetime.fromtimestamp(stage.clock.now() + HOUR, UTC)

    async def test_any_task_is_told_of_itself_under_its_own_name(self, stage: Stage) -> None:
        assert await stage.run(asks_unbound, 5) == (asks_unbound.name, (5,), False, True, 5)
        assert await stage.run(asks_in_process, 5) == (asks_in_process.name, (5,), True, False, 5)

    async def test_a_task_that_is_called_directly_says_so(self) -> None:
        request = told["thread"](1, key=2)
        assert (request["called_directly"], request["id"], request["args"]) == (True, None, (1,))
        assert (await told["loop"](3))["kwargs"] == {}

    # --------------------------------------------------------------------------------------------------- retries
    @pytest.mark.parametrize("place", PLACES)
    async def test_a_retry_waits_as_long_as_the_policy_says(self, stage: Stage, room: Room, place: str) -> None:
        assert await stage.run(retrying[place], room.path, 2) == 2
        assert room.notes() == ["attempt 1", "attempt 2", "attempt 3"]
        assert stage.clock.monotonic() == HOUR + 2 * HOUR

    @pytest.mark.parametrize("place", PLACES)
    async def test_a_retry_waits_as_long_as_it_says_itself(self, stage: Stage, room: Room, place: str) -> None:
        assert await stage.run(retrying[place], room.path, 2, {"countdown": timedelta(seconds=90)}) == 2
        assert stage.clock.monotonic() == 180

    async def test_a_retry_starts_at_the_time_that_it_names(self, stage: Stage) -> None:
        assert await stage.run(retries_at, stage.clock.now() + 2 * HOUR) == 1
        assert stage.clock.monotonic() == pytest.approx(2 * HOUR, abs=1e-3)

    @pytest.mark.parametrize("place", PLACES)
    async def test_no_retry_is_left_after_those_of_the_policy(self, stage: Stage, room: Room, place: str) -> None:
        job = await stage.submit(retrying[place], room.path, 99, {"countdown": 0})
        with pytest.raises(MaxRetriesExceededError, match=rf"{retrying[place].name} \[{job.id}.*args: \('.*99"):
            await stage.drive(job.result())
        assert room.notes() == [f"attempt {number}" for number in range(1, 5)]

    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize(("limit", "attempts"), [(0, 1), (1, 2), (6, 7)])
    async def test_a_retry_has_a_limit_of_its_own(
        self, stage: Stage, room: Room, place: str, limit: int, attempts: int
    ) -> None:
        with pytest.raises(MaxRetriesExceededError):
            await stage.run(retrying[place], room.path, 99, {"countdown": 0, "max_retries": limit})
        assert len(room.notes()) == attempts

    async def test_a_retry_may_go_on_without_a_limit(self, stage: Stage, room: Room) -> None:
        assert await stage.run(retrying["loop"], room.path, 20, {"countdown": 0, "max_retries": None}) == 20

    @pytest.mark.parametrize("place", PLACES)
    async def test_the_exception_is_raised_when_no_retry_is_left(self, stage: Stage, room: Room, place: str) -> None:
        job = await stage.submit(retrying_for[place], room.path, 2)
        with pytest.raises(ShopError, match="shut"):
            await stage.drive(job.result())
        assert len(room.notes()) == 3  # though the task's own nine retries would repeat any exception

    async def test_a_retry_tells_what_went_wrong(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(retrying_for["loop"], room.path, 1)
        await stage.end(job)
        (event,) = [event for event in await stage.events(job) if event.type == "node_retried"]
        assert (event.data["error"].short_type, event.data["error"].message) == ("Retry", "ShopError: shut")

    async def test_a_retry_can_be_taken_without_being_raised(self, stage: Stage) -> None:
        assert await stage.run(hands_out_retry) == "Retry in 5"

    @pytest.mark.parametrize("place", PLACES)
    async def test_an_attempt_that_comes_too_late_fails_as_expired(self, stage: Stage, room: Room, place: str) -> None:
        job = await stage.submit(retrying[place], room.path, 1, {"countdown": 2 * HOUR, "expires": HOUR})
        record = await stage.end(job)
        assert (record.state, record.reason) == (JobState.FAILED, "expired")
        assert room.notes() == ["attempt 1"]
        with pytest.raises(ExpiredError, match="attempt 2"):
            await job.result()

    @pytest.mark.parametrize("place", PLACES)
    async def test_an_attempt_that_comes_in_time_does_not_expire(self, stage: Stage, room: Room, place: str) -> None:
        assert await stage.run(retrying[place], room.path, 1, {"countdown": HOUR, "expires": 2 * HOUR}) == 1

    async def test_a_retry_of_a_direct_call_raises_what_went_wrong(self, room: Room) -> None:
        with pytest.raises(ShopError):
            retrying_for["thread"](room.path, 3)
        with pytest.raises(Retry, match="called directly"):
            retrying["thread"](room.path, 3)

    # ------------------------------------------------------------------------------------------------------ ends
    @pytest.mark.parametrize("place", PLACES)
    async def test_a_task_that_ignores_its_work_is_skipped(self, stage: Stage, room: Room, place: str) -> None:
        job = await stage.submit(ends_before, place, room.path, "ignore")
        assert (await stage.end(job)).state is JobState.SUCCEEDED
        assert set((await stage.states(job)).values()) == {"skipped"}
        (event,) = [event for event in await stage.events(job) if event.type == "node_skipped" and event.data]
        assert event.data["message"] == "nothing to do"
        assert room.notes() == ["attempt 1, redelivered False"]

    @pytest.mark.parametrize("place", PLACES)
    async def test_a_task_that_rejects_its_work_fails_and_is_not_repeated(
        self, stage: Stage, room: Room, place: str
    ) -> None:
        job = await stage.submit(ends_before, place, room.path, "reject")
        record = await stage.end(job)
        assert (record.state, record.reason) == (JobState.FAILED, "rejected")
        assert len(room.notes()) == 1
        with pytest.raises(Reject, match="not mine"):
            await job.result()

    @pytest.mark.parametrize("place", PLACES)
    async def test_work_that_is_put_back_is_tried_again_and_that_does_not_count(
        self, stage: Stage, room: Room, place: str
    ) -> None:
        job = await stage.submit(ends_before, place, room.path, "requeue")
        assert await stage.drive(job.result()) == "done"
        assert room.notes() == ["attempt 1, redelivered False", "attempt 1, redelivered True"]
        assert stage.clock.monotonic() == 1.0

    # ---------------------------------------------------------------------------------------------------- states
    @pytest.mark.parametrize("place", PLACES)
    async def test_a_state_of_ones_own_is_recorded(self, stage: Stage, place: str) -> None:
        job = await stage.submit(saying[place])
        assert await stage.drive(job.result()) == "told"
        (event,) = [event for event in await stage.events(job) if event.type == "state"]
        assert event.is_durable
        assert event.node == f"_says-{place}"
        assert (event.data["state"], event.data["meta"]["done"]) == ("COUNTING", 3)
        assert list(event.data["meta"]["of"]) == [1, 2]  # other processes are shown a list

    @pytest.mark.parametrize("place", ["thread", "process"])
    async def test_a_state_is_seen_while_the_task_still_runs(self, stage: Stage, room: Room, place: str) -> None:
        job = await stage.submit(saying[place], "gate", room.path)
        await stage.until(job, "state")
        room.open("gate")
        assert await stage.drive(job.result()) == "told"

    async def test_a_state_that_cannot_be_written_down_is_refused_where_it_is_said(self, stage: Stage) -> None:
        job = await stage.submit(says_what_stays)
        outcome = await stage.drive(job.result())
        assert outcome == ("refused" if self.keeps_jobs else "said")

    async def test_a_direct_call_says_nothing(self) -> None:
        assert saying["thread"]() == "told"
