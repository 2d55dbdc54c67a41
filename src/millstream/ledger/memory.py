"""The ledger in memory: for one process, lost with it. Also the model that the contract suite was written on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
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
    JobGraph,
    Pause,
    Recorded,
    Settlement,
    alias_conflict,
    awaited,
    node_result,
)
from millstream.model.event import TERMINAL, Draft, Event
from millstream.model.job import JobRecord, JobState, NodeResult, check_transition

KEPT_EVENTS = 200_000
"""Events of ended jobs that are kept, whatever their number: about 50 MB where results are small."""

KEPT_JOBS = 10_000
"""Ended jobs that are kept."""

_KEPT_WHATEVER = 100
"""Ended jobs that are kept however many events they have."""


class _Row:
    """One job with all that belongs to it."""

    __slots__ = ("attempt", "ended", "events", "graph", "holder", "is_due", "job")

    def __init__(self, job: JobRecord, graph: JobGraph) -> None:
        self.job = job
        self.graph = graph
        self.holder: str | None = None
        self.attempt = 0
        self.is_due = False
        self.events: list[Draft] = []
        self.ended: set[str | None] = set()


class MemoryLedger:
    """Keeps everything in this process; see `Ledger` for what its methods promise.

    Args:
        clock: Gives the times of claims and ends.
        kept_jobs: Ended jobs that are kept, so that a process which runs for months does not grow.
    """

    def __init__(self, clock: Clock, kept_jobs: int = KEPT_JOBS) -> None:
        """Start empty."""
        self._clock = clock
        self._kept_jobs = kept_jobs
        self._rows: dict[str, _Row] = {}
        self._queue: list[tuple[int, str]] = []
        self._timers: list[tuple[float, str]] = []
        self._keys: dict[str, str] = {}
        self._aliases: dict[str, tuple[str, str]] = {}
        self._finished: dict[str, int] = {}
        self._finished_events = 0

    def __contains__(self, job_id: str) -> bool:
        """Whether this job is here."""
        return job_id in self._rows

    def seal(self, job: JobRecord, data: dict[str, Any]) -> Any:  # noqa: ARG002  values stay as they are
        """Return the data as it is; see `Ledger.seal`."""
        return data

    # ------------------------------------------------------------------------------------- handing in and claiming
    async def submit(
        self, job: JobRecord, graph: JobGraph, drafts: Sequence[Draft], claim_for: str | None
    ) -> tuple[JobRecord, Claim | None]:
        """Record a new job; see `Ledger.submit`."""
        if job.idempotency_key is not None:
            known = self._keys.get(job.idempotency_key)
            if known is not None:
                return _same(self._rows[known].job, job), None
        for name in graph.aliases:
            if name in self._aliases:
                raise alias_conflict(name, self._aliases[name][0])
        if job.idempotency_key is not None:
            self._keys[job.idempotency_key] = job.id
        for name, node in graph.aliases.items():
            self._aliases[name] = job.id, node
        row = self._rows[job.id] = _Row(job, graph)
        row.events.extend(drafts)
        row.ended.update(draft[3] for draft in drafts if draft[1] in ENDS)
        if job.state is JobState.SCHEDULED:
            heappush(self._timers, (job.starts_at or 0.0, job.id))
        elif claim_for is not None:
            claim = self._hold(row, claim_for)
            return row.job, claim
        else:
            self._enqueue(row)
        return job, None

    async def claim(self, holder: str, limit: int, flows: Collection[str] | None = None) -> list[Claim]:
        """Claim what may start; see `Ledger.claim`."""
        while self._timers and self._timers[0][0] <= self._clock.now():
            row = self._rows.get(heappop(self._timers)[1])
            if row is not None and row.holder is None and not row.job.state.is_final and not row.is_due:
                self._enqueue(row)
        claims: list[Claim] = []
        passed = []
        while self._queue and len(claims) < limit:
            entry = heappop(self._queue)
            row = self._rows.get(entry[1])
            if row is None or not row.is_due:
                continue
            if flows is not None and row.job.flow not in flows:
                passed.append(entry)
                continue
            claims.append(self._hold(row, holder))
        for entry in passed:
            heappush(self._queue, entry)
        return claims

    def _enqueue(self, row: _Row) -> None:
        row.is_due = True
        heappush(self._queue, (-row.job.priority, row.job.id))

    def _hold(self, row: _Row, holder: str) -> Claim:
        check_transition(row.job.state, JobState.RUNNING)
        started_at = row.job.started_at or self._clock.now()
        row.job = replace(row.job, state=JobState.RUNNING, reason=None, started_at=started_at)
        row.holder = holder
        row.attempt += 1
        row.is_due = False
        return Claim(row.job, 1, row.attempt, holder, len(row.events))

    async def graph(self, job_id: str) -> JobGraph:
        """Return what a job executes; see `Ledger.graph`."""
        return self._row(job_id).graph

    async def due_at(self, flows: Collection[str] | None = None) -> float | None:
        """Return when the next timer is over; see `Ledger.due_at`."""
        waiting = (JobState.SCHEDULED, JobState.WAITING)
        while self._timers:
            row = self._rows.get(self._timers[0][1])
            if row is not None and row.job.state in waiting and (flows is None or row.job.flow in flows):
                return self._timers[0][0]
            heappop(self._timers)
        return None

    # ---------------------------------------------------------------------------------------------------- recording
    def record(self, claim: Claim, drafts: Sequence[Draft], end: Settlement | Pause | None, done: Recorded) -> None:
        """Record what happened; see `Ledger.record`."""
        row = self._rows.get(claim.job.id)
        if row is None or row.job.state.is_final or (row.holder, row.attempt) != (claim.holder, claim.attempt):
            done(FencedError(f"job {claim.job.id} is no longer held by {claim.holder} (attempt {claim.attempt})"), ())
            return
        first = len(row.events) + 1
        kept = _without_repeated_ends(row.ended, drafts)
        if isinstance(end, Settlement):
            kept.append((True, TERMINAL, self._clock.now(), None, {"state": end.state.value, "reason": end.reason}))
        row.events.extend(draft for draft in kept if draft[0])
        if isinstance(end, Settlement):
            self._settle(row, end)
        elif end is not None:
            self._pause(row, end, has_news=first > end.seen + 1)
        done(first, kept)

    def _pause(self, row: _Row, pause: Pause, *, has_news: bool) -> None:
        row.holder = None
        is_due = has_news or row.job.cancel_requested or pause.reason == "shutdown"
        row.job = replace(row.job, state=JobState.QUEUED if is_due else JobState.WAITING, reason=pause.reason)
        if is_due:
            self._enqueue(row)
        elif pause.until is not None:
            heappush(self._timers, (pause.until, row.job.id))

    def _settle(self, row: _Row, end: Settlement) -> None:
        check_transition(row.job.state, end.state)
        row.holder = None
        row.is_due = False
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

    async def answer(self, job_id: str, node: str, drafts: Sequence[Draft]) -> int | None:
        """Record an answer; see `Ledger.answer`."""
        row = self._row(job_id)
        if row.job.state.is_final or awaited(((d[1], d[3], d[4]) for d in row.events), node) is None:
            return None
        first = len(row.events) + 1
        row.events.extend(drafts)
        if row.holder is None and not row.is_due:
            row.job = replace(row.job, state=JobState.QUEUED, reason=None)
            self._enqueue(row)
        return first

    # ------------------------------------------------------------------------------------------------------ reading
    async def get(self, job_id: str) -> JobRecord:
        """Return a job; see `Ledger.get`."""
        return self._row(job_id).job

    async def find(self, which: Filter) -> list[JobRecord]:
        """Return jobs; see `Ledger.find`."""
        found: list[JobRecord] = []
        for row in reversed(self._rows.values()):
            if len(found) >= which.limit:
                break
            if which.takes(row.job):
                found.append(row.job)
        return found

    async def node_results(self, job_id: str) -> list[NodeResult]:
        """Return how nodes ended; see `Ledger.node_results`."""
        return [
            node_result(ENDS[kind], path or "", data)
            for _, kind, _, path, data in self._row(job_id).events
            if kind in ENDS
        ]

    async def node_result(self, job_id: str, path: str) -> NodeResult | None:
        """Return how one node ended; see `Ledger.node_result`."""
        for _, kind, _, node, data in self._row(job_id).events:
            if node == path and kind in ENDS:
                return node_result(ENDS[kind], path, data)
        return None

    async def alias(self, name: str) -> tuple[str, str] | None:
        """Return what an alias stands for; see `Ledger.alias`."""
        return self._aliases.get(name)

    async def events(self, job_id: str, after: int, limit: int) -> list[Event]:
        """Return durable events; see `Ledger.events`."""
        rows = self._row(job_id).events[after : after + limit]
        return [Event(after + i, 0, kind, at, node, data) for i, (_, kind, at, node, data) in enumerate(rows, 1)]

    async def history(self, job_id: str) -> list[Event]:
        """Return all durable events; see `Ledger.history`."""
        return await self.events(job_id, 0, len(self._row(job_id).events))

    # --------------------------------------------------------------------------------------------------- forgetting
    async def trim(self) -> list[str]:
        """Forget old jobs, beyond the number or the events that are kept; see `Ledger.trim`."""
        keep = self._kept_jobs
        forgotten = []
        while len(self._finished) > min(keep, _KEPT_WHATEVER) and (
            len(self._finished) > keep or self._finished_events > KEPT_EVENTS
        ):
            job_id = next(iter(self._finished))
            self._drop(job_id)
            forgotten.append(job_id)
        return forgotten

    async def forget(self, job_ids: Collection[str]) -> list[str]:
        """Forget ended jobs; see `Ledger.forget`."""
        forgotten = [job_id for job_id in job_ids if job_id in self._finished]
        for job_id in forgotten:
            self._drop(job_id)
        return forgotten

    def _drop(self, job_id: str) -> None:
        self._finished_events -= self._finished.pop(job_id)
        row = self._rows.pop(job_id)
        if row.job.idempotency_key is not None:
            del self._keys[row.job.idempotency_key]
        for name in row.graph.aliases:
            del self._aliases[name]

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
