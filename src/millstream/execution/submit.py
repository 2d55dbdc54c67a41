"""Hands a job in: one record in the ledger, claimed in the same breath where this process has a slot free."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from millstream.clock import Clock, new_id
from millstream.engine.program import Drawn
from millstream.events.base import EventLog
from millstream.execution.ports import Dispatcher
from millstream.execution.recorder import shown
from millstream.execution.segment import Segments
from millstream.ledger.base import JobGraph, Ledger
from millstream.model.event import Draft
from millstream.model.job import Durability, JobRecord, JobState
from millstream.points import reach


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is submitted.

    Attributes:
        flow: Registered name of the flow or task.
        version: Digest of its definition.
        inputs: The inputs by name.
        drawn: Its graph, with values and code.
        durability: How safe it is.
        priority: 0 to 9; the higher is claimed first.
        starts_at: When it may start at the earliest; seconds since the epoch, UTC.
        expires: Seconds in which the job must have started, else it fails.
        idempotency_key: One key never makes two jobs.
        parent: Task id of the running task that submits it.
        aliases: Names of its nodes that no other job has, each with the node's path; "" stands for the whole job.
        repeats: Id of the ended job that it repeats.
        facts: What it need not do again of that one (see `again`).
        queue: The queue that workers take it from; `None` for the default one.
        owner: Id of the user whose it is.
        is_interactive: Whether it is cancelled when nobody who looked at it does any more.
    """

    flow: str
    version: str
    inputs: dict[str, Any]
    drawn: Drawn
    durability: Durability = "full"
    priority: int = 0
    starts_at: float | None = None
    expires: float | None = None
    idempotency_key: str | None = None
    parent: str | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    repeats: str | None = None
    facts: Sequence[Draft] = ()
    queue: str | None = None
    owner: str | None = None
    is_interactive: bool = False


@dataclass(frozen=True, slots=True)
class Submitter:
    """Hands jobs in.

    Attributes:
        process: Gives the id of this process, which claims for itself.
        ledger: Where jobs are recorded.
        log: Where their first event is published.
        clock: The time.
        segments: Keeps what is executed here.
        dispatcher: Brings segments to where they execute.
    """

    process: Callable[[], str]
    ledger: Ledger
    log: EventLog
    clock: Clock
    segments: Segments
    dispatcher: Dispatcher

    async def submit(self, order: Order) -> JobRecord:
        """Record a job and see that it is executed; with a known idempotency key, return the job that has it.

        Raises:
            IdempotencyConflictError: The key belongs to a job with another flow or other inputs, or an alias to
                another job.
        """
        job, graph, drafts = self.prepare(order)
        holder = self.process() if job.state is JobState.QUEUED and self.dispatcher.can_take() else None
        self.segments.keep(job, order.drawn, order.aliases)  # first: once it is recorded, another slot may claim it
        try:
            recorded, claim = await self.ledger.submit(job, graph, drafts, holder)
        except Exception:
            self.segments.drop(job.id)
            raise
        if recorded.id != job.id:
            self.segments.drop(job.id)
            return recorded
        reach("submit-after-commit")
        self.log.append(job.id, 1, [shown(draft) for draft in drafts])
        if claim is not None:
            self.dispatcher.take(claim)
        else:
            self.dispatcher.wake()
        return recorded

    def prepare(self, order: Order) -> tuple[JobRecord, JobGraph, list[Draft]]:
        """Return what there is to record of an order."""
        now, shape = self.clock.now(), order.drawn.shape
        is_later = order.starts_at is not None and order.starts_at > now
        job = JobRecord(
            id=new_id(),
            flow=order.flow,
            version=order.version,
            graph=shape.digest,
            state=JobState.SCHEDULED if is_later else JobState.QUEUED,
            created_at=now,
            inputs=order.inputs,
            priority=order.priority,
            starts_at=order.starts_at,
            expires_at=None if order.expires is None else now + order.expires,
            idempotency_key=order.idempotency_key,
            durability=order.durability,
            parent=order.parent,
            queue=order.queue,
            owner=order.owner,
            is_interactive=order.is_interactive,
        )
        repeats = {} if order.repeats is None else {"repeats": order.repeats}
        planned: Draft = (True, "planned", now, None, {"nodes": shape.size, **repeats})
        facts = [(*fact[:4], fact[4] and self.ledger.seal(job, fact[4])) for fact in order.facts]
        return job, JobGraph(shape.graph, order.drawn.bindings, order.aliases), [planned, *facts]
