"""What every ledger promises. The contract suite in `testing/` holds each adapter to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from millstream.errors import MillstreamError
from millstream.model.event import Draft, Event
from millstream.model.failure import Failure
from millstream.model.job import JobRecord, JobState, NodeResult, NodeState, Reason


class IdempotencyConflictError(MillstreamError):
    """Raised when an idempotency key comes again with another flow or other inputs."""


class FencedError(MillstreamError):
    """Raised when a record comes from one who no longer holds the job."""


class Claim(msgspec.Struct, frozen=True):
    """The right to execute a segment of a job.

    Attributes:
        job: The job as it was claimed.
        segment: Which part of it, from 1.
        attempt: How often that part was claimed, from 1; together with the holder it fences out older claims.
        holder: Id of the process that holds it.
    """

    job: JobRecord
    segment: int
    attempt: int
    holder: str


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


Recorded = Callable[[int | FencedError, Sequence[Draft]], None]
"""Gets what became of a record: the number of its first durable draft and the drafts that count, or the refusal."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs to list.

    Attributes:
        states: Jobs in one of these; all without.
        flow: Jobs of this flow; all without.
        limit: At most this many, the newest first.
    """

    states: tuple[JobState, ...] = ()
    flow: str | None = None
    limit: int = 100


class Ledger(Protocol):
    """The record of jobs.

    Every event that `submit`, `record` or `cancel` makes true is recorded with it, numbered densely per job; what they
    return tells the numbers, so that the event log can be given the same.
    """

    async def submit(
        self, job: JobRecord, drafts: Sequence[Draft], claim_for: str | None
    ) -> tuple[JobRecord, Claim | None]:
        """Record a new job, and claim it in the same breath where `claim_for` names a process.

        With an idempotency key that is known, the job that has it is returned and nothing is recorded.

        Raises:
            IdempotencyConflictError: The key is known, but the flow or the inputs differ.
        """

    async def claim(self, holder: str, limit: int) -> list[Claim]:
        """Claim at most `limit` queued jobs: the higher priority first, then the older. No two callers get the same."""

    def record(self, claim: Claim, drafts: Sequence[Draft], end: Settlement | None, done: Recorded) -> None:
        """Record what happened in a segment, all or nothing; with `end` also how the job ends.

        It neither blocks nor waits: `done` is called on the loop, at once or later, exactly once. A node's end that is
        recorded already is left out. Volatile drafts pass through unrecorded, so that they keep their place.

        Args:
            claim: Whose record it is.
            drafts: Events in order. The ends of nodes (`node_succeeded` …) are also the nodes' results.
            end: How the job ends, if it does.
            done: Gets the number of the first durable draft and the drafts that count, or a `FencedError` when the
                claim is no longer valid: the job has ended, or another process holds it.
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

    async def trim(self, keep: int) -> list[str]:
        """Forget ended jobs beyond the `keep` that ended last, and return their ids.

        A ledger whose room is bounded may keep fewer, but not under a hundred.
        """

    async def events(self, job_id: str, after: int, limit: int) -> list[Event]:
        """Return at most `limit` durable events of a job with a number above `after`, in order.

        Raises:
            JobNotFoundError: There is no such job.
        """


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
