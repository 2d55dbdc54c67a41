"""Two ledgers as one: jobs of durability `off` live in memory, all others in the database that processes share.

It also rings: whoever changes a job through it wakes those who may have to do with it, here and in other processes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from millstream.errors import JobNotFoundError
from millstream.ledger.aliases import alias_conflict
from millstream.ledger.base import (
    MAIN,
    Claim,
    Done,
    End,
    FencedError,
    JobGraph,
    Ledger,
    Pause,
    Recorded,
    SharedLedger,
)
from millstream.ledger.bell import Bell, Heard, Topic
from millstream.ledger.facts import ENDS
from millstream.ledger.filter import Filter
from millstream.ledger.memory import MemoryLedger
from millstream.ledger.sides import HANDED_OUT, TAKEN_BACK, has_sides, named
from millstream.model.event import Draft, Event
from millstream.model.job import JobRecord, NodeResult
from millstream.model.task_id import may_be_job_id


class TieredLedger:
    """Passes each call to the ledger in which the job is; see `Ledger` for what its methods promise.

    Args:
        memory: Has the jobs that end with this process.

    Attributes:
        memory: See above.
        heard: Called for what is changed through this ledger, as others hear it by the bell.
    """

    def __init__(self, memory: MemoryLedger) -> None:
        """Have no shared ledger yet."""
        self.memory = memory
        self.heard: Heard = lambda _topic, _job_id: None
        self._shared: SharedLedger | None = None
        self._bell: Bell | None = None

    def share(self, ledger: SharedLedger | None, bell: Bell | None) -> None:
        """Have the durable jobs in a ledger, and ring for them; `None` for none any more."""
        self._shared, self._bell = ledger, bell

    # ------------------------------------------------------------------------------------- handing in and claiming
    def seal(self, job: JobRecord, data: dict[str, Any]) -> Any:
        """Write data down if the job's ledger does; see `Ledger.seal`."""
        return data if job.durability == "off" else self._durable().seal(job, data)

    async def submit(
        self, job: JobRecord, graph: JobGraph, drafts: Sequence[Draft], claim_for: str | None
    ) -> tuple[JobRecord, Claim | None]:
        """Record a new job by its durability; see `Ledger.submit`."""
        if graph.aliases:
            await self._check_aliases(job, graph)
        if job.durability == "off":
            return await self.memory.submit(job, graph, drafts, claim_for)
        recorded, claim = await self._durable().submit(job, graph, drafts, claim_for)
        if claim is None and recorded.id == job.id:
            self._ring("queued", job.id, job.queue)
        return recorded, claim

    async def _check_aliases(self, job: JobRecord, graph: JobGraph) -> None:
        """Refuse an alias that is a job's id, or that the other ledger has; its own refuses its own."""
        other: Ledger = self.memory if job.durability != "off" or self._shared is None else self._shared
        for name in graph.aliases:
            known = await other.alias(name)
            if known is not None:
                raise alias_conflict(name, known[0])
            if may_be_job_id(name) and await self._has(name):
                raise alias_conflict(name, name)

    async def _has(self, job_id: str) -> bool:
        try:
            await self.get(job_id)
        except JobNotFoundError:
            return False
        return True

    async def graph(self, job_id: str) -> JobGraph:
        """Return what a job executes; see `Ledger.graph`."""
        return await self._of(job_id).graph(job_id)

    async def claim(
        self,
        holder: str,
        limit: int,
        flows: Collection[str] | None = None,
        queues: Collection[str | None] | None = None,
        sides: int | None = None,
    ) -> list[Claim]:
        """Claim in memory first, then what is left in the shared ledger; see `Ledger.claim`."""
        claims = await self.memory.claim(holder, limit, flows, queues, sides)
        if self._shared is not None and len(claims) < limit:
            left = None if sides is None else max(0, sides - sum(claim.segment != MAIN for claim in claims))
            claims += await self._shared.claim(holder, limit - len(claims), flows, queues, left)
        return claims

    async def due_at(
        self, flows: Collection[str] | None = None, queues: Collection[str | None] | None = None
    ) -> float | None:
        """Return the earlier of both ledgers' times; see `Ledger.due_at`."""
        mine = await self.memory.due_at(flows, queues)
        if self._shared is None:
            return mine
        theirs = await self._shared.due_at(flows, queues)
        return min((at for at in (mine, theirs) if at is not None), default=None)

    # ---------------------------------------------------------------------------------------------------- recording
    def record(self, claim: Claim, drafts: Sequence[Draft], end: End | None, done: Recorded) -> None:
        """Record where the job is, and tell others what concerns them; see `Ledger.record`."""
        ledger = self.memory if claim.job.durability == "off" else self._durable()
        if end is not None or claim.segment != MAIN or has_sides(drafts):
            done = self._telling(claim, end, done)
        ledger.record(claim, drafts, end, done)

    def _telling(self, claim: Claim, end: End | None, done: Recorded) -> Recorded:
        """Return a `done` that also tells others what was recorded."""

        def tell(first: int | FencedError, kept: Sequence[Draft]) -> None:
            done(first, kept)
            if isinstance(first, FencedError):
                return
            if claim.segment == MAIN:
                self._tell_of_main(claim.job, kept, end)
            else:
                self._tell_of_side(claim, kept, end)

        return tell

    def _tell_of_main(self, job: JobRecord, kept: Sequence[Draft], end: End | None) -> None:
        for draft in kept if has_sides(kept) else ():
            if draft[1] == HANDED_OUT:
                self._tell("queued", job.id, named(draft)[1])
            elif draft[1] == TAKEN_BACK:
                self._tell("changed", job.id)
        if isinstance(end, Pause):
            self._tell("queued", job.id, job.queue)
        elif end is not None and job.durability != "off":
            self._ring("ended", job.id)

    def _tell_of_side(self, claim: Claim, kept: Sequence[Draft], end: End | None) -> None:
        job = claim.job
        if isinstance(end, Done) or any(draft[1] in ENDS for draft in kept):
            self._tell("changed", job.id)
        if end is not None:
            self._tell("queued", job.id, job.queue if isinstance(end, Done) else claim.queue)

    async def answer(self, job_id: str, node: str, drafts: Sequence[Draft]) -> int | None:
        """Record an answer, and wake who holds the job or may claim it; see `Ledger.answer`."""
        first = await self._of(job_id).answer(job_id, node, drafts)
        if first is not None:
            self._tell("changed", job_id)
            self._tell("queued", job_id, (await self.get(job_id)).queue)
        return first

    async def cancel(self, job_id: str, drafts: Sequence[Draft]) -> tuple[JobRecord, int | None]:
        """Ask to stop a job, and wake who holds it; see `Ledger.cancel`."""
        job, first = await self._of(job_id).cancel(job_id, drafts)
        if first is not None:
            self._tell("ended", job_id)
        elif not job.state.is_final:
            self._tell("changed", job_id)
        return job, first

    # ------------------------------------------------------------------------------------------------------ reading
    async def get(self, job_id: str) -> JobRecord:
        """Return a job; see `Ledger.get`."""
        return await self._of(job_id).get(job_id)

    async def find(self, which: Filter) -> list[JobRecord]:
        """Return jobs of both, in one order; see `Ledger.find`."""
        found = await self.memory.find(which)
        if self._shared is None:
            return found
        return sorted([*found, *await self._shared.find(which)], key=_id, reverse=not which.oldest_first)[: which.limit]

    async def node_results(self, job_id: str) -> list[NodeResult]:
        """Return how nodes ended; see `Ledger.node_results`."""
        return await self._of(job_id).node_results(job_id)

    async def node_result(self, job_id: str, path: str) -> NodeResult | None:
        """Return how one node ended; see `Ledger.node_result`."""
        return await self._of(job_id).node_result(job_id, path)

    async def alias(self, name: str) -> tuple[str, str] | None:
        """Return what an alias stands for, in either; see `Ledger.alias`."""
        found = await self.memory.alias(name)
        return found if found is not None or self._shared is None else await self._shared.alias(name)

    async def events(self, job_id: str, after: int, limit: int) -> list[Event]:
        """Return durable events; see `Ledger.events`."""
        return await self._of(job_id).events(job_id, after, limit)

    async def event(self, job_id: str, seq: int) -> Event:
        """Return one durable event; see `Ledger.event`."""
        return await self._of(job_id).event(job_id, seq)

    async def history(self, job_id: str, after: int = 0) -> list[Event]:
        """Return all durable events; see `Ledger.history`."""
        return await self._of(job_id).history(job_id, after)

    # --------------------------------------------------------------------------------------------------- forgetting
    async def trim(self) -> list[str]:
        """Forget what memory has no room for; see `Ledger.trim`. The shared ledger is trimmed by its own duty."""
        return await self.memory.trim()

    async def forget(self, job_ids: Collection[str]) -> list[str]:
        """Forget ended jobs of both; see `Ledger.forget`."""
        mine = [job_id for job_id in job_ids if job_id in self.memory]
        forgotten = await self.memory.forget(mine)
        others = [job_id for job_id in job_ids if job_id not in mine]
        return forgotten + (await self._shared.forget(others) if self._shared is not None and others else [])

    # ------------------------------------------------------------------------------------------------------- inside
    def _of(self, job_id: str) -> Ledger:
        if self._shared is None or job_id in self.memory:
            return self.memory
        return self._shared

    def _durable(self) -> SharedLedger:
        if self._shared is None:
            raise RuntimeError("a durable job needs a shared ledger")
        return self._shared

    def _tell(self, topic: Topic, job_id: str, queue: str | None = None) -> None:
        self.heard(topic, job_id)
        if job_id not in self.memory:
            self._ring(topic, job_id, queue)

    def _ring(self, topic: Topic, job_id: str, queue: str | None = None) -> None:
        if self._bell is not None:
            self._bell.ring(topic, job_id, queue)


def _id(job: JobRecord) -> str:
    return job.id
