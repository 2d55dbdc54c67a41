"""The part of the suite of ledgers about jobs that several processes execute: what one hands out, others claim."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from millstream.clock import new_id
from millstream.errors import JobNotFoundError
from millstream.ledger.base import Claim, Done, FencedError, Ledger, Pause, RefusedRecordError, Settlement
from millstream.ledger.filter import Filter
from millstream.model.event import Event
from millstream.model.job import JobState
from millstream.model.names import DOCUMENTS, document_name
from millstream.testing.clock import VirtualClock
from millstream.testing.ledger_doings import (
    CANCEL,
    CANCELLED,
    ME,
    OTHER,
    SUCCEEDED,
    claimed,
    ended,
    fact,
    handed_out,
    make_job,
    record,
    submit,
    taken_back,
)
from millstream.testing.ledger_sides_doings import SideHistory


async def handed(ledger: Ledger, *queues: str | None) -> tuple[Claim, list[Claim]]:
    """Claim a job, hand a side segment out on each of these queues, claim them for another, and return all claims."""
    main = await claimed(ledger)
    drafts = [handed_out(number, f"n{number}", queue=queue) for number, queue in enumerate(queues, 2)]
    await record(ledger, main, *drafts)
    return main, await ledger.claim(OTHER, 100)


class LedgerSides:
    """See `LedgerContract`."""

    # ------------------------------------------------------------------------------------------------ handing out
    async def test_what_is_handed_out_is_claimed_as_a_segment_of_its_own(self, ledger: Ledger) -> None:
        main = await claimed(ledger, priority=3)
        drafts = [fact("x"), handed_out(2, "a", queue="heavy"), passing_by(), handed_out(3, "b")]
        assert await record(ledger, main, *drafts) == (2, drafts)
        sides = await ledger.claim(OTHER, 10)
        assert sides == [
            Claim(main.job, 2, 1, OTHER, head=4, order=3, queue="heavy"),
            Claim(main.job, 3, 1, OTHER, head=4, order=4),
        ]
        assert await ledger.claim(ME, 10) == []
        assert await ledger.get(main.job.id) == main.job
        told = await ledger.event(main.job.id, 3)
        assert (told.type, told.data["nodes"]) == ("handed_out", [{"path": "a"}])

    async def test_main_segments_tell_their_queue_and_no_order(self, ledger: Ledger) -> None:
        job = make_job(queue="heavy")
        await submit(ledger, job, None)
        (claim,) = await ledger.claim(ME, 10)
        assert (claim.order, claim.queue, claim.job.queue) == (None, "heavy", "heavy")
        assert (await ledger.get(job.id)).queue == "heavy"
        assert (await claimed(ledger, queue="light")).queue == "light"

    async def test_segments_of_a_document_are_claimed_by_whoever_claims_documents(self, ledger: Ledger) -> None:
        job = make_job(flow=document_name(new_id()))
        await submit(ledger, job, None)
        assert await ledger.claim(ME, 10, [job.flow]) == []
        (main,) = await ledger.claim(ME, 10, [DOCUMENTS])
        assert (main.job.id, main.job.flow) == (job.id, job.flow)
        await record(ledger, main, handed_out(2, "a"))
        assert await ledger.claim(OTHER, 10, [job.flow]) == []
        (side,) = await ledger.claim(OTHER, 10, [DOCUMENTS])
        assert (side.job.id, side.segment) == (job.id, 2)
        assert [found.id for found in await ledger.find(Filter(flow=job.flow))] == [job.id]

    async def test_a_refused_record_hands_nothing_out(self, ledger: Ledger) -> None:
        main = await claimed(ledger)
        with pytest.raises(FencedError):
            await record(ledger, replace(main, attempt=7), handed_out(2, "a"))
        assert await ledger.claim(OTHER, 10) == []

    async def test_a_number_is_handed_out_once_and_only_side_segments_are_taken_back(self, ledger: Ledger) -> None:
        main, (side,) = await handed(ledger, None)
        for draft in (handed_out(2, "b"), handed_out(1, "b"), taken_back(1), taken_back(9)):
            with pytest.raises(RefusedRecordError):
                await record(ledger, main, ended("x", 1), draft)
        assert await record(ledger, main, ended("x", 1)) == (3, [ended("x", 1)])
        assert await record(ledger, side, ended("n2", 1), end=Done()) == (4, [ended("n2", 1)])

    async def test_records_of_a_side_segment_hand_nothing_out(self, ledger: Ledger) -> None:
        _, (side,) = await handed(ledger, None)
        await record(ledger, side, handed_out(3, "b"))
        assert await ledger.claim(ME, 10) == []

    # ------------------------------------------------------------------------------------------------ claiming
    async def test_segments_are_claimed_by_priority_then_by_the_age_of_their_job(self, ledger: Ledger) -> None:
        jobs = [await claimed(ledger, priority=priority) for priority in (0, 5, 0)]
        for main in jobs:
            await record(ledger, main, handed_out(2, "a"), handed_out(3, "b"))
        last = make_job(priority=5)
        await submit(ledger, last, None)
        got = [claim for limit in (1, 3, 10) for claim in await ledger.claim(OTHER, limit)]
        ids = [jobs[1].job.id, jobs[1].job.id, last.id, *[jobs[0].job.id] * 2, *[jobs[2].job.id] * 2]
        assert [claim.job.id for claim in got] == ids
        assert [claim.segment for claim in got] == [2, 3, 1, 2, 3, 2, 3]

    async def test_a_claim_takes_only_the_queues_that_it_names(self, ledger: Ledger) -> None:
        main = await claimed(ledger)
        await record(ledger, main, handed_out(2, "a", queue="heavy"), handed_out(3, "b"), handed_out(4, "c", queue="x"))
        job = make_job(queue="heavy")
        await submit(ledger, job, None)
        assert await ledger.claim(ME, 10, None, []) == []
        assert await ledger.claim(ME, 10, None, ["other"]) == []
        assert [claim.segment for claim in await ledger.claim(ME, 10, None, [None])] == [3]
        assert await ledger.claim(ME, 10, ["b.flow"], ["heavy", None]) == []
        assert [claim.queue for claim in await ledger.claim(ME, 10, ["a.flow"], ["heavy", None])] == ["heavy", "heavy"]
        assert [claim.segment for claim in await ledger.claim(ME, 10)] == [4]

    async def test_a_claim_takes_at_most_so_many_side_segments(self, ledger: Ledger) -> None:
        main = await claimed(ledger)
        await record(ledger, main, *[handed_out(number, f"n{number}") for number in range(2, 8)])
        jobs = [make_job() for _ in range(3)]
        for job in jobs:
            await submit(ledger, job, None)
        assert [claim.segment for claim in await ledger.claim(ME, 1, sides=0)] == [1]
        assert [claim.segment for claim in await ledger.claim(ME, 3, sides=1)] == [2, 1, 1]
        assert await ledger.claim(ME, 10, sides=0) == []
        assert [claim.segment for claim in await ledger.claim(ME, 10, sides=2)] == [3, 4]
        assert [claim.segment for claim in await ledger.claim(ME, 10)] == [5, 6, 7]

    async def test_the_next_time_is_that_of_the_queues_asked_for(self, ledger: Ledger, clock: VirtualClock) -> None:
        now = clock.now()
        for queue, seconds in ((None, 60), ("heavy", 30)):
            job = make_job(queue=queue, state=JobState.SCHEDULED, starts_at=now + seconds)
            await submit(ledger, job, None)
        assert await ledger.due_at(None, [None]) == now + 60
        assert await ledger.due_at(None, ["heavy", "x"]) == now + 30
        assert await ledger.due_at(["a.flow"], ["x"]) is None
        assert await ledger.due_at() == now + 30

    # ------------------------------------------------------------------------------------------------ recording
    async def test_main_and_side_segments_number_their_events_together(self, ledger: Ledger) -> None:
        main, (one, two) = await handed(ledger, None, None)
        firsts = [(await record(ledger, claim, fact("x")))[0] for claim in (one, main, two, main, one)]
        assert firsts == [4, 5, 6, 7, 8]
        assert [event.seq for event in await ledger.events(main.job.id, 0, 100)] == [1, 2, 3, 4, 5, 6, 7, 8]

    async def test_a_node_ends_once_whichever_segment_records_it(self, ledger: Ledger) -> None:
        main, (one, two) = await handed(ledger, None, None)
        assert await record(ledger, main, ended("a", 1)) == (4, [ended("a", 1)])
        assert await record(ledger, one, ended("a", 2), ended("b", 2)) == (5, [ended("b", 2)])
        assert await record(ledger, main, ended("b", 3), fact("x"), ended("c", 3)) == (6, [fact("x"), ended("c", 3)])
        assert await record(ledger, two, ended("c", 4), ended("d", 4), ended("d", 5)) == (8, [ended("d", 4)])
        assert await record(ledger, one, ended("d", 6), end=Done()) == (9, [])
        assert await record(ledger, main, ended("d", 7), ended("a", 7), ended("e", 7)) == (9, [ended("e", 7)])
        results = {result.path: result.value for result in await ledger.node_results(main.job.id)}
        assert results == {"a": 1, "b": 2, "c": 3, "d": 4, "e": 7}

    @pytest.mark.parametrize("stale", [{"holder": ME}, {"attempt": 2}, {"segment": 3}, {"segment": 1}])
    async def test_who_does_not_hold_a_side_segment_records_nothing_in_it(
        self, ledger: Ledger, stale: dict[str, object]
    ) -> None:
        _, (side,) = await handed(ledger, None)
        for end in (None, Done(), Pause("timer", None, 2)):
            with pytest.raises(FencedError):
                await record(ledger, replace(side, **stale), ended("a", 1), end=end)
        assert await record(ledger, side, ended("a", 1)) == (3, [ended("a", 1)])

    async def test_a_side_segment_that_is_done_records_nothing_more(self, ledger: Ledger) -> None:
        main, (side,) = await handed(ledger, None)
        await record(ledger, side, ended("n2", 1), end=Done())
        with pytest.raises(FencedError, match="segment 2"):
            await record(ledger, side, fact("late"))
        assert await ledger.claim(OTHER, 10) == []
        assert await record(ledger, main, end=Settlement(SUCCEEDED)) == (4, [terminal(await ledger.get(main.job.id))])

    async def test_the_end_of_a_job_ends_all_its_segments(self, ledger: Ledger) -> None:
        main = await claimed(ledger)
        await record(ledger, main, *[handed_out(number, f"n{number}") for number in (2, 3, 4)])
        held, paused = await ledger.claim(OTHER, 2)
        await record(ledger, paused, end=Pause("timer", 1e12, 4))
        await record(ledger, main, end=Settlement(SUCCEEDED))
        with pytest.raises(FencedError):
            await record(ledger, held, ended("n2", 1))
        assert await ledger.claim(OTHER, 10) == []
        assert await ledger.due_at() is None

    async def test_what_is_taken_back_ends_whatever_its_state(self, ledger: Ledger) -> None:
        main = await claimed(ledger)
        await record(ledger, main, *[handed_out(number, f"n{number}") for number in (2, 3, 4)])
        held, paused = await ledger.claim(OTHER, 2)
        await record(ledger, paused, end=Pause("timer", 1e12, 4))
        drafts = [taken_back(number) for number in (2, 3, 4)]
        assert await record(ledger, main, *drafts) == (5, drafts)
        with pytest.raises(FencedError):
            await record(ledger, held, ended("n2", 1))
        assert await ledger.claim(OTHER, 10) == []
        assert await ledger.due_at() is None
        assert await record(ledger, main, ended("n2", 2)) == (8, [ended("n2", 2)])
        assert await record(ledger, main, taken_back(2)) == (9, [taken_back(2)])

    # ------------------------------------------------------------------------------------------------ large values
    async def test_one_event_is_read_with_its_values_whole(self, ledger: Ledger) -> None:
        main = await claimed(ledger)
        value = {"segment": 2, "queue": "heavy", "nodes": [{"path": "a", "args": [(1, {2}), "x" * 20_000]}]}
        await record(ledger, main, fact("x"), (True, "handed_out", 3.0, None, ledger.seal(main.job, value)))
        (side,) = await ledger.claim(OTHER, 10, None, ["heavy"])
        assert side.order == 3
        assert await ledger.event(main.job.id, side.order) == Event(3, 0, "handed_out", 3.0, None, value)
        assert (await ledger.event(main.job.id, 2)).type == "x"
        for seq in (0, 4, -1):
            with pytest.raises(JobNotFoundError, match=f"no event {seq}"):
                await ledger.event(main.job.id, seq)
        with pytest.raises(JobNotFoundError):
            await ledger.event("nowhere", 1)

    async def test_large_values_of_a_side_segment_outlive_a_pause_of_the_main_one(self, ledger: Ledger) -> None:
        main, (side,) = await handed(ledger, None)
        data = ledger.seal(side.job, {"attempt": 1, "value": "x" * 20_000})
        await record(ledger, main, end=Pause("handed_out", None, 2))
        await record(ledger, side, (True, "node_succeeded", 3.0, "n2", data), end=Done())
        assert (await ledger.event(main.job.id, 3)).data == {"attempt": 1, "value": "x" * 20_000}

    # ------------------------------------------------------------------------------------------------ pauses
    async def test_a_main_segment_that_waits_goes_on_when_a_side_one_is_done(self, ledger: Ledger) -> None:
        main, (one, two) = await handed(ledger, None, None)
        await record(ledger, main, end=Pause("handed_out", None, 3))
        assert await ledger.get(main.job.id) == main.job
        await record(ledger, one, ended("n2", 1))
        assert await ledger.claim(ME, 10) == []
        assert await ledger.due_at() is None
        await record(ledger, one, end=Done())
        assert await ledger.get(main.job.id) == main.job
        (again,) = await ledger.claim(ME, 10)
        assert (again.segment, again.attempt, again.head, again.job) == (1, 2, 4, main.job)
        await record(ledger, two, ended("n3", 1), end=Done())
        assert await ledger.claim(ME, 10) == []

    async def test_a_main_segment_does_not_wait_for_what_its_holder_did_not_see(self, ledger: Ledger) -> None:
        main, (one, _) = await handed(ledger, None, None)
        await record(ledger, one, ended("n2", 1), end=Done())
        await record(ledger, main, end=Pause("handed_out", None, 3))
        (again,) = await ledger.claim(ME, 10)
        await record(ledger, again, end=Pause("handed_out", None, 4))
        assert await ledger.claim(ME, 10) == []

    async def test_a_main_segment_does_not_wait_where_all_side_ones_have_ended(self, ledger: Ledger) -> None:
        main, (side,) = await handed(ledger, None)
        await record(ledger, side, end=Done())
        await record(ledger, main, end=Pause("handed_out", None, 2))
        assert [claim.segment for claim in await ledger.claim(ME, 10)] == [1]

    @pytest.mark.parametrize("reason", ["handed_out", "timer"])
    async def test_a_main_segment_that_waits_for_a_time_too_goes_on_at_what_comes_first(
        self, ledger: Ledger, clock: VirtualClock, reason: str
    ) -> None:
        for is_done_first in (False, True):
            main, (side,) = await handed(ledger, None)
            await record(ledger, main, end=Pause(reason, clock.now() + 60, 2))  # type: ignore[arg-type]
            assert await ledger.claim(ME, 10) == []
            assert await ledger.due_at() == clock.now() + 60
            if is_done_first:
                await record(ledger, side, end=Done())
            else:
                await clock.advance(60)
            (again,) = await ledger.claim(ME, 10)
            assert (again.segment, again.job) == (1, main.job)
            await record(ledger, again, end=Settlement(SUCCEEDED))

    async def test_a_side_segment_that_pauses_moves_nothing_else(self, ledger: Ledger, clock: VirtualClock) -> None:
        main, (side,) = await handed(ledger, None)
        until = clock.now() + 60
        await record(ledger, main, fact("x"), end=Pause("handed_out", None, 3))
        await record(ledger, side, fact("y"), end=Pause("timer", until, 2))
        assert await ledger.get(main.job.id) == main.job
        assert await ledger.claim(ME, 10) == []
        assert await ledger.due_at() == until
        await clock.advance(60)
        (again,) = await ledger.claim(ME, 10)
        assert (again.segment, again.attempt, again.order, again.head) == (2, 2, 2, 4)
        await record(ledger, again, end=Pause("shutdown", 0.0, 4))
        assert await ledger.get(main.job.id) == main.job
        assert [(claim.segment, claim.attempt) for claim in await ledger.claim(OTHER, 10)] == [(2, 3)]

    @pytest.mark.parametrize("is_first", [True, False])
    async def test_an_answer_reaches_a_side_segment_that_waits_for_it(self, ledger: Ledger, *, is_first: bool) -> None:
        main, (side,) = await handed(ledger, None)
        await record(ledger, main, end=Pause("handed_out", None, 2))
        await record(ledger, side, (True, "waiting", 3.0, "n2", {"reason": "decision"}))
        for doing in (True, False):
            if doing is is_first:
                await ledger.answer(main.job.id, "n2", [(True, "answered", 4.0, "n2", {"answer": 1})])
            else:
                await record(ledger, side, end=Pause("decision", None, 3))
        assert 2 in {claim.segment for claim in await ledger.claim(ME, 10)}

    async def test_claims_of_side_segments_leave_the_state_of_their_job_alone(self, ledger: Ledger) -> None:
        main = await claimed(ledger)
        await record(ledger, main, handed_out(2, "a"), end=Pause("approval", None, 2))
        waiting = await ledger.get(main.job.id)
        assert (waiting.state, waiting.reason) == (JobState.WAITING, "approval")
        (side,) = await ledger.claim(OTHER, 10)
        assert side.job == waiting == await ledger.get(main.job.id)
        await record(ledger, side, ended("a", 1), end=Done())
        assert (await ledger.get(main.job.id)).state is JobState.QUEUED

    # ------------------------------------------------------------------------------------------------ cancels
    async def test_a_cancel_of_a_job_of_which_nobody_holds_a_segment_ends_all(self, ledger: Ledger) -> None:
        main = await claimed(ledger)
        await record(ledger, main, handed_out(2, "a"), end=Pause("handed_out", None, 2))
        job, first = await ledger.cancel(main.job.id, [CANCEL])
        assert (job.state, first) == (CANCELLED, 3)
        assert await ledger.claim(ME, 10) == []

    @pytest.mark.parametrize("end", [Done(), Pause("shutdown", None, 9), Pause("timer", 1e12, 9)])
    @pytest.mark.parametrize("is_due", [True, False])
    async def test_after_a_cancel_the_main_segment_goes_on_when_no_side_one_is_held(
        self, ledger: Ledger, end: Done | Pause, *, is_due: bool
    ) -> None:
        main, (one, two) = await handed(ledger, None, None)
        await record(ledger, main, handed_out(4, "c"), end=Pause("handed_out", None, 0 if is_due else 4))
        job, first = await ledger.cancel(main.job.id, [CANCEL])
        assert (job.cancel_requested, job.state, first) == (True, JobState.RUNNING, None)
        assert await ledger.claim(ME, 10) == []
        await record(ledger, one, end=end)
        assert await ledger.claim(ME, 10) == []
        await record(ledger, two, end=Done())
        (again,) = await ledger.claim(ME, 10)
        assert (again.segment, again.job.cancel_requested) == (1, True)
        await record(ledger, again, end=Settlement(CANCELLED, "cancel"))
        assert (await ledger.get(main.job.id)).state is CANCELLED

    @pytest.mark.parametrize("reason", ["handed_out", "shutdown", "timer"])
    async def test_a_main_segment_laid_down_after_a_cancel_goes_on_when_no_side_one_is_held(
        self, ledger: Ledger, reason: str
    ) -> None:
        main, (side,) = await handed(ledger, None)
        await ledger.cancel(main.job.id, [CANCEL])
        await record(ledger, main, handed_out(3, "b"), end=Pause(reason, None, 3))  # type: ignore[arg-type]
        assert await ledger.claim(ME, 10) == []
        await record(ledger, side, end=Done())
        assert [claim.segment for claim in await ledger.claim(ME, 10)] == [1]

    async def test_a_side_segment_may_end_with_a_wish_to_cancel(self, ledger: Ledger) -> None:
        main, (one, two) = await handed(ledger, None, None)
        await record(ledger, main, handed_out(4, "c"), end=Pause("handed_out", None, 4))
        await record(ledger, one, end=Done(cancels=True))
        assert (await ledger.get(main.job.id)).cancel_requested
        assert await ledger.claim(ME, 10) == []
        await record(ledger, two, end=Done())
        (again,) = await ledger.claim(ME, 10)
        assert (again.segment, again.job.cancel_requested) == (1, True)

    # ------------------------------------------------------------------------------------------------ any doings
    @pytest.mark.parametrize("seed", range(4))
    async def test_whatever_is_done_no_job_is_lost_and_none_has_two_holders(
        self, ledger: Ledger, clock: VirtualClock, seed: int
    ) -> None:
        history = SideHistory(ledger, clock, random.Random(seed))  # noqa: S311  no secrets are made of it
        for _ in range(120):
            await history.step()
        await history.check()
        await history.drive()
        await history.check()


def passing_by() -> tuple[bool, str, float, str | None, object]:
    """Return a volatile draft, which takes no number."""
    return False, "progress", 3.0, "a", {}


def terminal(job: object) -> tuple[bool, str, float, str | None, object]:
    """Return the last draft of a job that succeeded."""
    return True, "ended", job.ended_at, None, {"state": "succeeded", "reason": None}  # type: ignore[attr-defined]
