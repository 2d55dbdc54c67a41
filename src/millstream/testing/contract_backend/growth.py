"""What grows in a node's place while the job runs, replacements and additions to chords; and what errbacks get."""

from __future__ import annotations

from typing import Any

import pytest

from millstream import JobState, MillstreamError, flow
from millstream.authoring.canvas.primitives import chord, group
from millstream.engine.program import Members
from millstream.errors import UnknownNameError
from millstream.testing.contract_backend.stage import BackendCase, Stage
from millstream.testing.contract_bound import (
    adding,
    adds_and_is_replaced,
    adds_later,
    failing,
    handle,
    handle_id,
    handle_later,
    listed,
    plus,
    replaced_once,
    replacing,
)
from millstream.testing.contract_tasks import PLACES, ShopError, echo
from millstream.testing.room import Room


@flow
def goes_on(place: str, room: str, how: str) -> Any:
    """A task behind one that is replaced."""
    return echo(replacing[place](room, 5, how))


@flow
def replaces_each(place: str, room: str) -> Any:
    """Replaced items of a map."""
    return replacing[place].map([room] * 3, [1, 2, 3])


@flow
def replaces_chunks(place: str, room: str) -> Any:
    """Items that share an attempt, and want to be replaced."""
    return replacing[place].options(chunk=2).map([room] * 3, [1, 2, 3])


class GrowthContract(BackendCase):
    """`self.replace`, `self.add_to_chord`, and errbacks."""

    # ---------------------------------------------------------------------------------------------- replacements
    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize(
        ("how", "result"),
        [("task", 105), ("chain", 116), ("group", [6, 7, 8]), ("chord", 21), ("again", "own 0"), ("own", "own 5")],
    )
    async def test_the_result_of_a_replaced_task_is_its_replacement_s(
        self, stage: Stage, room: Room, place: str, how: str, result: Any
    ) -> None:
        job = await stage.submit(goes_on, place, room.path, how)
        assert await stage.drive(job.result()) == result
        assert len(room.notes()) == (6 if how == "again" else 1)
        assert (await stage.states(job))[f"_replaces-{place}"] == "succeeded"

    @pytest.mark.parametrize("place", PLACES)
    async def test_a_replacement_that_fails_fails_the_task(self, stage: Stage, room: Room, place: str) -> None:
        job = await stage.submit(goes_on, place, room.path, "fails")
        with pytest.raises(ShopError, match="closed"):
            await stage.drive(job.result())
        assert room.notes() == ["replaced 5"]  # it has retries, but has itself come to its end

    @pytest.mark.parametrize("place", PLACES)
    async def test_a_replacement_that_nobody_knows_fails_the_task(self, stage: Stage, room: Room, place: str) -> None:
        with pytest.raises(UnknownNameError, match=r"nobody\.has\.this"):
            await stage.run(goes_on, place, room.path, "nobody")
        assert room.notes() == ["replaced 5"]

    @pytest.mark.parametrize("place", PLACES)
    async def test_items_of_a_map_can_be_replaced(self, stage: Stage, room: Room, place: str) -> None:
        assert await stage.run(replaces_each, place, room.path) == [101, 102, 103]

    @pytest.mark.parametrize("place", PLACES)
    async def test_items_that_share_an_attempt_cannot_be_replaced(self, stage: Stage, room: Room, place: str) -> None:
        with pytest.raises(MillstreamError, match="without chunk"):
            await stage.run(replaces_chunks, place, room.path)

    async def test_a_task_that_calls_itself_without_end_is_stopped(self, stage: Stage, room: Room) -> None:
        with pytest.raises(MillstreamError, match="nested over 100 deep"):
            await stage.run(replacing["loop"], room.path, 200, "again")

    async def test_a_replaced_task_does_not_run_again_when_its_job_goes_on_later(
        self, stage: Stage, room: Room
    ) -> None:
        for replaced in (replacing["loop"].s(room.path, 5, "later"), replaced_once.s(room.path, 5)):
            job = await stage.submit(replaced)
            await stage.until_waiting(job)
            assert await stage.drive(job.result()) == 105
        assert room.notes() == ["replaced 5", "once"]

    # --------------------------------------------------------------------------------------- additions to chords
    @pytest.mark.parametrize("place", PLACES)
    async def test_what_members_add_follows_the_results_of_the_header(self, stage: Stage, place: str) -> None:
        header = [adding[place].s(1, 1), adding[place].s(2, 0), adding[place].s(3, 2)]
        job = await stage.submit(chord(header, listed.s()))
        assert await stage.drive(job.result()) == [1, 2, 3, 101, 103, 203]
        recorded = [await stage.app.node_result(job.id, f"_adds-{place}{number}") for number in ("", "-2")]
        assert [node and node.value for node in recorded] == [Members(1, [101]), 2]

    async def test_what_was_added_is_not_added_again_when_the_job_goes_on_later(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(chord([adds_later.s(room.path, 1), plus.s(1, 1)], listed.s()))
        await stage.until_waiting(job)
        assert await stage.drive(job.result()) == [1, 2, 101]
        assert room.notes() == ["adds"]

    async def test_a_member_that_is_replaced_can_add_to_its_chord(self, stage: Stage) -> None:
        job = await stage.submit(chord([adds_and_is_replaced.s(5), plus.s(1, 1)], listed.s()))
        assert await stage.drive(job.result()) == [[6, 7, 8], 2, 105]

    async def test_only_members_of_a_chord_s_header_can_add_to_it(self, stage: Stage) -> None:
        with pytest.raises(ValueError, match="in no chord's header"):
            await stage.run(adding["loop"], 1, 1)
        with pytest.raises(ValueError, match="in no chord's header"):
            await stage.run(group(adding["loop"].s(1, 1), adding["loop"].s(2, 1)))

    # --------------------------------------------------------------------------------------------------- errbacks
    @pytest.mark.parametrize("place", PLACES)
    async def test_an_errback_is_given_request_error_and_traceback(self, stage: Stage, room: Room, place: str) -> None:
        job = await stage.submit(failing[place].s("shut", key=2).on_error(handle[place].s(room.path)))
        record = await stage.end(job)
        assert record.state is JobState.FAILED  # though its errback went well
        assert record.error is not None
        assert record.error.short_type == "ShopError"
        (note,) = room.notes()
        assert note == f"{job.id}._fails-{place} of attempt 3 with ('shut',) {{'key': 2}}: ShopError('shut'), traceback"

    async def test_an_errback_of_one_argument_is_given_the_task_s_id(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(failing["loop"].s("shut").on_error(handle_id.s(room.path)))
        assert (await stage.end(job)).state is JobState.FAILED
        assert room.notes() == [f"{job.id}._fails-loop"]

    async def test_an_errback_is_given_what_failed_before_its_job_went_on_later(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(failing["loop"].s("shut").on_error(handle_later.s(room.path)))
        await stage.until_waiting(job)
        assert (await stage.end(job)).state is JobState.FAILED
        assert room.notes()[0].endswith("of attempt 3 with ('shut',) {}: ShopError('shut'), traceback")

    async def test_an_errback_is_skipped_where_its_task_goes_well(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(plus.s(1, 2).on_error(handle_id.s(room.path)))
        assert await stage.drive(job.result()) == 3
        assert (await stage.states(job))["handle_id"] == "skipped"

    async def test_an_errback_is_skipped_where_another_task_failed(self, stage: Stage, room: Room) -> None:
        job = await stage.submit(failing["loop"].s("shut") | plus.s(1).on_error(handle_id.s(room.path)))
        assert (await stage.end(job)).state is JobState.FAILED
        assert room.notes() == []

    async def test_the_errback_of_a_chord_answers_for_its_header_and_its_body(self, stage: Stage, room: Room) -> None:
        header = [plus.s(1, 2), failing["loop"].s("shut")]
        job = await stage.submit(chord(header, listed.s().on_error(handle_id.s(room.path))))
        assert (await stage.end(job)).state is JobState.FAILED
        assert room.notes() == [f"{job.id}._fails-loop"]
