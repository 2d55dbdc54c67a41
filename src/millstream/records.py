"""What an app can tell of its jobs: the half of the facade that only looks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from millstream.assembly import Process
from millstream.errors import ClosedError, JobNotFoundError
from millstream.execution.audience import Audience
from millstream.home import Home
from millstream.ledger.base import Ledger
from millstream.ledger.facts import ENDS, node_result
from millstream.ledger.filter import Filter
from millstream.ledger.presence import Presence
from millstream.ledger.queued import Queued
from millstream.model.event import START, TERMINAL, Cursor, Event
from millstream.model.graph import Graph
from millstream.model.job import JobRecord, JobState, NodeResult, Reason
from millstream.model.task_id import split_task_id

_PAGE = 1000


class Records:
    """Looks up jobs, their events and results; each method works from any event loop.

    Args:
        home: Where the app lives.
    """

    def __init__(self, home: Home) -> None:
        """Look at nothing yet."""
        self._home = home

    @property
    def ledger(self) -> Ledger:
        """The record of this app's jobs, for use on the loop that the app lives on, once it started."""
        return self._home.ledger

    # ---------------------------------------------------------------------------------------------------- jobs
    async def jobs(  # noqa: PLR0913  one for each way of asking
        self,
        *,
        states: Sequence[JobState] = (),
        flow: str | None = None,
        owner: str | None = None,
        reason: Reason | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        before: str | None = None,
        after: str | None = None,
        oldest_first: bool = False,
        limit: int = 100,
    ) -> list[JobRecord]:
        """Return what the ledger says of jobs, the newest first unless it is asked otherwise.

        Args:
            states: Only jobs in one of these.
            flow: Only jobs of this flow.
            owner: Only jobs of the user with this id.
            reason: Only jobs with this reason, such as `poison`.
            created_after: Only jobs submitted at this time or later; with a time zone.
            created_before: Only jobs submitted before this time; with a time zone.
            before: Only jobs older than the one with this id, which is where the last page ended.
            after: Only jobs newer than the one with this id, which is where the last page ended with `oldest_first`.
            oldest_first: Begin with the oldest.
            limit: At most this many.
        """
        which = Filter(
            states=tuple(states),
            flow=flow,
            owner=owner,
            reason=reason,
            created_after=None if created_after is None else created_after.timestamp(),
            created_before=None if created_before is None else created_before.timestamp(),
            before=before,
            after=after,
            oldest_first=oldest_first,
            limit=limit,
        )
        return await self._home.at(lambda _: self._home.ledger.find(which))

    async def record(self, job_id: str) -> JobRecord:
        """Return what the ledger says of a job.

        Raises:
            JobNotFoundError: There is none.
        """
        return await self._home.at(lambda _: self._home.ledger.get(job_id))

    async def ended(self, job_id: str) -> JobRecord:
        """Wait until a job has ended, and return what the ledger then says.

        Raises:
            JobNotFoundError: There is none.
        """

        async def wait(_: Process) -> JobRecord:
            record = await self._home.ledger.get(job_id)
            if record.state.is_final:
                return record
            await self._home.log.wait_end(job_id)
            self._check_open(job_id)
            return await self._home.ledger.get(job_id)

        return await self._home.at(wait)

    async def graph(self, job_id: str) -> tuple[Graph, Sequence[Any]]:
        """Return a job's graph, and the values of its slots.

        Raises:
            JobNotFoundError: There is none.
        """
        stored = await self._home.at(lambda _: self._home.ledger.graph(job_id))
        return stored.graph, stored.bindings

    async def task_ids(self, job_id: str) -> dict[str, str]:
        """Return the task ids of one's own that a job's nodes were given, by node.

        Raises:
            JobNotFoundError: There is no such job.
        """
        stored = await self._home.at(lambda _: self._home.ledger.graph(job_id))
        return {node: name for name, node in stored.aliases.items()}

    async def is_left_running(self, job_id: str) -> bool:
        """Return whether a plain function of a job that was cancelled is still in its thread, in this process."""

        async def look(process: Process) -> bool:
            return process.segments.is_left_running(job_id)

        return await self._home.at(look)

    async def audience(self) -> Audience:
        """Return who looks at interactive jobs here, for use on the loop that the app lives on."""

        async def find(process: Process) -> Audience:
            return process.audience

        return await self._home.at(find)

    async def job_queue(self) -> dict[str, Any]:
        """Return how many jobs run here, and with Redis what else this process does just now."""

        async def count(process: Process) -> dict[str, Any]:
            return process.carrier.figures()

        return await self._home.at(count)

    async def job_queues(self) -> list[dict[str, Any]]:
        """Return the same of each process that lives, with its id, host and pid; opens the ledger.

        Raises:
            LedgerUnavailableError: It cannot be reached.
            WorkflowServiceUnavailableError: Redis is away, where the processes use it.
        """

        async def ask(process: Process) -> list[dict[str, Any]]:
            await process.share()
            return await process.carrier.fleet()

        return await self._home.at(ask)

    async def processes(self) -> list[Presence]:
        """Return the processes that share the ledger, the oldest first; opens it, whatever `durability` says.

        Raises:
            LedgerUnavailableError: It cannot be reached.
        """

        async def ask(process: Process) -> list[Presence]:
            return await (await process.share()).processes()

        return await self._home.at(ask)

    async def queued(self, most: int = _PAGE) -> list[Queued]:
        """Return the segments that may be claimed now, at most so many of each flow in each queue; as `processes`.

        Raises:
            LedgerUnavailableError: It cannot be reached.
        """

        async def ask(process: Process) -> list[Queued]:
            return await (await process.share()).waiting(most)

        return await self._home.at(ask)

    async def is_broker_away(self) -> bool:
        """Return whether what is handed in waits for a broker that is away."""

        async def look(process: Process) -> bool:
            return process.is_broker_away

        return await self._home.at(look)

    async def is_event_log_away(self) -> bool:
        """Return whether events reach other processes by the ledger alone, since what should carry them is away."""

        async def look(process: Process) -> bool:
            return process.is_event_log_away

        return await self._home.at(look)

    # ---------------------------------------------------------------------------------------------------- nodes
    async def locate(self, task_id: str) -> tuple[str, str | None] | None:
        """Return the job and node that a task id names, as (job id, path); `None` where no job is known under it.

        Args:
            task_id: `<job id>.<node>`; a job's id, which stands for what the job returns, and has no node; or, where
                it is neither, an alias (`task_id=...` of a submission).
        """

        async def find(_: Process) -> tuple[str, str | None] | None:
            ledger = self._home.ledger
            job_id, node = split_task_id(task_id) or (task_id, None)
            try:
                await ledger.get(job_id)
            except JobNotFoundError:
                alias = await ledger.alias(task_id)
                return alias and (alias[0], alias[1] or None)
            return job_id, node

        return await self._home.at(find)

    async def node_result(self, job_id: str, node: str) -> NodeResult | None:
        """Return how one node of a job ended, with its whole value; `None` where it has not.

        Raises:
            JobNotFoundError: There is no such job.
        """
        return await self._home.at(lambda _: self._home.ledger.node_result(job_id, node))

    async def node_results(self, job_id: str) -> list[NodeResult]:
        """Return how the nodes of a job ended so far, with their values as they are shown.

        Raises:
            JobNotFoundError: There is none.
        """
        return await self._home.at(lambda _: self._home.ledger.node_results(job_id))

    async def outcomes(self, job_id: str) -> dict[str, NodeResult]:
        """Return how the nodes of a job ended so far, by their paths, each with its whole value; one read for all.

        Raises:
            JobNotFoundError: There is none.
        """
        events = await self._home.at(lambda _: self._home.ledger.history(job_id))
        return {
            event.node: node_result(ENDS[event.type], event.node, event.data)
            for event in events
            if event.type in ENDS and event.node is not None
        }

    # --------------------------------------------------------------------------------------------------- events
    async def read_events(self, job_id: str, after: Cursor) -> AsyncGenerator[Event, None]:
        """Yield a job's events after a cursor; ends behind the last one.

        Raises:
            JobNotFoundError: There is no such job.
        """
        async for batch in self.read_batches(job_id, after):
            for event in batch:
                yield event

    async def read_batches(self, job_id: str, after: Cursor) -> AsyncGenerator[Sequence[Event], None]:
        """Yield a job's events after a cursor, those together that are there together; ends behind the last one.

        Raises:
            JobNotFoundError: There is no such job.
        """
        if not (self._home.log.head(job_id) or self._home.log.is_whole(job_id)):
            await self.record(job_id)
        batches = self._home.log.read(job_id, after)
        is_over = False
        while batch := await (_next(batches) if self._home.is_here() else self._home.at(lambda _: _next(batches))):
            yield batch
            is_over = batch[-1].type == TERMINAL
        if not is_over:
            self._check_open(job_id)

    async def recorded(self, job_id: str, after: Cursor = START, limit: int = _PAGE) -> list[Event]:
        """Return what the ledger has of a job's events after a cursor, at most so many; waits for none to come.

        Raises:
            JobNotFoundError: There is no such job.
        """
        return await self._home.at(lambda _: self._home.ledger.events(job_id, after.seq, limit))

    async def data(self, job_id: str, seq: int) -> Any:
        """Return the data of a durable event with every value whole, as `recorded` and `known` need not have it.

        Raises:
            JobNotFoundError: There is no such job.
        """
        event = await self._home.at(lambda _: self._home.ledger.event(job_id, seq))
        return event.data

    async def known(self, job_id: str, after: Cursor) -> list[Event]:
        """Return what is known by now of a job's events after a cursor; waits for none to come.

        Volatile ones are among them where the job runs here, or Redis carries the events.

        Raises:
            JobNotFoundError: There is no such job.
        """
        return await self._home.at(lambda process: self._known(process, job_id, after))

    async def _known(self, process: Process, job_id: str, after: Cursor) -> list[Event]:
        # Jobs in memory are never carried; an app for tests has no others, and nothing that carries.
        transport = None if job_id in self._home.ledger.memory else process.carrier.transport
        if transport is None and process.segments.is_running(job_id):
            return list(self._home.log.peek(job_id, after))
        passing = [] if transport is None else await transport.reading.passing(job_id, after)
        found: list[Event] = []
        while page := await self._home.ledger.events(job_id, after.seq, _PAGE):
            found += page
            if len(page) < _PAGE:
                break
            after = page[-1].cursor
        return sorted(found + passing, key=lambda event: event.cursor) if passing else found

    def _check_open(self, job_id: str) -> None:
        if (self._home.is_closed or self._home.process is None) and job_id not in self._home.ledger.memory:
            raise ClosedError(f"the app was closed before job {job_id} ended; others on its ledger go on with the job")


async def _next(batches: AsyncIterator[Sequence[Event]]) -> Sequence[Event]:
    """Return the next batch, or an empty one at the end (`anext` with a default cannot wait for a future)."""
    async for batch in batches:
        return batch
    return ()
