"""Submits an ended job once more: a new job with the same graph and inputs, which takes over what went well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from millstream.engine.program import Work
from millstream.errors import AlreadyRetriedError, StateTransitionError
from millstream.events.base import EventLog
from millstream.execution.ports import Dispatcher
from millstream.execution.recorder import shown
from millstream.execution.submit import Order, Submitter
from millstream.graph.shape import Shape
from millstream.ledger.base import IdempotencyConflictError, Ledger
from millstream.model.event import Draft, Event
from millstream.model.failure import Failure
from millstream.model.job import Decision, JobRecord

_OUTCOMES = frozenset({"node_succeeded", "node_failed", "node_skipped", "node_retried"})
_TAKEN_OVER = frozenset({"expanded", "routed", "noted", "node_succeeded", "node_skipped"})
_CALL = "#"
_MARK = "retry:"
"""Before an ended job's id, the alias of the first job that repeats it: no other can have it."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """A graph with its values, without the code: whoever executes the job brings that."""

    shape: Shape
    bindings: Sequence[Any]
    works: Mapping[str, Work] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Repeats:
    """Submits ended jobs once more.

    Attributes:
        ledger: Has the old job, and gets the new one.
        log: Where its first events are published.
        submitter: Makes the new job.
        dispatcher: Looks for it.
    """

    ledger: Ledger
    log: EventLog
    submitter: Submitter
    dispatcher: Dispatcher

    async def repeat(self, job_id: str, *, from_start: bool, once: bool, key: str | None = None) -> JobRecord:
        """Submit a job once more, and return the new one; any process that knows the flow executes it.

        Args:
            job_id: The job that has ended.
            from_start: Whether to take over nothing.
            once: Whether to refuse a job that a job repeats already.
            key: The idempotency key of this repeat, if it has one of its own.

        Raises:
            JobNotFoundError: There is no such job.
            StateTransitionError: It has not ended.
            AlreadyRetriedError: It was to be repeated once, and is.
            IdempotencyConflictError: The key belongs to another job than a repeat of this one.
            NotSerializableError: A value's class is not to be found here.
        """
        old = await self.ledger.get(job_id)
        if not old.state.is_final:
            raise StateTransitionError(f"job {job_id} is {old.state}; it can be submitted again when it has ended")
        stored = await self.ledger.graph(job_id)
        facts = () if from_start else taken_over(await self.ledger.history(job_id))
        order = Order(
            flow=old.flow,
            version=old.version,
            inputs=old.inputs,
            drawn=_Stored(Shape(stored.graph), stored.bindings),
            durability=old.durability,
            priority=old.priority,
            queue=old.queue,
            owner=old.owner,
            expires=None if old.expires_at is None else old.expires_at - old.created_at,
            idempotency_key=key,
            repeats=job_id,
            facts=tuple(facts),
        )
        mark = f"{_MARK}{job_id}"
        first = await self.ledger.alias(mark)
        if first is None:
            try:
                return await self._submit(replace(order, aliases={mark: ""}), job_id)
            except IdempotencyConflictError:
                first = await self.ledger.alias(mark)
                if first is None:  # so it is the key that belongs to something else
                    raise
        if once:
            raise AlreadyRetriedError(job_id, first[0])
        return await self._submit(order, job_id)

    async def _submit(self, order: Order, job_id: str) -> JobRecord:
        """Record a job; return it, or the one that has its key and repeats the same job."""
        job, graph, drafts = self.submitter.prepare(order)
        recorded, _ = await self.ledger.submit(job, graph, drafts, None)
        if recorded.id == job.id:
            self.log.append(job.id, 1, [shown(draft) for draft in drafts])
            self.dispatcher.wake()
            return recorded
        planned = (await self.ledger.events(recorded.id, 0, 1))[0]
        if planned.data.get("repeats") != job_id:
            raise IdempotencyConflictError(
                f"the idempotency key {order.idempotency_key!r} belongs to job {recorded.id}, no retry of {job_id}"
            )
        return recorded


def taken_over(events: Sequence[Event]) -> Iterator[Draft]:
    """Yield what a new job need not do again: what succeeded, was skipped, chosen, noted or answered.

    Inside a conducting body, which goes on after a failure that it catches, such failures belong to what was done:
    were they tried again, the body might take another way than the record says.
    """
    failures = {event.node: event.data["error"] for event in events if event.type == "node_failed"}
    unknown = _of_unknown_outcome(events)
    for event in events:
        if event.seq in unknown or event.type in _TAKEN_OVER or _is_answer(event) or _is_caught(event, failures):
            yield True, event.type, event.at, event.node, event.data


def _of_unknown_outcome(events: Sequence[Event]) -> set[int]:
    """Return the starts of what must run only once where nobody knows whether it has run: that is asked again."""
    begun: dict[str | None, int] = {}
    for event in events:
        if event.type == "node_started":
            begun[event.node] = event.seq
        elif event.type in _OUTCOMES:
            begun.pop(event.node, None)
    return set(begun.values())


def _is_answer(event: Event) -> bool:
    """Whether an approval was answered; a decision was about an attempt of the old job."""
    return event.type == "answered" and not isinstance(event.data["answer"], Decision)


def _is_caught(event: Event, failures: Mapping[str | None, Failure]) -> bool:
    """Whether a call of a conducting body failed, and the body went on."""
    if event.type != "node_failed" or event.node is None or _CALL not in event.node:
        return False
    outcome, mine = failures.get(event.node.rpartition(_CALL)[0]), failures[event.node]
    return outcome is None or (outcome.type, outcome.message) != (mine.type, mine.message)
