"""The part of the suite of ledgers about jobs that do not simply run: scheduled, paused, answered, sealed, filtered."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from millstream.clock import new_id
from millstream.errors import JobNotFoundError
from millstream.ledger.base import FencedError, JobGraph, Ledger, Pause, Settlement
from millstream.ledger.filter import Filter
from millstream.model.event import Draft, Event
from millstream.model.job import Decision, JobState
from millstream.testing.clock import VirtualClock
from millstream.testing.ledger_doings import (
    CANCEL,
    CANCELLED,
    FAILED,
    GRAPH,
    ME,
    OTHER,
    PLANNED,
    SUCCEEDED,
    claimed,
    ended,
    fact,
    make_job,
    record,
    submit,
)

WAITS: Draft = (True, "waiting", 3.0, "a", {"reason": "approval"})
ANSWERED: Draft = (True, "answered", 4.0, "a", {"answer": True})


class LedgerWaits:
    """See `LedgerContract`."""

    # ------------------------------------------------------------------------------------------------ schedules
    async def test_a_scheduled_job_is_claimed_from_its_time_on(self, ledger: Ledger, clock: VirtualClock) -> None:
        job = make_job(state=JobState.SCHEDULED, starts_at=clock.now() + 60)
        assert await submit(ledger, job, ME) == (job, None)
        assert await ledger.get(job.id) == job
        assert await ledger.claim(ME, 10) == []
        assert await ledger.due_at() == job.starts_at
        await clock.advance(60)
        (claim,) = await ledger.claim(ME, 10)
        assert claim.job == replace(job, state=JobState.RUNNING, started_at=clock.now())
        assert await ledger.due_at() is None

    async def test_a_scheduled_job_can_be_cancelled_at_once(self, ledger: Ledger, clock: VirtualClock) -> None:
        job = make_job(state=JobState.SCHEDULED, starts_at=clock.now() + 60)
        await submit(ledger, job, None)
        cancelled, first = await ledger.cancel(job.id, [CANCEL])
        assert (cancelled.state, first) == (CANCELLED, 2)
        await clock.advance(60)
        assert await ledger.claim(ME, 10) == []
        assert await ledger.due_at() is None

    async def test_the_next_time_is_the_earliest_of_the_flows_asked_for(
        self, ledger: Ledger, clock: VirtualClock
    ) -> None:
        assert await ledger.due_at() is None
        for flow, seconds in (("one", 60), ("two", 30), ("one", 90)):
            await submit(ledger, make_job(flow=flow, state=JobState.SCHEDULED, starts_at=clock.now() + seconds), None)
        now = clock.now()
        assert await ledger.due_at() == now + 30
        assert await ledger.due_at(["one", "three"]) == now + 60
        assert await ledger.due_at(["three"]) is None
        assert await ledger.due_at([]) is None

    # --------------------------------------------------------------------------------------------------- pauses
    async def test_a_paused_segment_is_claimed_again_from_its_time_on(
        self, ledger: Ledger, clock: VirtualClock
    ) -> None:
        claim = await claimed(ledger)
        until = clock.now() + 60
        assert await record(ledger, claim, ended("a", 1), end=Pause("timer", until, 1)) == (2, [ended("a", 1)])
        paused = await ledger.get(claim.job.id)
        assert paused == replace(claim.job, state=JobState.WAITING, reason="timer")
        assert await ledger.claim(OTHER, 10) == []
        assert await ledger.due_at() == until
        await clock.advance(60)
        (again,) = await ledger.claim(OTHER, 10)
        assert (again.job, again.segment, again.attempt, again.holder) == (claim.job, 1, 2, OTHER)
        assert (again.head, again.crashes) == (2, 0)

    async def test_after_a_pause_its_holder_records_nothing_more(self, ledger: Ledger) -> None:
        claim = await claimed(ledger)
        await record(ledger, claim, end=Pause("approval", None, 1))
        with pytest.raises(FencedError):
            await record(ledger, claim, fact("late"))
        assert await ledger.due_at() is None
        assert len(await ledger.events(claim.job.id, 0, 10)) == 1

    async def test_what_is_handed_on_is_claimed_at_once(self, ledger: Ledger) -> None:
        claim = await claimed(ledger)
        await record(ledger, claim, end=Pause("shutdown", None, 1))
        assert (await ledger.get(claim.job.id)).state is JobState.QUEUED
        (again,) = await ledger.claim(OTHER, 10)
        assert (again.attempt, again.crashes) == (2, 0)

    async def test_a_node_that_ended_before_a_pause_does_not_end_again_after_it(self, ledger: Ledger) -> None:
        claim = await claimed(ledger)
        await record(ledger, claim, ended("a", 1), end=Pause("shutdown", None, 1))
        (again,) = await ledger.claim(OTHER, 10)
        assert await record(ledger, again, ended("a", 2), ended("b", 3)) == (3, [ended("b", 3)])

    # -------------------------------------------------------------------------------------------------- answers
    async def test_an_answer_lets_a_paused_job_go_on(self, ledger: Ledger) -> None:
        claim = await claimed(ledger)
        await record(ledger, claim, WAITS, end=Pause("approval", None, 2))
        assert await ledger.claim(OTHER, 10) == []
        assert await ledger.answer(claim.job.id, "a", [ANSWERED]) == 3
        assert (await ledger.get(claim.job.id)).state is JobState.QUEUED
        (again,) = await ledger.claim(OTHER, 10)
        assert (again.attempt, again.head, again.job.reason) == (2, 3, None)

    async def test_an_answer_counts_once_and_only_where_a_node_waits(self, ledger: Ledger) -> None:
        claim = await claimed(ledger)
        assert await ledger.answer(claim.job.id, "a", [ANSWERED]) is None
        await record(ledger, claim, WAITS, (True, "waiting", 3.0, "t", {"reason": "timer", "until": 9.0}))
        assert await ledger.answer(claim.job.id, "b", [ANSWERED]) is None
        assert await ledger.answer(claim.job.id, "t", [ANSWERED]) is None
        assert await ledger.answer(claim.job.id, "a", [ANSWERED]) == 4
        assert await ledger.answer(claim.job.id, "a", [ANSWERED]) is None
        first, _ = await record(ledger, claim, fact("x"), end=Settlement(SUCCEEDED))
        assert first == 5
        assert await ledger.answer(claim.job.id, "a", [ANSWERED]) is None

    async def test_an_answer_that_comes_before_the_pause_is_not_missed(self, ledger: Ledger) -> None:
        claim = await claimed(ledger)
        await record(ledger, claim, WAITS)
        assert await ledger.answer(claim.job.id, "a", [ANSWERED]) == 3
        await record(ledger, claim, end=Pause("approval", None, 2))
        (again,) = await ledger.claim(OTHER, 10)
        assert again.head == 3

    async def test_a_cancel_that_comes_before_the_pause_is_not_missed(self, ledger: Ledger) -> None:
        claim = await claimed(ledger)
        await ledger.cancel(claim.job.id, [CANCEL])
        await record(ledger, claim, end=Pause("approval", None, 1))
        (again,) = await ledger.claim(OTHER, 10)
        assert again.job.cancel_requested

    async def test_a_paused_job_is_cancelled_at_once(self, ledger: Ledger) -> None:
        claim = await claimed(ledger)
        await record(ledger, claim, WAITS, end=Pause("approval", None, 2))
        cancelled, first = await ledger.cancel(claim.job.id, [CANCEL])
        assert (cancelled.state, cancelled.reason, first) == (CANCELLED, "cancel", 3)
        assert await ledger.answer(claim.job.id, "a", [ANSWERED]) is None
        assert await ledger.claim(OTHER, 10) == []

    @pytest.mark.parametrize("answer", ["x" * 9000, Decision("done", "x" * 9000)], ids=["value", "decision"])
    async def test_a_large_answer_is_recorded_whole(self, ledger: Ledger, answer: Any) -> None:
        claim = await claimed(ledger)
        await record(ledger, claim, WAITS, end=Pause("approval", None, 2))
        for expected in (3, None):  # the one that comes too late leaves the first as it is
            data = ledger.seal(claim.job, {"answer": answer})
            assert await ledger.answer(claim.job.id, "a", [(True, "answered", 4.0, "a", data)]) == expected
        assert (await ledger.history(claim.job.id))[-1].data == {"answer": answer}

    async def test_a_large_value_that_is_sealed_twice_is_there_for_both(self, ledger: Ledger) -> None:
        claim = await claimed(ledger)
        refused = ledger.seal(claim.job, {"value": "x" * 9000})
        value = ledger.seal(claim.job, {"value": "x" * 9000})
        assert await ledger.answer(claim.job.id, "a", [(True, "answered", 4.0, "a", refused)]) is None
        await record(ledger, claim, (True, "node_succeeded", 3.0, "a", value))
        assert (await ledger.history(claim.job.id))[-1].data == {"value": "x" * 9000}

    @pytest.mark.parametrize("job_id", ["a\0b", "a\udcff", ""], ids=["nul", "surrogate", "empty"])
    async def test_what_can_be_no_id_is_that_of_no_job(self, ledger: Ledger, job_id: str) -> None:
        for doing in (
            ledger.get(job_id),
            ledger.graph(job_id),
            ledger.history(job_id),
            ledger.events(job_id, 0, 10),
            ledger.node_results(job_id),
            ledger.answer(job_id, "a", [ANSWERED]),
            ledger.cancel(job_id, [CANCEL]),
        ):
            with pytest.raises(JobNotFoundError):
                await doing
        assert await ledger.forget([job_id]) == []

    async def test_an_answer_to_an_unknown_job_is_an_error(self, ledger: Ledger) -> None:
        with pytest.raises(JobNotFoundError):
            await ledger.answer(new_id(), "a", [ANSWERED])

    # -------------------------------------------------------------------------------------------------- claims
    async def test_a_claim_takes_only_the_flows_that_it_names(self, ledger: Ledger) -> None:
        jobs = [make_job(flow=flow) for flow in ("one", "two", "three", "two")]
        for job in jobs:
            await submit(ledger, job, None)
        assert await ledger.claim(ME, 10, []) == []
        assert [claim.job.id for claim in await ledger.claim(ME, 10, ["two", "four"])] == [jobs[1].id, jobs[3].id]
        assert [claim.job.id for claim in await ledger.claim(ME, 10)] == [jobs[0].id, jobs[2].id]

    async def test_a_claim_tells_what_happened_before_it(self, ledger: Ledger) -> None:
        job = make_job()
        await ledger.submit(job, JobGraph(GRAPH), [PLANNED, ended("a", 1), fact("x")], None)
        (claim,) = await ledger.claim(ME, 10)
        assert (claim.head, claim.attempt, claim.crashes) == (3, 1, 0)
        assert await record(ledger, claim, ended("a", 2), ended("b", 2)) == (4, [ended("b", 2)])

    # -------------------------------------------------------------------------------------------------- values
    async def test_what_a_job_executes_is_as_it_was_submitted(self, ledger: Ledger) -> None:
        job = make_job()
        graph = JobGraph(GRAPH, [1, {"deep": (1, 2)}, b"raw", "x" * 20_000, [1.5, None]])
        await ledger.submit(job, graph, [PLANNED], None)
        kept = await ledger.graph(job.id)
        assert (kept.graph, list(kept.bindings)) == (graph.graph, list(graph.bindings))
        with pytest.raises(JobNotFoundError):
            await ledger.graph(new_id())

    async def test_history_has_every_value_whole(self, ledger: Ledger) -> None:
        claim = await claimed(ledger)
        value = {"pair": (1, 2), "set": {3}, "raw": b"abc", "large": "x" * 20_000}
        data = ledger.seal(claim.job, {"attempt": 1, "value": value})
        first, _ = await record(ledger, claim, (True, "node_succeeded", 3.0, "a", data), fact("x"))
        assert first == 2
        events = await ledger.history(claim.job.id)
        assert events == [
            Event(1, 0, *PLANNED[1:]),
            Event(2, 0, "node_succeeded", 3.0, "a", {"attempt": 1, "value": value}),
            Event(3, 0, *fact("x")[1:]),
        ]
        with pytest.raises(JobNotFoundError):
            await ledger.history(new_id())

    async def test_inputs_and_results_are_whole_however_large_they_are(self, ledger: Ledger) -> None:
        inputs = {"rows": ["x" * 20_000, (1, 2)], "small": 1}
        claim = await claimed(ledger, inputs=inputs)
        assert claim.job.inputs == inputs
        await record(ledger, claim, end=Settlement(SUCCEEDED, result=("y" * 20_000, {1, 2})))
        job = await ledger.get(claim.job.id)
        assert (job.inputs, job.result) == (inputs, ("y" * 20_000, {1, 2}))

    # ------------------------------------------------------------------------------------------------- filters
    async def test_jobs_are_found_by_reason_and_time_and_in_pages(self, ledger: Ledger) -> None:
        jobs = [make_job(flow="odd" if i % 2 else "even", created_at=100.0 + i) for i in range(8)]
        for i, job in enumerate(jobs):
            _, claim = await submit(ledger, job, ME)
            assert claim is not None
            if i < 4:
                await record(ledger, claim, end=Settlement(FAILED, "timeout" if i < 2 else "error"))

        async def found(**which: Any) -> list[int]:
            known = [job.id for job in jobs]
            return [known.index(job.id) for job in await ledger.find(Filter(**which))]

        assert await found(reason="timeout") == [1, 0]
        assert await found(states=(FAILED,), reason="error", flow="odd") == [3]
        assert await found(created_after=105.0) == [7, 6, 5]
        assert await found(created_before=102.0) == [1, 0]
        assert await found(created_after=102.0, created_before=104.0, flow="even") == [2]
        assert await found(before=jobs[3].id, limit=2) == [2, 1]
        pages, before = [], None
        while page := await found(flow="odd", states=(FAILED, JobState.RUNNING), before=before, limit=1):
            pages += page
            before = jobs[page[-1]].id
        assert pages == [7, 5, 3, 1]
