"""`Millstream`: the facade. It alone imports adapters, picks them by the settings, and puts the parts together."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from millstream.authoring.draw import Drawn, drawing
from millstream.authoring.flow import Flow
from millstream.authoring.registry import Definition, Registry
from millstream.authoring.result import Job
from millstream.authoring.task import Task
from millstream.backends.anyio import AnyIOBackend
from millstream.backends.base import TaskBackend
from millstream.clock import Clock, SystemClock, new_id
from millstream.engine.cache import MemoryCache
from millstream.engine.context import loading_main, running
from millstream.engine.processes import ProcessPool
from millstream.engine.services import Programs, Services
from millstream.engine.threads import ThreadPool
from millstream.errors import BlockingCallError, ClosedError, DefinitionError
from millstream.events.base import EventLog
from millstream.events.memory import MemoryEventLog
from millstream.execution.cancel import Cancels
from millstream.execution.segment import Segments
from millstream.execution.submit import Order, Submitter
from millstream.ledger.base import Filter, Ledger
from millstream.ledger.memory import MemoryLedger
from millstream.model.event import Cursor, Event
from millstream.model.job import JobRecord, JobState, NodeResult
from millstream.model.policy import revise_policy
from millstream.portal import Portal, run_on, running_loop
from millstream.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Process:
    """The running parts on one event loop.

    Attributes:
        loop: The loop that they live on.
        backend: Where segments execute.
        segments: What executes them.
        services: What all runs share.
        submitter: Hands jobs in.
        cancels: Cancels jobs.
    """

    loop: asyncio.AbstractEventLoop
    backend: TaskBackend
    segments: Segments
    services: Services
    submitter: Submitter
    cancels: Cancels

    async def stop(self) -> None:
        """Cancel what runs, and release threads and processes."""
        await self.backend.stop()
        self.services.threads.close()
        await self.services.processes.close()


class Millstream:
    """An app: tasks and flows, and the engine that runs them.

    It starts on first use, on the event loop that uses it first, and can then be used from any loop and thread. Close
    it with `async with` or `aclose()`; what still runs is then cancelled.

    Args:
        imports: Modules whose tasks and flows it knows by name, beside those of the setting `imports`.
        settings: The settings; by default they are read from the environment, `.env` and `config.yaml`.
        clock: The time; tests put a virtual one here.

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
        self, *, imports: Sequence[str] = (), settings: Settings | None = None, clock: Clock | None = None
    ) -> None:
        self.settings = settings or Settings.load()
        self.registry = Registry()
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._is_closed = False
        self._pid = os.getpid()
        self._ledger: Ledger = MemoryLedger(self._clock)
        self._log: EventLog = MemoryEventLog()
        self._process: _Process | None = None
        self._portal: Portal | None = None
        for module in (*self.settings.imports, *imports):
            self.registry.load(module)

    # ------------------------------------------------------------------------------------------------ lifetime
    async def __aenter__(self) -> Self:
        """Start the app on this event loop."""
        await self._started()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        """Close the app."""
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel what still runs, and release everything; may be called twice, and before the app was started."""
        self._is_closed = True
        process, self._process = self._process, None
        if process is not None and process.loop.is_running():
            await run_on(process.loop, process.stop())
        portal, self._portal = self._portal, None
        if portal is not None:
            await asyncio.to_thread(portal.stop)

    # ------------------------------------------------------------------------------------------- handing work in
    async def submit(
        self,
        work: Definition | str,
        /,
        *args: Any,
        idempotency_key: str | None = None,
        priority: int | None = None,
        expires: float | None = None,
        **inputs: Any,
    ) -> Job:
        """Submit a flow or task, and return its job without waiting for it.

        Args:
            work: A flow or task, or the name of one that the app knows.
            args: Its inputs by position.
            idempotency_key: A second submit with this key returns the first one's job.
            priority: 0 to 9; of queued jobs, the higher starts first.
            expires: Seconds in which the job must have started, else it fails.
            inputs: Its inputs by name.

        Raises:
            UnknownNameError: The app knows no flow or task of this name.
            InvalidInputError: The inputs do not fit.
            DefinitionError: `priority` or `expires` is out of range.
            DrawingError: The flow's body cannot be drawn.
            GraphError: What it drew is not valid.
            IdempotencyConflictError: The key belongs to a job with another flow or other inputs.
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
            priority=policy.priority,
            expires=policy.expires,
            idempotency_key=idempotency_key,
        )
        record = await self._at_home(lambda process: process.submitter.submit(order))
        return Job(self, record)

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
        process = self._process
        if process is not None and running_loop() is process.loop:
            raise BlockingCallError("run() would block the loop that runs the app; use `await app.submit(...)`")
        return self._door().call(self._run(work, *args, **inputs))

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
        self, *, states: Sequence[JobState] = (), flow: str | None = None, limit: int = 100
    ) -> list[JobRecord]:
        """Return what the ledger says of jobs, the newest first.

        Args:
            states: Only jobs in one of these.
            flow: Only jobs of this flow.
            limit: At most this many.
        """
        which = Filter(states=tuple(states), flow=flow, limit=limit)
        return await self._at_home(lambda _: self._ledger.find(which))

    async def record(self, job_id: str) -> JobRecord:
        """Return what the ledger says of a job.

        Raises:
            JobNotFoundError: There is none.
        """
        return await self._at_home(lambda _: self._ledger.get(job_id))

    async def ended(self, job_id: str) -> JobRecord:
        """Wait until a job has ended, and return what the ledger then says.

        Raises:
            JobNotFoundError: There is none.
        """

        async def wait(_: _Process) -> JobRecord:
            record = await self._ledger.get(job_id)
            if record.state.is_final:
                return record
            await self._log.wait_end(job_id)
            return await self._ledger.get(job_id)

        return await self._at_home(wait)

    async def node_results(self, job_id: str) -> list[NodeResult]:
        """Return how the nodes of a job ended so far.

        Raises:
            JobNotFoundError: There is none.
        """
        return await self._at_home(lambda _: self._ledger.node_results(job_id))

    async def read_events(self, job_id: str, after: Cursor) -> AsyncIterator[Event]:
        """Yield a job's events after a cursor; ends behind the last one.

        Raises:
            JobNotFoundError: There is no such job.
        """
        await self.record(job_id)
        batches = self._log.read(job_id, after)
        while True:
            batch = await self._at_home(lambda _: _next(batches))
            if not batch:
                return
            for event in batch:
                yield event

    # ------------------------------------------------------------------------------------------------ acting
    async def cancel(self, job_id: str) -> JobRecord:
        """Ask a job to stop, and return it as it then is; see `Job.cancel`.

        Raises:
            JobNotFoundError: There is none.
        """
        return await self._at_home(lambda process: process.cancels.cancel(job_id))

    async def approve(self, job_id: str, node: str, answer: Any = True) -> bool:  # noqa: FBT002  any value may be it
        """Answer an approval that waits, by its node's path; return whether one waited there."""

        async def give(process: _Process) -> bool:
            return process.segments.answer(job_id, node, answer)

        return await self._at_home(give)

    # ------------------------------------------------------------------------------------------------ inside
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

    async def _at_home(self, act: Callable[[_Process], Coroutine[Any, Any, T]]) -> T:
        """Do something on the loop that the app lives on, wherever the caller is."""
        process = await self._started()
        return await run_on(process.loop, act(process))

    async def _started(self) -> _Process:
        """Return the running parts; those of a loop that is gone are made anew on this one."""
        if loading_main.get():
            raise DefinitionError(
                "this file starts work when it is imported, and so its processes would start it again; "
                'put the start under `if __name__ == "__main__":`'
            )
        with self._lock:
            if self._is_closed:
                raise ClosedError("this app was closed; make a new one")
            self._leave_parent()
            former = self._process
            if former is not None and former.loop.is_running():
                return former
            if former is not None and not former.loop.is_closed():
                raise BlockingCallError(
                    "this app lives on an event loop that is paused; let that loop run, or use another Millstream here"
                )
            process = self._process = self._assemble()
        if former is not None:
            await former.backend.stop()
        await process.backend.start()
        return process

    def _leave_parent(self) -> None:
        """Start with nothing in a forked child, where threads and loops of the parent do not run."""
        if self._pid != os.getpid():
            self._pid, self._process, self._portal = os.getpid(), None, None
            self._ledger, self._log = MemoryLedger(self._clock), MemoryEventLog()

    def _assemble(self) -> _Process:
        """Put the parts together. Adapters are chosen here and nowhere else."""
        process_id, settings = f"{os.getpid()}-{new_id()}", self.settings
        services = Services(
            clock=self._clock,
            threads=ThreadPool(settings.max_threads, self._clock),
            processes=ProcessPool(settings.max_processes or os.cpu_count() or 1, self._clock),
            cache=MemoryCache(),
            programs=Programs(),
        )
        segments = Segments(self._ledger, self._log, services)
        backend = AnyIOBackend(process_id, self._ledger, segments, settings.max_segments)
        return _Process(
            loop=asyncio.get_running_loop(),
            backend=backend,
            segments=segments,
            services=services,
            submitter=Submitter(process_id, self._ledger, self._log, self._clock, segments, backend),
            cancels=Cancels(self._ledger, self._log, self._clock, backend, segments),
        )

    def _door(self) -> Portal:
        with self._lock:
            if self._is_closed:
                raise ClosedError("this app was closed; make a new one")
            self._leave_parent()
            if self._portal is None or not self._portal.is_running:
                self._portal = Portal()
                self._portal.on_stop(self._stop_on_portal)
            return self._portal

    async def _stop_on_portal(self) -> None:
        process = self._process
        if process is not None and process.loop is asyncio.get_running_loop():
            self._process = None
            await process.stop()


async def _next(batches: AsyncIterator[Sequence[Event]]) -> Sequence[Event]:
    """Return the next batch, or an empty one at the end (`anext` with a default cannot wait for a future)."""
    async for batch in batches:
        return batch
    return ()
