"""`Millstream`: the facade. It alone imports adapters, picks them by the settings, and puts the parts together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from millstream.assembly import Process
from millstream.authoring.draw import Drawn, drawing
from millstream.authoring.flow import Flow
from millstream.authoring.registry import Definition, Registry
from millstream.authoring.result import Job
from millstream.authoring.task import Task
from millstream.clock import Clock, SystemClock
from millstream.engine.context import running
from millstream.errors import BlockingCallError, ClosedError, DefinitionError
from millstream.execution.submit import Order
from millstream.home import Home
from millstream.ledger.base import Filter, Ledger
from millstream.model.event import START, TERMINAL, Cursor, Event
from millstream.model.job import JobRecord, JobState, NodeResult, Reason
from millstream.model.policy import revise_policy
from millstream.portal import run_on
from millstream.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

T = TypeVar("T")


class Millstream:
    """An app: tasks and flows, and the engine that runs them.

    It starts on first use, on the event loop that uses it first, and can then be used from any loop and thread. Close
    it with `async with` or `aclose()`. Durable jobs that have not ended stay in the ledger, for any process that knows
    their flow; jobs of durability `off` end with the app.

    While it runs, an app also takes up jobs that wait in its ledger, and those of processes that died, where it knows
    their flows.

    Args:
        imports: Modules whose tasks and flows it knows by name, beside those of the setting `imports`.
        settings: The settings; by default they are read from the environment, `.env` and `config.yaml`.
        clock: The time; tests put a virtual one here.
        executes: Whether it executes jobs. Without, it submits them for other processes, and looks after them.

    Raises:
        SettingsError: A setting is wrong.
        UnknownNameError: There is no module of that name.

    Example:
        >>> import asyncio
        >>> from millstream import flow, task
        >>> @task
        ... def square(x: int) -> int: return x * x
        >>> @flow
        ... def squares(upto: int):
        ...     return square.map(list(range(upto)))
        >>> async def main() -> list[int]:
        ...     async with Millstream() as app:
        ...         job = await app.submit(squares, upto=4)
        ...         return await job.result()
        >>> asyncio.run(main())
        [0, 1, 4, 9]
    """

    def __init__(
        self,
        *,
        imports: Sequence[str] = (),
        settings: Settings | None = None,
        clock: Clock | None = None,
        executes: bool = True,
    ) -> None:
        self.settings = settings or Settings.load()
        self.registry = Registry()
        self._clock = clock or SystemClock()
        self._home = Home(self.settings, self.registry, self._clock, executes=executes)
        for module in (*self.settings.imports, *imports):
            self.registry.load(module)

    @property
    def ledger(self) -> Ledger:
        """The record of this app's jobs, for use on the loop that the app lives on, once it started."""
        return self._home.ledger

    # ------------------------------------------------------------------------------------------------ lifetime
    async def __aenter__(self) -> Self:
        """Start the app on this event loop."""
        await self._home.started()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        """Close the app."""
        await self.aclose()

    async def aclose(self, grace: float = 0.0) -> None:
        """Stop what still runs, and release everything; may be called twice, and before the app was started.

        Durable jobs are handed on: another process, or the next app on this ledger, goes on with them. Jobs of
        durability `off` are cancelled.

        Args:
            grace: Seconds in which what runs may still end here; nothing is begun any more.
        """
        await self._home.close(grace)

    # ------------------------------------------------------------------------------------------- handing work in
    async def submit(
        self,
        work: Definition | str,
        /,
        *args: Any,
        idempotency_key: str | None = None,
        priority: int | None = None,
        expires: float | None = None,
        countdown: float | None = None,
        eta: datetime | None = None,
        connection: Connection | AsyncConnection | None = None,
        **inputs: Any,
    ) -> Job:
        """Submit a flow or task, and return its job without waiting for it.

        Args:
            work: A flow or task, or the name of one that the app knows.
            args: Its inputs by position.
            idempotency_key: A second submit with this key returns the first one's job.
            priority: 0 to 9; of queued jobs, the higher starts first.
            expires: Seconds in which the job must have started, else it fails.
            countdown: Seconds until it may start.
            eta: When it may start, with a time zone; in place of `countdown`.
            connection: An SQLAlchemy connection to the ledger's database, in a transaction: the job is there if and
                only if you commit it. Nothing starts before.
            inputs: Its inputs by name.

        Raises:
            UnknownNameError: The app knows no flow or task of this name.
            InvalidInputError: The inputs do not fit.
            NotSerializableError: The job is durable, and an input cannot be written down.
            DefinitionError: An option is out of range, or does not go with another.
            DrawingError: The flow's body cannot be drawn.
            GraphError: What it drew is not valid.
            IdempotencyConflictError: The key belongs to a job with another flow or other inputs.
            LedgerUnavailableError: The ledger does not answer.
            ClosedError: The app was closed.
        """
        definition = self._definition(work)
        given = {key: value for key, value in (("priority", priority), ("expires", expires)) if value is not None}
        policy = revise_policy(definition.policy, given, where=f"submit of {definition.name}")
        bound = definition.inputs.bind(args, inputs)
        order = Order(
            flow=definition.name,
            version=definition.version,
            inputs=bound,
            drawn=await self._draw(definition, bound),
            durability=(isinstance(definition, Flow) and definition.durability) or self.settings.durability,
            priority=policy.priority,
            starts_at=_start(self._clock.now(), countdown, eta),
            expires=policy.expires,
            idempotency_key=idempotency_key,
        )
        process = await self._home.started()
        if connection is None:
            return Job(self, await run_on(process.loop, process.submit(order)))
        return Job(self, await process.submit_in(connection, order))

    def run(self, work: Definition | str, /, *args: Any, **inputs: Any) -> Any:
        """Submit a flow or task, wait for it, and return its result; blocks. Takes what `submit` takes.

        Raises:
            BlockingCallError: It is called inside a task or flow, or on the event loop that runs the app.
            JobCancelledError: The job was cancelled.
            Exception: What `submit` raises, and whatever failed the job.
        """
        if running.get() is not None or drawing.get() is not None:
            raise BlockingCallError(
                "run() inside a task could wait for itself; make it a node, or await it in an async flow"
            )
        if self._home.is_here():
            raise BlockingCallError("run() would block the loop that runs the app; use `await app.submit(...)`")
        return self._home.door().call(self._run(work, *args, **inputs))

    async def _run(self, work: Definition | str, /, *args: Any, **inputs: Any) -> Any:
        job = await self.submit(work, *args, **inputs)
        try:
            return await job.result()
        except asyncio.CancelledError:
            await asyncio.shield(job.cancel())
            raise

    # ---------------------------------------------------------------------------------------------- looking
    async def job(self, job_id: str) -> Job:
        """Return a job by its id.

        Raises:
            JobNotFoundError: There is none.
        """
        return Job(self, await self.record(job_id))

    async def jobs(
        self,
        *,
        states: Sequence[JobState] = (),
        flow: str | None = None,
        reason: Reason | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[JobRecord]:
        """Return what the ledger says of jobs, the newest first.

        Args:
            states: Only jobs in one of these.
            flow: Only jobs of this flow.
            reason: Only jobs with this reason, such as `poison`.
            created_after: Only jobs submitted at this time or later; with a time zone.
            created_before: Only jobs submitted before this time; with a time zone.
            before: Only jobs older than the one with this id, which is where the last page ended.
            limit: At most this many.
        """
        which = Filter(
            states=tuple(states),
            flow=flow,
            reason=reason,
            created_after=None if created_after is None else created_after.timestamp(),
            created_before=None if created_before is None else created_before.timestamp(),
            before=before,
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

    async def node_results(self, job_id: str) -> list[NodeResult]:
        """Return how the nodes of a job ended so far.

        Raises:
            JobNotFoundError: There is none.
        """
        return await self._home.at(lambda _: self._home.ledger.node_results(job_id))

    async def read_events(self, job_id: str, after: Cursor) -> AsyncIterator[Event]:
        """Yield a job's events after a cursor; ends behind the last one.

        Raises:
            JobNotFoundError: There is no such job.
        """
        await self.record(job_id)
        batches = self._home.log.read(job_id, after)
        is_over = False
        while batch := await self._home.at(lambda _: _next(batches)):
            for event in batch:
                yield event
            is_over = batch[-1].type == TERMINAL
        if not is_over:
            self._check_open(job_id)

    async def recorded(self, job_id: str, after: Cursor = START, limit: int = 1000) -> list[Event]:
        """Return what the ledger has of a job's events after a cursor, at most so many; waits for none to come.

        Raises:
            JobNotFoundError: There is no such job.
        """
        return await self._home.at(lambda _: self._home.ledger.events(job_id, after.seq, limit))

    # ------------------------------------------------------------------------------------------------ acting
    async def cancel(self, job_id: str) -> JobRecord:
        """Ask a job to stop, and return it as it then is; see `Job.cancel`.

        Raises:
            JobNotFoundError: There is none.
        """
        return await self._home.at(lambda process: process.cancels.cancel(job_id))

    async def approve(self, job_id: str, node: str, answer: Any = True) -> bool:  # noqa: FBT002  any value may be it
        """Answer an approval that waits, by its node's path; return whether one waited there."""
        return await self._home.at(lambda process: process.answers.answer(job_id, node, answer))

    async def retry(self, job_id: str, *, from_start: bool = False, once: bool = False) -> Job:
        """Submit a job that has ended once more, and return the new job: the same flow with the same inputs.

        Args:
            job_id: The job that has ended.
            from_start: Run everything again, and do not take over what succeeded.
            once: Refuse a job that was retried before, while the job that came of it is there.

        Raises:
            JobNotFoundError: There is no such job.
            StateTransitionError: It has not ended.
            AlreadyRetriedError: It was to be retried once, and was.
            NotSerializableError: A value's class is not to be found here.
        """

        async def repeat(process: Process) -> JobRecord:
            return await process.repeats.repeat(job_id, from_start=from_start, once=once)

        return Job(self, await self._home.at(repeat))

    async def purge(self, job_ids: Collection[str]) -> list[str]:
        """Forget those of these jobs that have ended, with their results and events, and return their ids."""

        async def forget(_: Process) -> list[str]:
            forgotten = await self._home.ledger.forget(job_ids)
            for job_id in forgotten:
                self._home.log.forget(job_id)
            return forgotten

        return await self._home.at(forget)

    # ------------------------------------------------------------------------------------------------ inside
    def _check_open(self, job_id: str) -> None:
        if self._home.is_closed and job_id not in self._home.ledger.memory:
            raise ClosedError(f"the app was closed before job {job_id} ended; others on its ledger go on with the job")

    def _definition(self, work: Definition | str) -> Definition:
        if isinstance(work, str):
            return self.registry.get(work)
        if not isinstance(work, Task | Flow):
            raise DefinitionError(f"only flows and tasks can be submitted, not {work!r}; put @task or @flow on it")
        return work

    async def _draw(self, definition: Definition, inputs: dict[str, Any]) -> Drawn:
        if not isinstance(definition, Flow):
            return definition.draw(inputs)
        hold = self._clock.hold()
        try:
            return await definition.draw_in_time(inputs, self.settings.draw_timeout, self.settings.max_graph_nodes)
        finally:
            hold.cancel()


async def _next(batches: AsyncIterator[Sequence[Event]]) -> Sequence[Event]:
    """Return the next batch, or an empty one at the end (`anext` with a default cannot wait for a future)."""
    async for batch in batches:
        return batch
    return ()


def _start(now: float, countdown: float | None, eta: datetime | None) -> float | None:
    """Return when a job may start, in seconds since the epoch.

    Raises:
        DefinitionError: Both are given, or one is out of range.
    """
    if countdown is not None:
        if eta is not None:
            raise DefinitionError("give countdown or eta, not both")
        if not 0 <= countdown < float("inf"):
            raise DefinitionError(f"countdown is {countdown!r}, but must be a number of seconds, 0 or more")
        return now + countdown
    if eta is not None and eta.tzinfo is None:
        raise DefinitionError(f"eta is {eta!r}, but must have a time zone, as in datetime.now(UTC)")
    return None if eta is None else eta.timestamp()
