"""The part of the suite of ledgers about finding jobs: by state, flow and owner, page by page, in either order."""

from __future__ import annotations

from typing import Any

import pytest

from millstream.ledger.base import IdempotencyConflictError, Ledger, Settlement
from millstream.ledger.filter import Filter
from millstream.model.job import JobRecord, JobState
from millstream.testing.ledger_doings import ME, SUCCEEDED, make_job, record, submit

QUEUED, RUNNING = JobState.QUEUED, JobState.RUNNING


class LedgerFinding:
    """See `LedgerContract`."""

    @pytest.fixture
    async def jobs(self, ledger: Ledger) -> list[JobRecord]:
        """Six jobs: of two flows, Ada's and nobody's and Bob's, four queued, one running, one that succeeded."""
        owners = ("ada", None, "bob", "ada", "ada", "bob")
        jobs = [
            make_job(flow="even" if i % 2 == 0 else "odd", created_at=100.0 + i, owner=owner)
            for i, owner in enumerate(owners)
        ]
        for job in jobs[:4]:
            await submit(ledger, job, None)
        await submit(ledger, jobs[4], ME)
        _, claim = await submit(ledger, jobs[5], ME)
        assert claim is not None
        await record(ledger, claim, end=Settlement(SUCCEEDED))
        return jobs

    async def test_jobs_are_found_by_state_and_flow_the_newest_first(
        self, ledger: Ledger, jobs: list[JobRecord]
    ) -> None:
        assert await found(ledger, jobs) == [5, 4, 3, 2, 1, 0]
        assert await found(ledger, jobs, limit=2) == [5, 4]
        assert await found(ledger, jobs, flow="odd") == [5, 3, 1]
        assert await found(ledger, jobs, states=(QUEUED,)) == [3, 2, 1, 0]
        assert await found(ledger, jobs, states=(RUNNING, SUCCEEDED)) == [5, 4]
        assert await found(ledger, jobs, states=(QUEUED,), flow="even", limit=1) == [2]
        assert await found(ledger, jobs, flow="none") == []
        assert await found(ledger, jobs, limit=0) == []

    async def test_an_owner_finds_ones_own_jobs(self, ledger: Ledger, jobs: list[JobRecord]) -> None:
        assert [(await ledger.get(job.id)).owner for job in jobs] == [job.owner for job in jobs]
        assert await found(ledger, jobs, owner="ada") == [4, 3, 0]
        assert await found(ledger, jobs, owner="ada", limit=2) == [4, 3]
        assert await found(ledger, jobs, owner="bob", states=(SUCCEEDED, QUEUED)) == [5, 2]
        assert await found(ledger, jobs, owner="ada", flow="even", oldest_first=True) == [0, 4]
        assert await found(ledger, jobs, owner="ada", created_after=103.0) == [4, 3]
        assert await found(ledger, jobs, owner="nobody") == []

    async def test_pages_in_either_order_are_all_jobs(self, ledger: Ledger, jobs: list[JobRecord]) -> None:
        assert await found(ledger, jobs, oldest_first=True) == [0, 1, 2, 3, 4, 5]
        assert await found(ledger, jobs, oldest_first=True, limit=2, after=jobs[1].id) == [2, 3]
        assert await found(ledger, jobs, limit=2, before=jobs[4].id) == [3, 2]
        assert await found(ledger, jobs, after=jobs[1].id, before=jobs[4].id) == [3, 2]
        assert await found(ledger, jobs, owner="ada", oldest_first=True, after=jobs[0].id, limit=1) == [3]
        assert await found(ledger, jobs, states=(QUEUED, RUNNING), oldest_first=True, after=jobs[2].id) == [3, 4]
        assert await found(ledger, jobs, oldest_first=True, after=jobs[5].id) == []

    async def test_what_no_job_can_have_finds_none(self, ledger: Ledger, jobs: list[JobRecord]) -> None:
        for text in ("\0", "a\0", "\ud800"):
            assert await found(ledger, jobs, flow=text) == await found(ledger, jobs, owner=text) == []
            await found(ledger, jobs, before=text)
            await found(ledger, jobs, after=text)

    async def test_a_key_of_another_owner_is_refused_without_a_word_about_that_job(self, ledger: Ledger) -> None:
        first = make_job(idempotency_key="k", owner="ada")
        await submit(ledger, first, None)
        for other in ("bob", None):
            with pytest.raises(IdempotencyConflictError) as refused:
                await submit(ledger, make_job(idempotency_key="k", owner=other), ME)
            assert first.id not in str(refused.value)
        assert (await submit(ledger, make_job(idempotency_key="k", owner="ada"), ME))[0] == first


async def found(ledger: Ledger, jobs: list[JobRecord], **which: Any) -> list[int]:
    """Return which of these jobs are found, by their numbers."""
    known = [job.id for job in jobs]
    return [known.index(job.id) for job in await ledger.find(Filter(**which))]
