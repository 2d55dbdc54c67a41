"""Hands a job in: one record in the ledger, claimed in the same breath where this process has a slot free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from millstream.clock import Clock, new_id
from millstream.engine.program import Drawn
from millstream.events.base import EventLog
from millstream.execution.ports import Dispatcher
from millstream.execution.segment import Segments
from millstream.ledger.base import Ledger
from millstream.model.job import JobRecord, JobState


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is submitted.

    Attributes:
        flow: Registered name of the flow or task.
        version: Digest of its definition.
        inputs: The inputs by name.
        drawn: Its graph, with values and code.
        priority: 0 to 9; the higher is claimed first.
        expires: Seconds in which the job must have started, else it fails.
        idempotency_key: One key never makes two jobs.
    """

    flow: str
    version: str
    inputs: dict[str, Any]
    drawn: Drawn
    priority: int = 0
    expires: float | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Submitter:
    """Hands jobs in.

    Attributes:
        process: Id of this process, which claims for itself.
        ledger: Where jobs are recorded.
        log: Where their first event is published.
        clock: The time.
        segments: Keeps what is executed here.
        dispatcher: Brings segments to where they execute.
    """

    process: str
    ledger: Ledger
    log: EventLog
    clock: Clock
    segments: Segments
    dispatcher: Dispatcher

    async def submit(self, order: Order) -> JobRecord:
        """Record a job and see that it is executed; with a known idempotency key, return the job that has it.

        Raises:
            IdempotencyConflictError: The key belongs to a job with another flow or other inputs.
        """
        now, shape = self.clock.now(), order.drawn.shape
        job = JobRecord(
            id=new_id(),
            flow=order.flow,
            version=order.version,
            graph=shape.digest,
            state=JobState.QUEUED,
            created_at=now,
            inputs=order.inputs,
            priority=order.priority,
            expires_at=None if order.expires is None else now + order.expires,
            idempotency_key=order.idempotency_key,
        )
        planned = [(True, "planned", now, None, {"nodes": shape.size})]
        holder = self.process if self.dispatcher.can_take() else None
        self.segments.keep(job.id, order.drawn)  # first: once it is recorded, another slot may claim it
        try:
            recorded, claim = await self.ledger.submit(job, planned, holder)
        except Exception:
            self.segments.drop(job.id)
            raise
        if recorded.id != job.id:
            self.segments.drop(job.id)
            return recorded
        self.log.append(job.id, 1, planned)
        if claim is not None:
            self.dispatcher.take(claim)
        else:
            self.dispatcher.wake()
        return recorded
