"""`Job`: a submitted job in the hands of whoever submitted it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

from millstream.errors import JobCancelledError, JobFailedError
from millstream.model.event import START, Cursor, Event
from millstream.model.job import JobRecord, JobState, NodeResult


class Jobs(Protocol):
    """What a job's handle needs of its app; each call works from any event loop."""

    async def record(self, job_id: str) -> JobRecord:
        """Return what the ledger says of a job."""

    async def ended(self, job_id: str) -> JobRecord:
        """Wait until a job has ended, and return what the ledger then says."""

    async def node_results(self, job_id: str) -> list[NodeResult]:
        """Return how the nodes of a job ended so far."""

    def read_events(self, job_id: str, after: Cursor) -> AsyncIterator[Event]:
        """Yield a job's events after a cursor."""

    async def cancel(self, job_id: str) -> JobRecord:
        """Ask a job to stop."""

    async def approve(self, job_id: str, node: str, answer: Any) -> bool:
        """Give a waiting approval its answer."""


class Job:
    """One submission of a flow or task.

    Example:
        >>> import asyncio
        >>> from millstream import Millstream, task
        >>> @task
        ... async def double(x: int) -> int: return 2 * x
        >>> async def main() -> int:
        ...     async with Millstream() as app:
        ...         job = await app.submit(double, x=4)
        ...         return await job.result()
        >>> asyncio.run(main())
        8

    Attributes:
        id: Its id.
        flow: Name of the flow or task.
        version: Digest of its definition.
        graph: Digest of its graph.
    """

    __slots__ = ("_jobs", "flow", "graph", "id", "version")

    def __init__(self, jobs: Jobs, record: JobRecord) -> None:
        """Take the app and what it recorded."""
        self._jobs = jobs
        self.id = record.id
        self.flow = record.flow
        self.version = record.version
        self.graph = record.graph

    async def record(self) -> JobRecord:
        """Return all that the ledger says of the job: state, reason, inputs, result, error, times."""
        return await self._jobs.record(self.id)

    async def state(self) -> JobState:
        """Return where the job stands."""
        return (await self.record()).state

    async def result(self) -> Any:
        """Wait until the job has ended, and return what it returned.

        Raises:
            JobCancelledError: It was cancelled.
            Exception: What failed it, as its own class where that is imported here, else as `TaskError`.
        """
        return unwrap(await self._jobs.ended(self.id))

    async def wait(self) -> JobState:
        """Wait until the job has ended, and return its state; raises nothing for a failed job."""
        return (await self._jobs.ended(self.id)).state

    async def nodes(self) -> list[NodeResult]:
        """Return how the nodes ended so far, in the order in which they did."""
        return await self._jobs.node_results(self.id)

    def events(self, after: Cursor | str = START) -> AsyncIterator[Event]:
        """Yield the job's events as they come, from the first one on; ends behind the event `ended`.

        Args:
            after: A cursor (or its written form, such as `"12-0"`) to go on after.

        Raises:
            InvalidCursorError: `after` is no cursor.
        """
        cursor = Cursor.parse(after) if isinstance(after, str) else after
        return self._jobs.read_events(self.id, cursor)

    async def cancel(self) -> JobState:
        """Ask the job to stop, and return the state that it then is in.

        `cancelled` means that nothing of it runs any more (but a plain function in a thread, which cannot be stopped:
        its result is dropped). Another final state means that the job had ended before. `running` means that it still
        stops after two seconds.
        """
        return (await self._jobs.cancel(self.id)).state

    async def approve(self, node: str, answer: Any = True) -> bool:  # noqa: FBT002  any value may be the answer
        """Answer an approval that waits, by its node's path; return whether one waited there."""
        return await self._jobs.approve(self.id, node, answer)

    def __repr__(self) -> str:
        """Return a form that names the job."""
        return f"<job {self.id} of {self.flow}>"


def unwrap(record: JobRecord) -> Any:
    """Return the result of an ended job, or raise what it ended with.

    Raises:
        JobCancelledError: It was cancelled.
        Exception: What failed it.
    """
    if record.state is JobState.SUCCEEDED:
        return record.result
    if record.state is JobState.CANCELLED:
        raise JobCancelledError(f"job {record.id} of {record.flow} was cancelled ({record.reason})")
    if record.error is None:
        raise JobFailedError(f"job {record.id} of {record.flow} failed ({record.reason})")
    raise record.error.to_error()
