"""What every ledger promises. The contract suite in `testing/` holds each adapter to it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from millstream.errors import MillstreamError, WorkflowServiceUnavailableError
from millstream.model.event import Draft, Event
from millstream.model.failure import Failure
from millstream.model.graph import Graph
from millstream.model.job import JobRecord, JobState, NodeResult, NodeState, Reason


class IdempotencyConflictError(MillstreamError):
    """Raised when an idempotency key comes again with another flow or other inputs, or an alias with another job."""


class FencedError(MillstreamError):
    """Raised when a record comes from one who no longer holds the job."""


class RefusedRecordError(FencedError):
    """Raised when the database refuses what a record holds; no later record of the segment makes up for it."""


class LedgerUnavailableError(WorkflowServiceUnavailableError):
    """Raised when the ledger cannot be reached, or does not answer in time."""


class StorageFullError(WorkflowServiceUnavailableError):
    """Raised when the ledger has no room left on its disk."""


class UnfitLedgerError(MillstreamError):
    """Raised when there is no ledger where one has to be, or its tables are not of this version."""


class JobGraph(msgspec.Struct, frozen=True):
    """What a job executes.

    Attributes:
        graph: The graph; jobs of one shape share one in the ledger.
        bindings: The values of its slots.
        aliases: Names of its nodes that no other job of the ledger has, with the path of the node that each stands for.
    """

    graph: Graph
    bindings: Sequence[Any] = ()
    aliases: Mapping[str, str] = {}


class Claim(msgspec.Struct, frozen=True):
    """The right to execute a segment of a job.

    Attributes:
        job: The job as it was claimed.
        segment: Which part of it, from 1.
        attempt: How often that part was claimed, from 1; together with the holder it fences out older claims.
        holder: Id of the process that holds it.
        head: Number of the job's last durable event; what happened before the claim has numbers up to this.
        crashes: How many holders of the segment died in it.
    """

    job: JobRecord
    segment: int
    attempt: int
    holder: str
    head: int = 1
    crashes: int = 0


class Settlement(msgspec.Struct, frozen=True):
    """How a job ends.

    Attributes:
        state: One of the final states.
        reason: Why, where the state alone does not say it.
        result: What it returned.
        error: What failed it.
    """

    state: JobState
    reason: Reason | None = None
    result: Any = None
    error: Failure | None = None


class Pause(msgspec.Struct, frozen=True):
    """How a segment is laid down unfinished: whoever claims it next goes on with it.

    Attributes:
        reason: What it waits for; `shutdown` hands it on at once.
        until: When it may be claimed; `None` until an answer comes. Seconds since the epoch, UTC.
        seen: Number of the last event that the holder knows. Where others recorded more meanwhile (an answer), the
            segment may be claimed at once, so that no answer is missed.
    """

    reason: Literal["timer", "approval", "decision", "code", "shutdown"]
    until: float | None
    seen: int


class Held(msgspec.Struct, frozen=True):
    """What others did to a job while a process holds it.

    Attributes:
        job_id: The job.
        cancel_requested: Whether someone asked to stop it.
        head: Number of its last durable event.
        attempt: The attempt under which its segment is held.
    """

    job_id: str
    cancel_requested: bool
    head: int
    attempt: int = 1


Recorded = Callable[[int | FencedError, Sequence[Draft]], None]
"""Gets what became of a record: the number of its first durable draft and the drafts that count, or the refusal."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs to list.

    Attributes:
        states: Jobs in one of these; all without.
        flow: Jobs of this flow; all without.
        reason: Jobs with this reason; all without.
        created_after: Jobs submitted at this time or later; seconds since the epoch, UTC.
        created_before: Jobs submitted before this time.
        before: Jobs older than the one with this id, which is where the last page ended.
        limit: At most this many, the newest first.
    """

    states: tuple[JobState, ...] = ()
    flow: str | None = None
    reason: Reason | None = None
    created_after: float | None = None
    created_before: float | None = None
    before: str | None = None
    limit: int = 100

    def takes(self, job: JobRecord) -> bool:
        """Return whether a job is meant, the limit aside."""
        return (
            (not self.states or job.state in self.states)
            and self.flow in (None, job.flow)
            and self.reason in (None, job.reason)
            and (self.created_after is None or job.created_at >= self.created_after)
            and (self.created_before is None or job.created_at < self.created_before)
            and (self.before is None or job.id < self.before)
        )


class Ledger(Protocol):
    """The record of jobs.

    Every event that `submit`, `record` or `cancel` makes true is recorded with it, numbered densely per job; what they
    return tells the numbers, so that the event log can be given the same.
    """

    def seal(self, job: JobRecord, data: dict[str, Any]) -> Any:
        """Return an event's data in the form in which it can be recorded; for data with values that users made.

        A ledger that writes values down returns a `Sealed`; one in memory, the data as it is.

        Raises:
            NotSerializableError: A value in it cannot be written down.
            OutputTooLargeError: It is larger than the ledger takes.
        """

    async def submit(
        self, job: JobRecord, graph: JobGraph, drafts: Sequence[Draft], claim_for: str | None
    ) -> tuple[JobRecord, Claim | None]:
        """Record a new job, and claim it in the same breath where `claim_for` names a process.

        With an idempotency key that is known, the job that has it is returned and nothing is recorded, the aliases
        neither. A job in state `scheduled` is not claimed before its `starts_at`.

        Raises:
            IdempotencyConflictError: The key is known, but the flow or the inputs differ; or another job has one of the
                aliases. Nothing is recorded then.
            NotSerializableError: An input or binding cannot be written down.
        """

    async def graph(self, job_id: str) -> JobGraph:
        """Return what a job executes, as it was submitted.

        Raises:
            JobNotFoundError: There is no such job.
        """

    async def claim(self, holder: str, limit: int, flows: Collection[str] | None = None) -> list[Claim]:
        """Claim at most `limit` segments that may start: the higher priority first, then the older job.

        No two callers get the same. A job becomes running with its claim. Of segments in which two or more holders
        died a holder gets one at a time, so that the next death tells which of them kills.

        Args:
            holder: Id of the process that will hold them.
            limit: At most this many.
            flows: Only jobs of these flows and tasks; all without.
        """

    def record(self, claim: Claim, drafts: Sequence[Draft], end: Settlement | Pause | None, done: Recorded) -> None:
        """Record what happened in a segment, all or nothing; with `end` also how the job ends or pauses.

        It neither blocks nor waits: `done` is called on the loop, at once or later, exactly once. A node's end that is
        recorded already is left out. Volatile drafts pass through unrecorded, so that they keep their place.

        Args:
            claim: Whose record it is.
            drafts: Events in order. The ends of nodes (`node_succeeded` …) are also the nodes' results.
            end: How the job ends, or how the segment is laid down, if either is so.
            done: Gets the number of the first durable draft and the drafts that count, or a `FencedError` when the
                claim is no longer valid: the job has ended, or another process holds it.
        """

    async def answer(self, job_id: str, node: str, drafts: Sequence[Draft]) -> int | None:
        """Record the answer to a wait, and let the job go on where it is paused; whoever holds it has to be told.

        Returns the number of the first event, or `None` where nothing waits at that node (any more).

        Raises:
            JobNotFoundError: There is no such job.
        """

    async def cancel(self, job_id: str, drafts: Sequence[Draft]) -> tuple[JobRecord, int | None]:
        """Ask to stop a job. One that nobody holds is cancelled at once; `drafts` then tells so.

        Returns the job, and the number of the first event where one was recorded. A job that has ended is not changed.

        Raises:
            JobNotFoundError: There is no such job.
        """

    async def get(self, job_id: str) -> JobRecord:
        """Return a job.

        Raises:
            JobNotFoundError: There is no such job.
        """

    async def find(self, which: Filter) -> list[JobRecord]:
        """Return jobs, the newest first."""

    async def node_results(self, job_id: str) -> list[NodeResult]:
        """Return how the nodes of a job ended so far, in the order in which they did.

        Raises:
            JobNotFoundError: There is no such job.
        """

    async def node_result(self, job_id: str, path: str) -> NodeResult | None:
        """Return how one node of a job ended, with its value whole; `None` while it has not.

        Raises:
            JobNotFoundError: There is no such job.
            NotSerializableError: A value's class is not to be found here.
        """

    async def alias(self, name: str) -> tuple[str, str] | None:
        """Return the job and the path of the node that an alias stands for; `None` where there is no such alias.

        An alias is there from the commit of its job's submission on, and goes with its job.
        """

    async def due_at(self, flows: Collection[str] | None = None) -> float | None:
        """Return when the next scheduled or paused job may be claimed, if one waits for a time."""

    async def trim(self) -> list[str]:
        """Forget ended jobs that are kept no longer, a bounded number at a time, and return their ids."""

    async def forget(self, job_ids: Collection[str]) -> list[str]:
        """Forget those of these jobs that have ended, with all that is kept of them, and return their ids."""

    async def events(self, job_id: str, after: int, limit: int) -> list[Event]:
        """Return at most `limit` durable events of a job with a number above `after`, in order.

        Of values too large to be kept in their row there is a `Reference`.

        Raises:
            JobNotFoundError: There is no such job.
        """

    async def history(self, job_id: str) -> list[Event]:
        """Return all durable events of a job, in order, with every value whole: what a segment goes on from.

        Raises:
            JobNotFoundError: There is no such job.
            NotSerializableError: A value's class is not to be found here.
        """


class SharedLedger(Ledger, Protocol):
    """A ledger that several processes use at once, and that outlives each of them.

    A process that is a member holds a lease, which the ledger renews by itself. One whose lease ran out, or whose death
    is proved, is dead for good: what it held can be claimed by others, and nothing that it records counts any more.
    """

    async def open(self) -> None:
        """Make sure that the ledger can be used, and is of this version's form; otherwise that shows on first use.

        Raises:
            LedgerUnavailableError: It cannot be reached.
        """

    async def close(self) -> None:
        """Record what was handed over, and release everything; may be called twice, and before the ledger was used."""

    def hasten(self) -> None:
        """Wait only a few seconds more for a database that takes nothing, until it is closed.

        Records that it has not taken by then are refused with `FencedError`, and so are all later ones of their holder.
        """

    def submit_in(self, connection: Any, job: JobRecord, graph: JobGraph, drafts: Sequence[Draft]) -> JobRecord:
        """Record a new job in the transaction of a user's connection to the same database; blocks.

        The job is there if and only if that transaction is committed, and is queued or scheduled then.

        Raises:
            DefinitionError: The connection is to another database.
            IdempotencyConflictError: The key is known, but the flow or the inputs differ; or another job has one of the
                aliases. Nothing is recorded then.
            NotSerializableError: An input or binding cannot be written down.
        """

    async def join(self, process: str, on_dead: Callable[[], None]) -> None:
        """Become a member, under a new id; `on_dead` is called on the loop when the ledger says that it is dead."""

    async def leave(self, process: str) -> None:
        """End a membership. What it still holds can be claimed at once, and does not count as a crash."""

    async def claim_expired(self, holder: str, limit: int) -> list[Claim]:
        """Claim at most `limit` segments of queued jobs that did not start in time, so that they can be failed.

        Whether their code is known does not matter, since it is not executed.

        Raises:
            FencedError: `holder` is no member (any more).
        """

    async def reap(self) -> list[str]:
        """Let what dead processes hold be claimed again, and return the ids of those jobs; each counts as a crash."""

    async def held(self, process: str) -> list[Held]:
        """Return what others did to the jobs that a process holds."""

    async def heads(self, job_ids: Collection[str]) -> dict[str, int]:
        """Return the number of the last durable event per job, for jobs that there are."""


ENDS = {
    f"node_{state.label}": state
    for state in (
        NodeState.SUCCEEDED,
        NodeState.FAILED,
        NodeState.SKIPPED,
        NodeState.UPSTREAM_FAILED,
        NodeState.CANCELLED,
    )
}
"""The event types that are a node's end, with how it ended."""


def node_result(state: NodeState, path: str, data: dict[str, Any] | None) -> NodeResult:
    """Return the node result that an event of one of the `ENDS` tells."""
    told = data or {}
    return NodeResult(path, state, told.get("attempt", 0), told.get("value"), told.get("error"))


def alias_conflict(name: str, job_id: str) -> IdempotencyConflictError:
    """Return the refusal of a job with an alias that another job has."""
    return IdempotencyConflictError(
        f"the task id {name!r} belongs to job {job_id}, also after that job has ended; give another one, or none, "
        f"or let the ledger forget that job first (app.purge, `millstream jobs purge`, retention_days)"
    )


def awaited(facts: Iterable[tuple[str, str | None, Any]], node: str) -> str | None:
    """Return what a node waits for from people: `approval` or `decision`; `None` where it does not.

    Args:
        facts: The (type, node, data) of its job's durable events, in order.
        node: Its path.
    """
    reason = None
    for kind, path, data in facts:
        if path == node:
            reason = data["reason"] if kind == "waiting" else None
    return None if reason == "timer" else reason
