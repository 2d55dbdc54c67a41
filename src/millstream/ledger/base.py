"""What every ledger promises. The contract suite in `testing/` holds each adapter to it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from millstream.errors import MillstreamError, WorkflowServiceUnavailableError
from millstream.ledger.accounts import Accounts
from millstream.ledger.activity import Activity
from millstream.ledger.filter import Filter
from millstream.ledger.flow_store import FlowStore
from millstream.ledger.identity import Identity
from millstream.ledger.presence import Presences
from millstream.ledger.queued import QueuedSegments
from millstream.model.event import Draft, Event
from millstream.model.failure import Failure
from millstream.model.graph import Graph
from millstream.model.job import JobRecord, JobState, NodeResult, Reason

MAIN = 1
"""The number of a job's main segment, which plans; the others are side segments."""


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
        order: Number of the event `handed_out` that says what a side segment executes; `None` for the main one.
        queue: The queue that it was claimed from; `None` for the default one.
    """

    job: JobRecord
    segment: int
    attempt: int
    holder: str
    head: int = 1
    crashes: int = 0
    order: int | None = None
    queue: str | None = None


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
        reason: What it waits for; `shutdown` hands it on at once. `handed_out`: the main segment waits for a side
            segment to end; the job stays as it is then, running.
        until: When it may be claimed; `None` until an answer comes, or a side segment ends. Seconds since the epoch,
            UTC.
        seen: Number of the last event that the holder knows. Where others recorded more meanwhile (an answer), the
            segment may be claimed at once, so that no answer is missed.
    """

    reason: Literal["timer", "approval", "decision", "code", "shutdown", "handed_out"]
    until: float | None
    seen: int


class Done(msgspec.Struct, frozen=True):
    """How a side segment ends: nothing of it is left. A main segment that waits for it may be claimed then."""

    cancels: bool = False
    """Whether it asks to stop the job too, as `Ledger.cancel` does: a task cancelled what it runs in."""


End = Settlement | Pause | Done
"""How a claim ends; `Settlement` is for main segments, `Done` for side ones."""


class Held(msgspec.Struct, frozen=True):
    """What others did to a job while a process holds a segment of it.

    Attributes:
        job_id: The job.
        cancel_requested: Whether someone asked to stop it.
        head: Number of its last durable event.
        attempt: The attempt under which its segment is held.
        segment: Which segment is held.
    """

    job_id: str
    cancel_requested: bool
    head: int
    attempt: int = 1
    segment: int = MAIN


Recorded = Callable[[int | FencedError, Sequence[Draft]], None]
"""Gets what became of a record: the number of its first durable draft and the drafts that count, or the refusal."""


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

    async def claim(
        self,
        holder: str,
        limit: int,
        flows: Collection[str] | None = None,
        queues: Collection[str | None] | None = None,
        sides: int | None = None,
    ) -> list[Claim]:
        """Claim at most `limit` segments that may start: the higher priority first, then the older job.

        No two callers get the same. A job becomes running with the claim of its main segment. Of segments in which two
        or more holders died a holder gets one at a time, so that the next death tells which of them kills.

        Args:
            holder: Id of the process that will hold them.
            limit: At most this many.
            flows: Only jobs of these flows and tasks, by their claim keys (see `model.names.claim_key`); all without.
            queues: Only segments of these queues, `None` among them for the default one; all without.
            sides: At most this many side segments among them, 0 or more; no bound without.
        """

    def record(self, claim: Claim, drafts: Sequence[Draft], end: End | None, done: Recorded) -> None:
        """Record what happened in a segment, all or nothing; with `end` also how the job or the segment ends or pauses.

        It neither blocks nor waits: `done` is called on the loop, at once or later, exactly once. A node's end that is
        recorded already, under whichever segment, is left out. Volatile drafts pass through unrecorded, so that they
        keep their place. Two types have an effect in records of the main segment: `handed_out` makes the side segment
        `data["segment"]`, queued on `data["queue"]`; `taken_back` ends the one of that number, and fences who holds it.

        Args:
            claim: Whose record it is.
            drafts: Events in order. The ends of nodes (`node_succeeded` …) are also the nodes' results.
            end: How the job or the side segment ends, or how the segment is laid down, if any of that is so.
            done: Gets the number of the first durable draft and the drafts that count, or a `FencedError` when the
                claim is no longer valid: the job has ended, or another process holds the segment.
        """

    async def answer(self, job_id: str, node: str, drafts: Sequence[Draft]) -> int | None:
        """Record the answer to a wait, and let the job go on where it is paused; whoever holds it has to be told.

        Returns the number of the first event, or `None` where nothing waits at that node (any more).

        Raises:
            JobNotFoundError: There is no such job.
        """

    async def cancel(self, job_id: str, drafts: Sequence[Draft]) -> tuple[JobRecord, int | None]:
        """Ask to stop a job. One of which nobody holds a segment is cancelled at once; `drafts` then tells so.

        Else nobody begins a segment of it any more but the main one, when no side segment is held.
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
        """Return jobs, in the order of their submissions or, as usual, the newest first."""

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

    async def due_at(
        self, flows: Collection[str] | None = None, queues: Collection[str | None] | None = None
    ) -> float | None:
        """Return when the next scheduled or paused segment may be claimed, if one of these waits for a time."""

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

    async def event(self, job_id: str, seq: int) -> Event:
        """Return one durable event, with its values whole.

        Raises:
            JobNotFoundError: There is no such job, or it has no event of this number.
            NotSerializableError: A value's class is not to be found here.
        """

    async def history(self, job_id: str, after: int = 0) -> list[Event]:
        """Return a job's durable events above a number, in order, with every value whole: what a segment goes on from.

        Raises:
            JobNotFoundError: There is no such job.
            NotSerializableError: A value's class is not to be found here.
        """


class SharedLedger(Ledger, QueuedSegments, Presences, Protocol):
    """A ledger that several processes use at once, and that outlives each of them.

    A process that is a member holds a lease, which the ledger renews by itself. One whose lease ran out, or whose death
    is proved, is dead for good: what it held can be claimed by others, and nothing that it records counts any more.
    """

    @property
    def accounts(self) -> Accounts:
        """The users, and what they sign in with."""

    @property
    def flow_store(self) -> FlowStore:
        """The users' flows."""

    @property
    def activity(self) -> Activity:
        """Who looks at interactive jobs, in all processes."""

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

    async def claim_expired(self, holder: str, limit: int) -> list[Claim]:
        """Claim at most `limit` segments of queued jobs that did not start in time, to fail them; known code or not.

        Raises:
            FencedError: `holder` is no member (any more).
        """

    async def reap(self) -> list[str]:
        """Let what dead processes hold be claimed again, and return those jobs' ids; each counts as a crash there."""

    async def held(self, process: str) -> list[Held]:
        """Return what others did to the jobs of which a process holds segments: one for each segment."""

    async def identity(self) -> Identity:
        """Return what tells this ledger from all others; every process gets the same."""

    async def heads(self, job_ids: Collection[str]) -> dict[str, int]:
        """Return the number of the last durable event per job, for jobs that there are."""
