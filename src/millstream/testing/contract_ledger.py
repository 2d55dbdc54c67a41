"""The suite every ledger passes: what `Ledger` promises in words, as tests.

Example:
    class TestSqliteLedger(LedgerContract):
        @asynccontextmanager
        async def open(self, clock):
            async with SqliteLedger(":memory:", clock) as ledger:
                yield ledger
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from millstream.clock import Clock, new_id
from millstream.errors import JobNotFoundError
from millstream.ledger.base import Claim, FencedError, Ledger, Settlement
from millstream.ledger.filter import Filter
from millstream.model.event import TERMINAL, Event
from millstream.model.failure import record_failure
from millstream.model.job import JobState, NodeState
from millstream.testing.clock import VirtualClock
from millstream.testing.contract_ledger_aliases import LedgerAliases
from millstream.testing.contract_ledger_finding import LedgerFinding
from millstream.testing.contract_ledger_sides import LedgerSides
from millstream.testing.contract_ledger_waits import LedgerWaits
from millstream.testing.ledger_doings import (
    CANCEL,
    CANCELLED,
    FAILED,
    ME,
    OTHER,
    SUCCEEDED,
    History,
    claimed,
    ended,
    fact,
    make_job,
    passing,
    record,
    submit,
)


class LedgerContract(LedgerWaits, LedgerAliases, LedgerFinding, LedgerSides):
    """Subclass it as `Test…` and override `open`; each test gets a ledger of its own."""

    def open(self, clock: Clock) -> AbstractAsyncContextManager[Ledger]:
        """Return a context manager that gives a fresh, empty ledger which goes by this clock."""
        raise NotImplementedError

    async def join(self, ledger: Ledger, process: str) -> None:
        """Let a process claim; for ledgers that give jobs to members only."""

    @pytest.fixture
    def clock(self) -> VirtualClock:
        """The clock that the ledger goes by."""
        return VirtualClock()

    @pytest.fixture
    async def ledger(self, clock: VirtualClock) -> AsyncIterator[Ledger]:
        """The ledger under test."""
        async with self.open(clock) as ledger:
            for process in (ME, OTHER):
                await self.join(ledger, process)
            yield ledger

    # ------------------------------------------------------------------------------------------------- submit
    async def test_a_submitted_job_is_there_as_it_was_handed_in(self, ledger: Ledger) -> None:
        job = make_job(inputs={"rows": [1, 2.5, None, True, "é"], "by": {"name": {"deep": []}}}, priority=3)
        recorded, claim = await submit(ledger, job, None)
        assert recorded == job
        assert claim is None
        assert await ledger.get(job.id) == job
        assert await ledger.events(job.id, 0, 10) == [Event(1, 0, "planned", 1.0, None, {"nodes": 2})]
        assert await ledger.node_results(job.id) == []

    async def test_submit_claims_in_the_same_breath(self, ledger: Ledger, clock: VirtualClock) -> None:
        job = make_job()
        recorded, claim = await submit(ledger, job, ME)
        running = replace(job, state=JobState.RUNNING, started_at=clock.now())
        assert claim == Claim(running, 1, 1, ME)
        assert recorded == await ledger.get(job.id) == running
        assert await ledger.claim(OTHER, 10) == []

    # -------------------------------------------------------------------------------------------------- claim
    async def test_the_higher_priority_is_claimed_first_then_the_older(self, ledger: Ledger) -> None:
        jobs = [make_job(priority=priority, created_at=10.0 + i) for i, priority in enumerate([0, 5, 0, 9, 5, 0])]
        for job in jobs:
            await submit(ledger, job, None)
        order = [jobs[i].id for i in (3, 1, 4, 0, 2, 5)]
        first = await ledger.claim(ME, 1)
        rest = await ledger.claim(ME, 4)
        last = await ledger.claim(ME, 10)
        assert [claim.job.id for claim in (*first, *rest, *last)] == order
        assert await ledger.claim(ME, 10) == []

    async def test_a_claim_makes_the_job_running(self, ledger: Ledger, clock: VirtualClock) -> None:
        job = make_job()
        await submit(ledger, job, None)
        await clock.advance(5)
        (claim,) = await ledger.claim(ME, 10)
        assert claim == Claim(replace(job, state=JobState.RUNNING, started_at=clock.now()), 1, 1, ME)
        assert await ledger.get(job.id) == claim.job

    async def test_no_two_claimers_get_the_same_job(self, ledger: Ledger) -> None:
        jobs = [make_job(priority=i % 3) for i in range(300)]
        for job in jobs:
            await submit(ledger, job, None)
        claims: list[Claim] = []
        claimers = [f"claimer-{number}" for number in range(32)]
        for claimer in claimers:
            await self.join(ledger, claimer)

        async def take_all(holder: str) -> None:
            while got := await ledger.claim(holder, 3):
                assert {claim.holder for claim in got} == {holder}
                claims.extend(got)
                await asyncio.sleep(0)

        async with anyio.create_task_group() as group:
            for claimer in claimers:
                group.start_soon(take_all, claimer)
        assert sorted(claim.job.id for claim in claims) == sorted(job.id for job in jobs)
        assert {claim.attempt for claim in claims} == {1}

    # ------------------------------------------------------------------------------------------------- record
    async def test_events_are_numbered_densely_from_the_submission_on(self, ledger: Ledger) -> None:
        claim = await claimed(ledger)
        assert await record(ledger, claim, fact("a"), fact("b")) == (2, [fact("a"), fact("b")])
        assert await record(ledger, claim, fact("c")) == (4, [fact("c")])
        events = await ledger.events(claim.job.id, 0, 10)
        assert [(event.seq, event.k, event.type) for event in events] == [
            (1, 0, "planned"), (2, 0, "a"), (3, 0, "b"), (4, 0, "c"),
        ]  # fmt: skip

    async def test_volatile_drafts_keep_their_place_and_are_not_recorded(self, ledger: Ledger) -> None:
        claim = await claimed(ledger)
        drafts = [passing("p"), fact("a"), passing("q"), passing("r"), fact("b"), passing("s")]
        assert await record(ledger, claim, *drafts) == (2, drafts)
        first, kept = await record(ledger, claim, passing("t"))
        assert (first, kept) == (4, [passing("t")])
        assert [event.type for event in await ledger.events(claim.job.id, 1, 10)] == ["a", "b"]

    async def test_the_ends_of_nodes_are_their_results(self, ledger: Ledger) -> None:
        claim, failure = await claimed(ledger), record_failure(ValueError("no rows"), "b")
        await record(
            ledger,
            claim,
            ended("a", value={"rows": [1]}),
            (True, "node_retried", 3.0, "b", {"attempt": 1, "error": failure, "delay": 0.0}),
            (True, "node_failed", 3.0, "b", {"attempt": 2, "error": failure}),
        )
        await record(
            ledger,
            claim,
            (True, "node_skipped", 3.0, "c", {"attempt": 1, "message": "not today"}),
            (True, "node_upstream_failed", 3.0, "d", None),
            (True, "node_cancelled", 3.0, "e[3]/f", None),
        )
        found = [(r.path, r.state, r.attempt, r.value) for r in await ledger.node_results(claim.job.id)]
        assert found == [
            ("a", NodeState.SUCCEEDED, 1, {"rows": [1]}),
            ("b", NodeState.FAILED, 2, None),
            ("c", NodeState.SKIPPED, 1, None),
            ("d", NodeState.UPSTREAM_FAILED, 0, None),
            ("e[3]/f", NodeState.CANCELLED, 0, None),
        ]
        (_, failed, *_) = await ledger.node_results(claim.job.id)
        assert failed.error == failure

    async def test_a_node_ends_once(self, ledger: Ledger) -> None:
        claim = await claimed(ledger)
        await record(ledger, claim, ended("a", value=1), ended("b", value=1))
        late = [ended("a", value=2), fact("x"), ended("c", value=3), ended("c", value=4)]
        assert await record(ledger, claim, *late) == (4, [fact("x"), ended("c", value=3)])
        assert await record(ledger, claim, (True, "node_failed", 3.0, "b", None)) == (6, [])
        results = {result.path: result.value for result in await ledger.node_results(claim.job.id)}
        assert results == {"a": 1, "b": 1, "c": 3}
        assert [event.seq for event in await ledger.events(claim.job.id, 0, 10)] == [1, 2, 3, 4, 5]

    @pytest.mark.parametrize(
        "stale",
        [{"holder": OTHER}, {"attempt": 2}, {"attempt": 0}],
        ids=["another holder", "a later attempt", "an earlier attempt"],
    )
    async def test_a_record_of_one_who_does_not_hold_the_job_is_refused(
        self, ledger: Ledger, stale: dict[str, Any]
    ) -> None:
        claim = await claimed(ledger)
        for end in (None, Settlement(SUCCEEDED, result=1)):
            with pytest.raises(FencedError):
                await record(ledger, replace(claim, **stale), ended("a", value=1), end=end)
        assert await ledger.get(claim.job.id) == claim.job
        assert len(await ledger.events(claim.job.id, 0, 10)) == 1
        assert await record(ledger, claim, fact("mine")) == (2, [fact("mine")])

    async def test_a_record_of_a_job_that_is_gone_is_refused(self, ledger: Ledger) -> None:
        claim = Claim(make_job(state=JobState.RUNNING), 1, 1, ME)
        with pytest.raises(FencedError):
            await record(ledger, claim, fact("a"))

    # ------------------------------------------------------------------------------------------------- settle
    @pytest.mark.parametrize(
        "end",
        [
            Settlement(SUCCEEDED, result={"rows": [1, None]}),
            Settlement(FAILED, "error", error=record_failure(ValueError("no"), "a")),
            Settlement(FAILED, "timeout"),
            Settlement(CANCELLED, "cancel"),
        ],
        ids=lambda end: f"{end.state}-{end.reason}",
    )
    async def test_the_end_is_recorded_with_all_that_belongs_to_it(
        self, ledger: Ledger, clock: VirtualClock, end: Settlement
    ) -> None:
        claim = await claimed(ledger)
        await clock.advance(5)
        first, kept = await record(ledger, claim, ended("a", value=1), passing("p"), end=end)
        terminal = (True, TERMINAL, clock.now(), None, {"state": end.state.value, "reason": end.reason})
        assert (first, kept) == (2, [ended("a", value=1), passing("p"), terminal])
        assert await ledger.get(claim.job.id) == replace(
            claim.job, state=end.state, reason=end.reason, result=end.result, error=end.error, ended_at=clock.now()
        )
        events = await ledger.events(claim.job.id, 2, 10)
        assert events == [Event(3, 0, TERMINAL, clock.now(), None, {"state": end.state.value, "reason": end.reason})]

    async def test_after_the_end_nothing_is_recorded(self, ledger: Ledger) -> None:
        claim = await claimed(ledger)
        await record(ledger, claim, end=Settlement(SUCCEEDED, result=1))
        job, events = await ledger.get(claim.job.id), await ledger.events(claim.job.id, 0, 10)
        for end in (None, Settlement(FAILED, "error"), Settlement(SUCCEEDED, result=2)):
            with pytest.raises(FencedError):
                await record(ledger, claim, ended("late", value=1), passing("p"), end=end)
        assert await ledger.get(claim.job.id) == job
        assert await ledger.events(claim.job.id, 0, 10) == events
        assert await ledger.claim(OTHER, 10) == []

    # ------------------------------------------------------------------------------------------------- cancel
    async def test_a_queued_job_is_cancelled_at_once_and_never_claimed(
        self, ledger: Ledger, clock: VirtualClock
    ) -> None:
        job = make_job()
        await submit(ledger, job, None)
        cancelled, first = await ledger.cancel(job.id, [CANCEL])
        assert first == 2
        assert cancelled == await ledger.get(job.id)
        assert (cancelled.state, cancelled.reason, cancelled.cancel_requested) == (CANCELLED, "cancel", True)
        assert (cancelled.started_at, cancelled.ended_at) == (None, clock.now())
        assert await ledger.events(job.id, 1, 10) == [Event(2, 0, *CANCEL[1:])]
        assert await ledger.claim(ME, 10) == []

    async def test_a_job_that_is_held_is_only_asked_to_stop(self, ledger: Ledger) -> None:
        claim = await claimed(ledger)
        asked, first = await ledger.cancel(claim.job.id, [CANCEL])
        assert (asked, first) == (replace(claim.job, cancel_requested=True), None)
        assert await ledger.get(claim.job.id) == asked
        assert len(await ledger.events(claim.job.id, 0, 10)) == 1
        await record(ledger, claim, end=Settlement(SUCCEEDED, result=1))
        assert (await ledger.get(claim.job.id)).state is SUCCEEDED

    async def test_a_job_that_has_ended_is_not_changed_by_a_cancel(self, ledger: Ledger) -> None:
        claim = await claimed(ledger)
        await record(ledger, claim, end=Settlement(FAILED, "error"))
        job = await ledger.get(claim.job.id)
        assert await ledger.cancel(claim.job.id, [CANCEL]) == (job, None)
        assert await ledger.get(claim.job.id) == job
        assert len(await ledger.events(claim.job.id, 0, 10)) == 2

    async def test_of_many_cancels_one_counts(self, ledger: Ledger) -> None:
        job = make_job()
        await submit(ledger, job, None)
        answers = await asyncio.gather(*(ledger.cancel(job.id, [CANCEL]) for _ in range(50)))
        assert sorted(first or 0 for _, first in answers) == [0] * 49 + [2]
        assert {answer.state for answer, _ in answers} == {CANCELLED}
        assert len(await ledger.events(job.id, 0, 100)) == 2

    # ------------------------------------------------------------------------------------------------ reading
    async def test_an_unknown_job_is_an_error(self, ledger: Ledger) -> None:
        unknown = new_id()
        for reading in (
            ledger.get(unknown),
            ledger.cancel(unknown, [CANCEL]),
            ledger.node_results(unknown),
            ledger.events(unknown, 0, 10),
        ):
            with pytest.raises(JobNotFoundError, match=unknown):
                await reading

    async def test_pages_of_events_together_are_all_events(self, ledger: Ledger) -> None:
        claim = await claimed(ledger)
        drafts = [fact(f"e{i}", node=f"n{i}", data={"i": [i]}) for i in range(25)]
        await record(ledger, claim, *drafts, end=Settlement(SUCCEEDED))
        everything = await ledger.events(claim.job.id, 0, 1000)
        assert [event.seq for event in everything] == list(range(1, 28))
        assert everything[1:26] == [Event(i + 2, 0, *draft[1:]) for i, draft in enumerate(drafts)]
        for size in (1, 4, 27, 100):
            pages, after = [], 0
            while page := await ledger.events(claim.job.id, after, size):
                assert len(page) <= size
                pages.extend(page)
                after = page[-1].seq
            assert pages == everything
        assert await ledger.events(claim.job.id, 100, 10) == []

    # ------------------------------------------------------------------------------------------------- forget
    async def test_jobs_that_have_ended_are_forgotten_and_no_others(self, ledger: Ledger) -> None:
        claims = [await claimed(ledger) for _ in range(3)]
        queued = make_job()
        await submit(ledger, queued, None)
        for claim in claims[:2]:
            await record(ledger, claim, ended("a", value=1), end=Settlement(SUCCEEDED))
        everything = [*(claim.job.id for claim in claims), queued.id, new_id()]
        gone = [claim.job.id for claim in claims[:2]]
        assert sorted(await ledger.forget(everything)) == gone
        assert [job.id for job in await ledger.find(Filter())] == [queued.id, claims[2].job.id]
        for job_id in gone:
            for reading in (ledger.get(job_id), ledger.events(job_id, 0, 10), ledger.graph(job_id)):
                with pytest.raises(JobNotFoundError):
                    await reading
        with pytest.raises(FencedError):
            await record(ledger, claims[0], fact("late"))
        assert await ledger.forget(everything) == []

    async def test_the_key_of_a_forgotten_job_is_free_again(self, ledger: Ledger) -> None:
        claim = await claimed(ledger, idempotency_key="k")
        await record(ledger, claim, end=Settlement(SUCCEEDED))
        await ledger.forget([claim.job.id])
        job = make_job(idempotency_key="k", inputs={"other": True})
        assert await submit(ledger, job, None) == (job, None)

    # ------------------------------------------------------------------------------------------------- always
    @pytest.mark.parametrize("seed", range(12))
    async def test_whatever_happens_a_final_state_stays_and_events_only_grow(self, ledger: Ledger, seed: int) -> None:
        history = History(ledger, random.Random(seed))  # noqa: S311  no secrets are made of it
        for _ in range(24):
            for _ in range(5):
                await history.step()
            await history.check()
