"""The ledger in memory: for one process, lost with it. Also the model that the contract suite was written on."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any

from msgspec.structs import replace

from millstream.clock import Clock
from millstream.errors import JobNotFoundError
from millstream.ledger.base import (
    ENDS,
    Claim,
    FencedError,
    Filter,
    IdempotencyConflictError,
    Recorded,
    Settlement,
    node_result,
)
from millstream.model.event import TERMINAL, Draft, Event
from millstream.model.job import JobRecord, JobState, NodeResult, check_transition

KEPT_EVENTS = 200_000
"""Events of ended jobs that are kept, whatever their number: about 50 MB where results are small."""

_KEPT_JOBS = 100
"""Ended jobs that are kept however many events they have."""


class _Row:
    """One job with all that belongs to it."""

    __slots__ = ("attempt", "ended", "events", "holder", "job")

    def __init__(self, job: JobRecord) -> None:
        self.job = job
        self.holder: str | None = None
        self.attempt = 0
        self.events: list[Draft] = []
        self.ended: set[str | None] = set()


class MemoryLedger:
    """Keeps everything in this process; see `Ledger` for what its methods promise.

    Args:
        clock: Gives the times of claims and ends.
    """

    def __init__(self, clock: Clock) -> None:
        """Start empty."""
        self._clock = clock
        self._rows: dict[str, _Row] = {}
        self._queue: list[tuple[int, str]] = []
        self._keys: dict[str, str] = {}
        self._finished: dict[str, int] = {}
        self._finished_events = 0

    async def submit(
        self, job: JobRecord, drafts: Sequence[Draft], claim_for: str | None
    ) -> tuple[JobRecord, Claim | None]:
        """Record a new job; see `Ledger.submit`."""
        if job.idempotency_key is not None:
            known = self._keys.get(job.idempotency_key)
            if known is not None:
                return _same(self._rows[known].job, job), None
            self._keys[job.idempotency_key] = job.id
        row = self._rows[job.id] = _Row(job)
        row.events.extend(drafts)
        if claim_for is None:
            heappush(self._queue, (-job.priority, job.id))
            return job, None
        claim = self._hold(row, claim_for)
        return row.job, claim

    async def claim(self, holder: str, limit: int) -> list[Claim]:
        """Claim queued jobs; see `Ledger.claim`."""
        claims: list[Claim] = []
        while self._queue and len(claims) < limit:
            row = self._rows.get(heappop(self._queue)[1])
            if row is not None and row.job.state is JobState.QUEUED:
                claims.append(self._hold(row, holder))
        return claims

    def _hold(self, row: _Row, holder: str) -> Claim:
        check_transition(row.job.state, JobState.RUNNING)
        row.job = replace(row.job, state=JobState.RUNNING, started_at=row.job.started_at or self._clock.now())
        row.holder = holder
        row.attempt += 1
        return Claim(row.job, 1, row.attempt, holder)

    def record(self, claim: Claim, drafts: Sequence[Draft], end: Settlement | None, done: Recorded) -> None:
        """Record what happened; see `Ledger.record`."""
        row = self._rows.get(claim.job.id)
        if row is None or row.job.state.is_final or (row.holder, row.attempt) != (claim.holder, claim.attempt):
            done(FencedError(f"job {claim.job.id} is no longer held by {claim.holder} (attempt {claim.attempt})"), ())
            return
        first = len(row.events) + 1
        kept = _without_repeated_ends(row.ended, drafts)
        if end is not None:
            kept.append((True, TERMINAL, self._clock.now(), None, {"state": end.state.value, "reason": end.reason}))
        row.events.extend(draft for draft in kept if draft[0])
        if end is not None:
            self._settle(row, end)
        done(first, kept)

    def _settle(self, row: _Row, end: Settlement) -> None:
        check_transition(row.job.state, end.state)
        row.holder = None
        row.job = replace(
            row.job,
            state=end.state,
            reason=end.reason,
            result=end.result,
            error=end.error,
            ended_at=self._clock.now(),
        )
        row.ended.clear()
        self._finished[row.job.id] = len(row.events)
        self._finished_events += len(row.events)

    async def cancel(self, job_id: str, drafts: Sequence[Draft]) -> tuple[JobRecord, int | None]:
        """Ask to stop a job; see `Ledger.cancel`."""
        row = self._row(job_id)
        if row.job.state.is_final:
            return row.job, None
        row.job = replace(row.job, cancel_requested=True)
        if row.holder is not None:
            return row.job, None
        row.events.extend(drafts)
        self._settle(row, Settlement(JobState.CANCELLED, "cancel"))
        return row.job, len(row.events) - len(drafts) + 1

    async def get(self, job_id: str) -> JobRecord:
        """Return a job; see `Ledger.get`."""
        return self._row(job_id).job

    async def find(self, which: Filter) -> list[JobRecord]:
        """Return jobs; see `Ledger.find`."""
        found: list[JobRecord] = []
        for row in reversed(self._rows.values()):
            if len(found) >= which.limit:
                break
            if (not which.states or row.job.state in which.states) and which.flow in (None, row.job.flow):
                found.append(row.job)
        return found

    async def node_results(self, job_id: str) -> list[NodeResult]:
        """Return how nodes ended; see `Ledger.node_results`."""
        return [
            node_result(ENDS[kind], path or "", data)
            for _, kind, _, path, data in self._row(job_id).events
            if kind in ENDS
        ]

    async def trim(self, keep: int) -> list[str]:
        """Forget old jobs; see `Ledger.trim`."""
        forgotten = []
        while len(self._finished) > min(keep, _KEPT_JOBS) and (
            len(self._finished) > keep or self._finished_events > KEPT_EVENTS
        ):
            job_id = next(iter(self._finished))
            self._finished_events -= self._finished.pop(job_id)
            key = self._rows.pop(job_id).job.idempotency_key
            if key is not None:
                del self._keys[key]
            forgotten.append(job_id)
        return forgotten

    async def events(self, job_id: str, after: int, limit: int) -> list[Event]:
        """Return durable events; see `Ledger.events`."""
        rows = self._row(job_id).events[after : after + limit]
        return [Event(after + i, 0, kind, at, node, data) for i, (_, kind, at, node, data) in enumerate(rows, 1)]

    def _row(self, job_id: str) -> _Row:
        try:
            return self._rows[job_id]
        except KeyError:
            raise JobNotFoundError(f"there is no job {job_id!r}") from None


def _without_repeated_ends(ended: set[str | None], drafts: Sequence[Draft]) -> list[Draft]:
    """Leave out the ends of nodes that have ended, and add the others to `ended`; nearly always there is none."""
    paths = [draft[3] for draft in drafts if draft[1] in ENDS]
    fresh = set(paths)
    if len(fresh) == len(paths) and ended.isdisjoint(fresh):
        ended |= fresh
        return list(drafts)
    kept = []
    for draft in drafts:
        if draft[1] in ENDS:
            if draft[3] in ended:
                continue
            ended.add(draft[3])
        kept.append(draft)
    return kept


def _same(known: JobRecord, job: JobRecord) -> JobRecord:
    """Return the job that has the key already, if it was made by the same submission."""
    mine: tuple[Any, ...] = (job.flow, job.inputs)
    if (known.flow, known.inputs) != mine:
        raise IdempotencyConflictError(
            f"the idempotency key {job.idempotency_key!r} belongs to job {known.id}, with another flow or other inputs"
        )
    return known
