"""The ledger in memory: for one process, lost with it. Also the model that the contract suite was written on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from heapq import heappop, heappush
from typing import Any

from msgspec.structs import replace

from millstream.clock import Clock
from millstream.errors import JobNotFoundError
from millstream.ledger.aliases import alias_conflict, key_conflict
from millstream.ledger.base import (
    MAIN,
    Claim,
    Done,
    End,
    JobGraph,
    Recorded,
    RefusedRecordError,
    Settlement,
)
from millstream.ledger.facts import ENDS, awaited, no_event, node_result
from millstream.ledger.fence import fenced
from millstream.ledger.filter import Filter
from millstream.ledger.remembered import Remembered
from millstream.ledger.standing import Part
from millstream.model.event import TERMINAL, Draft, Event
from millstream.model.job import JobRecord, JobState, NodeResult, check_transition

KEPT_EVENTS = 200_000
"""Events of ended jobs that are kept, whatever their number: about 50 MB where results are small."""

KEPT_JOBS = 10_000
"""Ended jobs that are kept."""

_KEPT_WHATEVER = 100
"""Ended jobs that are kept however many events they have."""


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
        self._rows: dict[str, Remembered] = {}
        self._queue: list[tuple[int, str, int]] = []
        self._timers: list[tuple[float, str, int]] = []
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
        row = self._rows[job.id] = Remembered(job, graph, drafts)
        if job.state is not JobState.SCHEDULED and claim_for is not None:
            row.standing.segments[MAIN] = Part("queued", 0, None)
            claim = self._hold(row, MAIN, claim_for)
            return row.job, claim
        if job.state is JobState.SCHEDULED:
            row.standing.begin("waiting", job.starts_at or 0.0)
        else:
            row.standing.begin("queued")
        self._move(row)
        return job, None

    async def claim(
        self,
        holder: str,
        limit: int,
        flows: Collection[str] | None = None,
        queues: Collection[str | None] | None = None,
        sides: int | None = None,
    ) -> list[Claim]:
        """Claim what may start; see `Ledger.claim`."""
        while self._timers and self._timers[0][0] <= self._clock.now():
            due = heappop(self._timers)
            if self._is_waiting(due):
                self._enqueue(self._rows[due[1]], due[2])
        claims: list[Claim] = []
        passed = []
        while self._queue and len(claims) < limit:
            entry = heappop(self._queue)
            _, job_id, segment = entry
            row = self._rows.get(job_id)
            if row is None or row.standing.segments[segment].state != "queued":
                continue
            is_surplus = segment != MAIN and sides is not None and sides <= 0
            if is_surplus or not row.is_wanted(segment, flows, queues):
                passed.append(entry)
                continue
            claims.append(self._hold(row, segment, holder))
            sides = sides - 1 if sides is not None and segment != MAIN else sides
        for entry in passed:
            heappush(self._queue, entry)
        return claims

    def _is_waiting(self, timer: tuple[float, str, int]) -> bool:
        """Whether the segment of a timer waits for it; else the timer is an old one."""
        at, job_id, segment = timer
        row = self._rows.get(job_id)
        part = None if row is None else row.standing.segments[segment]
        return part is not None and part.state == "waiting" and part.ready_at == at

    def _enqueue(self, row: Remembered, segment: int) -> None:
        row.standing.segments[segment].state = "queued"
        heappush(self._queue, (-row.job.priority, row.job.id, segment))

    def _hold(self, row: Remembered, segment: int, holder: str) -> Claim:
        if segment == MAIN:
            if row.job.state is not JobState.RUNNING:  # it stays so while it waits for side segments
                check_transition(row.job.state, JobState.RUNNING)
            started_at = row.job.started_at or self._clock.now()
            row.job = replace(row.job, state=JobState.RUNNING, reason=None, started_at=started_at)
            row.standing.state, row.standing.reason = JobState.RUNNING, None
        part = row.standing.segments[segment]
        part.state, part.holder = "running", holder
        part.attempt += 1
        order = None if segment == MAIN else row.ordered[segment][0]
        return Claim(row.job, segment, part.attempt, holder, len(row.events), order=order, queue=row.queue(segment))

    def _move(self, row: Remembered) -> None:
        """Do what follows from where a job and its segments stand now."""
        standing = row.standing
        if standing.is_moved:
            standing.is_moved = False
            state = JobState(standing.state)
            row.job = replace(row.job, state=state, reason=standing.reason, cancel_requested=standing.cancel)
        if not standing.has_moved_parts:
            return
        standing.has_moved_parts = False
        for segment, part in standing.segments.items():
            if part.is_moved:
                part.is_moved = False
                if part.state == "queued":
                    self._enqueue(row, segment)
                elif part.state == "waiting" and part.ready_at is not None:
                    heappush(self._timers, (part.ready_at, row.job.id, segment))

    async def graph(self, job_id: str) -> JobGraph:
        """Return what a job executes; see `Ledger.graph`."""
        return self._row(job_id).graph

    async def due_at(
        self, flows: Collection[str] | None = None, queues: Collection[str | None] | None = None
    ) -> float | None:
        """Return when the next timer is over; see `Ledger.due_at`."""
        while self._timers and not self._is_waiting(self._timers[0]):
            heappop(self._timers)
        if flows is None and queues is None:
            return self._timers[0][0] if self._timers else None
        waiting = filter(self._is_waiting, self._timers)
        return min(
            (at for at, job_id, part in waiting if self._rows[job_id].is_wanted(part, flows, queues)), default=None
        )

    # ---------------------------------------------------------------------------------------------------- recording
    def record(self, claim: Claim, drafts: Sequence[Draft], end: End | None, done: Recorded) -> None:
        """Record what happened; see `Ledger.record`."""
        row = self._rows.get(claim.job.id)
        part = None if row is None else row.standing.segments.get(claim.segment)
        if row is None or part is None or (part.holder, part.attempt) != (claim.holder, claim.attempt):
            done(fenced(claim), ())
            return
        first = len(row.events) + 1
        if claim.segment == MAIN:
            try:
                row.move_sides(drafts)
            except ValueError as error:
                done(RefusedRecordError(f"a record of job {claim.job.id} cannot be written: {error}"), ())
                return
        kept = row.take(drafts)
        if isinstance(end, Settlement):
            kept.append((True, TERMINAL, self._clock.now(), None, {"state": end.state.value, "reason": end.reason}))
        row.events.extend(draft for draft in kept if draft[0])
        if isinstance(end, Settlement):
            self._settle(row, end)
        elif isinstance(end, Done):
            row.standing.end_side(part, cancels=end.cancels)
        elif end is not None and claim.segment == MAIN:
            row.standing.pause(part, end, has_news=first > end.seen + 1)
        elif end is not None:
            is_answered = any(draft[1] == "answered" for draft in row.events[end.seen :])
            row.standing.pause_side(part, end, has_news=is_answered)
        self._move(row)
        done(first, kept)

    def _settle(self, row: Remembered, end: Settlement) -> None:
        row.standing.settle(end.state, end.reason, self._clock.now())
        self._move(row)
        row.job = replace(row.job, result=end.result, error=end.error, ended_at=row.standing.ended_at)
        row.ended.clear()
        self._finished[row.job.id] = len(row.events)
        self._finished_events += len(row.events)

    async def cancel(self, job_id: str, drafts: Sequence[Draft]) -> tuple[JobRecord, int | None]:
        """Ask to stop a job; see `Ledger.cancel`."""
        row = self._row(job_id)
        if row.job.state.is_final:
            return row.job, None
        standing = row.standing
        if standing.is_held:
            standing.ask_to_stop()
            self._move(row)
            return row.job, None
        standing.cancel = True
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
        row.standing.wake()
        self._move(row)
        return first

    # ------------------------------------------------------------------------------------------------------ reading
    async def get(self, job_id: str) -> JobRecord:
        """Return a job; see `Ledger.get`."""
        return self._row(job_id).job

    async def find(self, which: Filter) -> list[JobRecord]:
        """Return jobs; see `Ledger.find`."""
        found: list[JobRecord] = []
        for row in self._rows.values() if which.oldest_first else reversed(self._rows.values()):
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

    async def event(self, job_id: str, seq: int) -> Event:
        """Return one durable event; see `Ledger.event`."""
        for event in await self.events(job_id, seq - 1, 1) if seq > 0 else ():
            return event
        raise no_event(job_id, seq)

    async def history(self, job_id: str, after: int = 0) -> list[Event]:
        """Return durable events; see `Ledger.history`."""
        return await self.events(job_id, after, len(self._row(job_id).events))

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

    def _row(self, job_id: str) -> Remembered:
        try:
            return self._rows[job_id]
        except KeyError:
            raise JobNotFoundError(f"there is no job {job_id!r}") from None


def _same(known: JobRecord, job: JobRecord) -> JobRecord:
    """Return the job that has the key already, if it was made by the same submission."""
    mine: tuple[Any, ...] = (job.flow, job.owner, job.inputs)
    if (known.flow, known.owner, known.inputs) != mine:
        raise key_conflict(job, known)
    return known
